import * as v from 'valibot'
import { describe, U64_MAX } from '../u64.js'
import { GENERATIONS } from './generations.js'
import { MODES, PROPOSALS } from './types.js'

/** How 64-bit values stand in a value: bigints in objects, quoted hex in JSON. */
export type WordForm = 'bigint' | 'hex'

/** What an issue about a bigint says it expected: it becomes a TypeError or a RangeError. */
export const U64 = 'u64'

export const LAYOUT_FORMAT = 'hypva-layout/1'
export const MACHINE_FORMAT = 'hypva-machine/1'

/** The shape of a layout: types of fields and ranges of numbers, no relations between fields. */
export function layoutSchema(form: WordForm) {
  const word = wordSchema(form, U64_MAX)
  return v.strictObject({
    ...formatEntry(form, LAYOUT_FORMAT),
    generation: v.optional(oneOf(GENERATIONS)),
    proposal: v.optional(oneOf(PROPOSALS)),
    mode: v.optional(oneOf(MODES)),
    pageSize: v.optional(pageSize()),
    vaBits: v.optional(integer(36, 52)),
    vaBitsActual: v.optional(integer(36, 52)),
    hypVaBits: v.optional(integer(36, 52)),
    tagLsb: v.optional(integer(1, 63)),
    tagVal: v.optional(word),
    tag: v.optional(word),
    vaMask: v.optional(word),
    pageOffset: v.optional(word),
    physOffset: v.optional(word),
    dram: v.optional(ranges(form)),
    idmap: v.optional(word),
    image: v.optional(range(form)),
    kimageVoffset: v.optional(word),
    kaslrOffset: v.optional(word),
    hypPhysvirtOffset: v.optional(word),
  })
}

/** The shape of a machine description. */
export function machineSchema(form: WordForm) {
  const word = wordSchema(form, U64_MAX)
  return v.strictObject({
    ...formatEntry(form, MACHINE_FORMAT),
    kernel: v.optional(v.string(expected('a kernel version like "6.12"'))),
    generation: v.optional(oneOf(GENERATIONS)),
    mode: v.optional(oneOf(MODES)),
    pageSize: pageSize(),
    vaBits: integer(36, 52),
    vaBitsActual: v.optional(integer(36, 52)),
    randomizeBase: v.optional(v.boolean(expected('true or false'))),
    dram: ranges(form),
    idmap: word,
    physOffset: v.optional(word),
    image: v.optional(range(form)),
    kimageVoffset: v.optional(word),
    kaslrOffset: v.optional(word),
    random: v.optional(word),
    tagVal: v.optional(word),
  })
}

function formatEntry(form: WordForm, name: string) {
  const literal = v.literal(name, expected(`"${name}"`))
  // An object in memory needs no label; JSON text must say what it is.
  return form === 'hex' ? { format: literal } : ({} as Record<string, v.OptionalSchema<typeof literal, undefined>>)
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

function oneOf<const T extends readonly string[]>(names: T) {
  return v.picklist(names, expected(`one of ${names.map((name) => `"${name}"`).join(', ')}`))
}

function pageSize() {
  return v.picklist([4096, 16384, 65536], expected('4096, 16384 or 65536'))
}

function integer(low: number, high: number) {
  const message = expected(`an integer from ${low} to ${high}`)
  return v.pipe(v.number(message), v.integer(message), v.minValue(low, message), v.maxValue(high, message))
}

function expected(what: string) {
  return (issue: v.BaseIssue<unknown>) => `expected ${what}, got ${describe(issue.input)}`
}

/** A longer value is refused without a look at all of it. */
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
