import { HypvaError, type HypvaErrorCode, HypvaTypeError } from '../errors.js'
import { describe, formatU64 } from '../u64.js'
import { LAYOUT_FIELDS } from './fields.js'
import { LAYOUT_FORMAT } from './schema.js'
import type { HypLayout, Machine } from './types.js'
import { layoutOf, machineOf } from './validate.js'

/**
 * A layout out of JSON text (format hypva-layout/1).
 * @throws HypvaError `HYPVA_LAYOUT` with line and column for text that is no JSON, else with the field
 * @example
 * parseLayout('{"format":"hypva-layout/1","tagLsb":31,"tagVal":"0x11367"}').tagVal // 0x11367n
 */
export function parseLayout(text: string): HypLayout {
  return layoutOf(parseJson(text, 'layout', 'HYPVA_LAYOUT'), 'hex')
}

/**
 * A machine description out of JSON text (format hypva-machine/1).
 * @param overrides fields, in the JSON's own form, that take the place of the text's; the whole is then checked
 * @param dropped fields of the text to leave out
 * @throws HypvaError `HYPVA_MACHINE` with line and column or the field; `HYPVA_KERNEL_VERSION`
 * @example
 * parseMachine(machineText).dram // [{ start: 0x40000000n, end: 0xc0000000n }]
 */
export function parseMachine(
  text: string,
  overrides: Readonly<Record<string, unknown>> = {},
  dropped: readonly string[] = [],
): Machine {
  const value = parseJson(text, 'machine', 'HYPVA_MACHINE')
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return machineOf(value, 'hex')
  const kept = Object.entries(value).filter(([field]) => !dropped.includes(field))
  return machineOf({ ...Object.fromEntries(kept), ...overrides }, 'hex')
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
 * JSON text of a layout: fields in a fixed order, indented by two, a newline at the end.
 * @throws as checkLayout does
 * @example
 * formatLayout(parseLayout(layoutText)) // layoutText
 */
export function formatLayout(layout: HypLayout): string {
  return formatLayoutFields(layoutOf(layout, 'bigint'))
}

/** The same for the known fields of a layout that may be incomplete. */
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
  } catch (error) {
    throw new HypvaError(code, `${what}: not JSON: ${syntaxError(text, (error as Error).message)}`)
  }
}

/** The engine's message about broken JSON on one line, with line and column. */
function syntaxError(text: string, message: string): string {
  // Some messages quote a part of the text.
  const line = message.replace(
    /[\p{Cc}\u2028\u2029]/gu,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  const found = /^(.*?)(?: in JSON)? at position (\d+)(?: \(line \d+ column \d+\))?$/.exec(line)
  const position = found === null ? positionOf(text, message) : Number(found[2])
  if (position === undefined) return line
  const before = text.slice(0, position).split('\n')
  return `line ${before.length}, column ${before.at(-1)!.length + 1}: ${found?.[1] ?? line}`
}

/** Where text is broken of which the engine's message tells no position. */
function positionOf(text: string, message: string): number | undefined {
  if (message === 'Unexpected end of JSON input') return text.length
  if (!message.startsWith('Unexpected token ')) return undefined
  // A part of the text that ends before the token only ends too early.
  const broken = (length: number) => {
    try {
      JSON.parse(text.slice(0, length))
      return false
    } catch (error) {
      return (error as Error).message.startsWith('Unexpected token ')
    }
  }
  let [low, high] = [0, text.length]
  while (low + 1 < high) {
    const middle = Math.floor((low + high) / 2)
    if (broken(middle)) high = middle
    else low = middle
  }
  return low
}
