import { Option } from 'commander'
import { HypvaError } from '../errors.js'
import { FIELDS, type Field, type FieldKind, type FieldName, LAYOUT_FIELDS, MACHINE_FIELDS } from '../layout/fields.js'
import { generationOf } from '../layout/generations.js'
import { parseMachine } from '../layout/json.js'
import { MACHINE_FORMAT } from '../layout/schema.js'
import type { HypLayout, Machine } from '../layout/types.js'
import type { Range } from '../u64.js'
import { Failure } from './failure.js'
import { inFile, readText } from './io/text.js'
import { toJson } from './printable.js'
import { PAGE_SIZES, parseBits, parseRange, parseWord } from './values.js'

/** What the help shows in place of a value, and what reads the value; choices and versions are text. */
const VALUES: Readonly<
  Record<FieldKind['type'], readonly [string, parse?: (text: string, previous?: Range[]) => unknown]>
> = {
  word: [' <value>', (text) => parseWord(text)],
  range: [' <start-end>', parseRange],
  ranges: [' <start-end>', (text, previous = []) => [...previous, parseRange(text)]],
  bits: [' <bits>', parseBits],
  choice: [' <name>'],
  pageSize: [' <size>'],
  boolean: [''],
  version: [' <version>'],
}

/** `-m, --machine FILE`, and a flag for each field of a machine. */
export function machineOptions(): Option[] {
  const flags = MACHINE_FIELDS.flatMap((name) => {
    const { machineDefault } = FIELDS[name]
    return fieldOption(name, machineDefault === undefined ? '' : ` (default: ${machineDefault})`)
  })
  return [new Option('-m, --machine <file>', 'machine JSON (- is stdin)'), ...flags]
}

/** The machine that file and flags describe together. */
export function readMachine(options: Record<string, unknown> & { machine?: string }): Machine {
  // As a machine file would hold them.
  const flags = JSON.parse(toJson(givenFields(options, MACHINE_FIELDS)))
  // One of the two says which algorithm: the flag, when there is one.
  const replaces = 'kernel' in flags ? ['generation'] : 'generation' in flags ? ['kernel'] : []
  const { machine: file } = options
  if (file === undefined) return withFlag(() => parseMachine(JSON.stringify({ format: MACHINE_FORMAT }), flags))
  return inFile(file, () => parseMachine(readText(file), flags, replaces))
}

/** Whoever describes a machine by flags is told which of them an error is about. */
function withFlag<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof HypvaError) || error.field === undefined) throw error
    throw new Failure(`${error.message} (${flagOf(error.field)})`)
  }
}

/** A flag for each field of a layout, and --kernel for its generation. */
export function layoutFieldOptions(): Option[] {
  const kernel = fieldOption('kernel').map((option) => option.conflicts('generation'))
  return [...kernel, ...LAYOUT_FIELDS.flatMap((name) => fieldOption(name))]
}

/** The fields of a layout that flags give. */
export function givenLayout({ kernel, ...options }: Record<string, unknown>): Partial<HypLayout> {
  const generation = kernel === undefined ? {} : { generation: generationOf(kernel as string) }
  return { ...generation, ...givenFields(options, LAYOUT_FIELDS) }
}

/** The flag of a field: `--kimage-voffset`. */
export function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

function fieldOption(name: FieldName, more = ''): Option[] {
  const { kind, help }: Field = FIELDS[name]
  if (help === undefined) return []
  const flag = kind.type === 'boolean' ? flagOf(name).replace('--', '--no-') : flagOf(name)
  const [placeholder, parse] = VALUES[kind.type]
  const option = new Option(`${flag}${placeholder}`, `${help}${more}`)
  if (kind.type === 'choice') option.choices(kind.names)
  else if (kind.type === 'pageSize') option.choices(Object.keys(PAGE_SIZES))
  else if (parse !== undefined) option.argParser<unknown>(parse as (text: string) => unknown)
  return [option]
}

function givenFields(options: Record<string, unknown>, names: readonly FieldName[]): object {
  const given = names.flatMap((name) => {
    const value = options[name]
    // Commander gives every --no-X a default of true; only the flag itself says something.
    if (value === undefined || (FIELDS[name].kind.type === 'boolean' && value === true)) return []
    return [[name, FIELDS[name].kind.type === 'pageSize' ? PAGE_SIZES[value as string] : value]]
  })
  return Object.fromEntries(given)
}
