import { algorithmRange } from '../layout/generations.js'
import type { Generation } from '../layout/types.js'
import { formatU64, type Range } from '../u64.js'

/**
 * Formats JSON for programs, with 64-bit values as hex strings, as in all formats of hypva.
 * @param change is applied to each value first
 */
export function toJson(value: unknown, change = (_: string, v: unknown) => v): string {
  const hex = (v: unknown) => (typeof v === 'bigint' ? formatU64(v) : v)
  const json = JSON.stringify(value, (key, v) => hex(change(key, v)), 2)
  // JSON.stringify escapes the control characters of ASCII, but not DEL or those from U+0080 on.
  return `${json.replace(/[\x7f-\x9f]/g, (character) => `\\u${hexOf(character, 4)}`)}\n`
}

/**
 * Makes text safe to print on a terminal: control characters, with which a log, a symbol or a file name could command it,
 * become escapes such as \x1b. Line ends and tabs stay.
 */
export function visible(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (character) => `\\x${hexOf(character, 2)}`)
}

/** Does the same for text that must stay one line, such as a message with a file name in it: line ends become \x0a. */
export function visibleLine(text: string): string {
  return visible(text).replaceAll('\n', '\\x0a')
}

function hexOf(character: string, digits: number): string {
  return character.charCodeAt(0).toString(16).padStart(digits, '0')
}

/** Formats a range as the kernel does: first and last address. */
export function formatRange({ start, end }: Range): string {
  const hex = (value: bigint) => value.toString(16).padStart(16, '0')
  return `${hex(start)}–${hex(end - 1n)}`
}

/** Formats the value of a layout's field for reading. */
export function fieldText(name: string, value: unknown): string {
  if (name === 'generation') return `${value} (layout algorithm of Linux ${algorithmRange(value as Generation)})`
  if (typeof value === 'bigint') return formatU64(value)
  if (Array.isArray(value)) return value.map(formatRange).join(', ')
  return typeof value === 'object' ? formatRange(value as Range) : String(value)
}
