import { HypvaError, type HypvaErrorCode, HypvaTypeError } from '../errors.js'
import { describe, formatU64 } from '../u64.js'
import { jsonErrorOf } from './json-syntax.js'
import { LAYOUT_FORMAT } from './schema.js'
import type { HypLayout, Machine } from './types.js'
import { layoutOf, machineOf } from './validate.js'

/**
 * A layout out of JSON text (format hypva-layout/1).
 * @throws HypvaError `HYPVA_LAYOUT` with line and column for text that is no JSON, else with the field
 */
export function parseLayout(text: string): HypLayout {
  return validateLayout(parseJson(text, 'layout', 'HYPVA_LAYOUT'))
}

/**
 * A machine description out of JSON text (format hypva-machine/1).
 * @param overrides fields, in the JSON's own form, that take the place of the text's; the whole is then checked
 * @param dropped fields of the text to leave out
 * @throws HypvaError `HYPVA_MACHINE` with line and column or the field; `HYPVA_KERNEL_VERSION`
 */
export function parseMachine(
  text: string,
  overrides: Readonly<Record<string, unknown>> = {},
  dropped: readonly string[] = [],
): Machine {
  const value = parseJson(text, 'machine', 'HYPVA_MACHINE')
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return validateMachine(value)
  const kept = Object.entries(value).filter(([field]) => !dropped.includes(field))
  return validateMachine({ ...Object.fromEntries(kept), ...overrides })
}

/**
 * A layout out of an already parsed value, 64-bit values in it as hex strings.
 * @throws HypvaError `HYPVA_LAYOUT` naming the field, what was expected there and what stood there
 */
export function validateLayout(value: unknown): HypLayout {
  return layoutOf(value, 'hex')
}

/**
 * A machine description out of an already parsed value, 64-bit values in it as hex strings.
 * @throws HypvaError `HYPVA_MACHINE` naming the field; `HYPVA_KERNEL_VERSION`
 */
export function validateMachine(value: unknown): Machine {
  return machineOf(value, 'hex')
}

/**
 * Checks a layout that a library user built, 64-bit values in it as bigints: fields of the right type and range, and no two
 * of them in contradiction.
 * @throws HypvaError `HYPVA_LAYOUT` naming the field; HypvaTypeError or HypvaRangeError where a 64-bit bigint belongs
 */
export function checkLayout(layout: HypLayout): void {
  layoutOf(layout, 'bigint')
}

/**
 * The same for a machine description.
 * @throws HypvaError `HYPVA_MACHINE` naming the field, `HYPVA_KERNEL_VERSION`; HypvaTypeError or HypvaRangeError where a
 *   64-bit bigint belongs
 */
export function checkMachine(machine: Machine): void {
  machineOf(machine, 'bigint')
}

/** The fields of a layout, in the order in which its JSON has them. */
export const LAYOUT_FIELDS = [
  'generation',
  'proposal',
  'mode',
  'pageSize',
  'vaBits',
  'vaBitsActual',
  'hypVaBits',
  'tagLsb',
  'tagVal',
  'tag',
  'vaMask',
  'pageOffset',
  'physOffset',
  'dram',
  'idmap',
  'image',
  'kimageVoffset',
  'kaslrOffset',
  'hypPhysvirtOffset',
] as const satisfies readonly (keyof HypLayout)[]

/**
 * JSON text of a layout: fields in a fixed order, indented by two, a newline at the end.
 * @throws as checkLayout does
 */
export function formatLayout(layout: HypLayout): string {
  return formatLayoutFields(layoutOf(layout, 'bigint'))
}

/** The same for what is known of a layout, complete or not. */
export function formatLayoutFields(layout: HypLayout): string {
  const fields: Record<string, unknown> = { format: LAYOUT_FORMAT }
  for (const field of LAYOUT_FIELDS) fields[field] = layout[field]
  const hex = (_: string, value: unknown) => (typeof value === 'bigint' ? formatU64(value) : value)
  return `${JSON.stringify(fields, hex, 2)}\n`
}

function parseJson(text: unknown, what: string, code: HypvaErrorCode): unknown {
  if (typeof text !== 'string') {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `${what}: expected JSON text, got ${describe(text)}`)
  }
  try {
    return JSON.parse(text)
  } catch {
    const { line, column, reason } = jsonErrorOf(text)
    throw new HypvaError(code, `${what}: not JSON: line ${line}, column ${column}: ${reason}`)
  }
}
