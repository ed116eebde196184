import * as v from 'valibot'
import { describe, U64_MAX } from '../u64.js'
import { FIELDS, type FieldKind, type FieldName, LAYOUT_FIELDS, MACHINE_FIELDS } from './fields.js'

/** The form of 64-bit values: bigints in objects, quoted hex in JSON. */
export type WordForm = 'bigint' | 'hex'

/** Marks an issue about a bigint, which becomes a TypeError or a RangeError. */
export const U64 = 'u64'

export const LAYOUT_FORMAT = 'hypva-layout/1'
export const MACHINE_FORMAT = 'hypva-machine/1'

/** The shape of a layout: types of fields and ranges of numbers, no relations between fields. */
export function layoutSchema(form: WordForm): v.GenericSchema {
  return objectSchema(form, LAYOUT_FORMAT, LAYOUT_FIELDS, () => false)
}

/** The shape of a machine description. */
export function machineSchema(form: WordForm): v.GenericSchema {
  return objectSchema(form, MACHINE_FORMAT, MACHINE_FIELDS, (name) => FIELDS[name].machine === 'required')
}

function objectSchema<Name extends FieldName>(
  form: WordForm,
  format: string,
  names: readonly Name[],
  isRequired: (name: Name) => boolean,
): v.GenericSchema {
  const entries: Record<string, v.GenericSchema> = {}
  // An object in memory needs no label; JSON text must say what it is.
  if (form === 'hex') entries.format = v.literal(format, expected(`"${format}"`))
  for (const name of names) {
    const schema = schemaOf(FIELDS[name].kind, form)
    entries[name] = isRequired(name) ? schema : v.optional(schema)
  }
  return v.strictObject(entries)
}

function schemaOf(kind: FieldKind, form: WordForm): v.GenericSchema {
  switch (kind.type) {
    case 'word':
      return wordSchema(form, U64_MAX)
    case 'range':
      return range(form)
    case 'ranges':
      return ranges(form)
    case 'bits':
      return integer(kind.low, kind.high)
    case 'choice':
      return v.picklist(kind.names, expected(`one of ${kind.names.map((name) => `"${name}"`).join(', ')}`))
    case 'pageSize':
      return v.picklist([4096, 16384, 65536], expected('4096, 16384 or 65536'))
    case 'boolean':
      return v.boolean(expected('true or false'))
    case 'version':
      return v.string(expected('a kernel version like "6.12"'))
  }
}

/** memblock begins with room for 128 regions; no machine has more than a few hundred banks. */
const MOST_RANGES = 4096

function ranges(form: WordForm) {
  return v.pipe(
    v.array(range(form), expected('an array of ranges {"start", "end"}')),
    v.maxLength(MOST_RANGES, (issue) => `expected at most ${MOST_RANGES} ranges, got ${issue.received}`),
  )
}

/** `end` may be 2^64: that is how a range reaches the last address. */
function range(form: WordForm) {
  return v.strictObject({ start: wordSchema(form, U64_MAX), end: wordSchema(form, U64_MAX + 1n) })
}

function integer(low: number, high: number) {
  const message = expected(`an integer from ${low} to ${high}`)
  return v.pipe(v.number(message), v.integer(message), v.minValue(low, message), v.maxValue(high, message))
}

function expected(what: string) {
  return (issue: v.BaseIssue<unknown>) => `expected ${what}, got ${describe(issue.input)}`
}

/** hypva refuses a longer value without reading all of it. */
const MOST_DIGITS = 80

/** A 64-bit value of the given form, at most `max`; the output is a bigint. */
function wordSchema(form: WordForm, max: bigint) {
  return v.pipe(
    v.unknown(),
    v.rawTransform<unknown, bigint>(({ dataset, addIssue, NEVER }) => {
      const { value } = dataset
      if (form === 'bigint') {
        if (typeof value === 'bigint' && value >= 0n && value <= max) return value
        addIssue({ message: `expected a bigint from 0 to 2^64 - 1, got ${describe(value)}`, expected: U64 })
        return NEVER
      }
      if (typeof value === 'string' && /^0[xX][0-9a-fA-F]+$/.test(value.slice(0, MOST_DIGITS + 1))) {
        const number = value.length <= MOST_DIGITS ? BigInt(value) : undefined
        if (number !== undefined && number <= max) return number
        addIssue({ message: `${describe(value)} needs more than 64 bits` })
        return NEVER
      }
      const why = typeof value === 'number' ? ': quote it, JSON numbers lose precision above 2^53' : ''
      addIssue({ message: `expected a hex string like "0x40000000", got ${describe(value)}${why}` })
      return NEVER
    }),
  )
}
