import { describe } from '../u64.js'

/** Where JSON text goes wrong: line and column count from 1, columns in UTF-16 units. */
export interface JsonError {
  readonly line: number
  readonly column: number
  readonly reason: string
}

type Kind = 'mark' | 'string' | 'other'

interface Token {
  readonly kind: Kind
  readonly start: number
  readonly end: number
}

/**
 * The first syntax error of text that JSON.parse refuses. Engines word and place that error differently, or not at all,
 * hence a scan of our own.
 */
export function jsonErrorOf(text: string): JsonError {
  const open: string[] = []
  let expecting = 'a value'
  let offset = 0
  for (;;) {
    const start = skip(text, offset, BLANK)
    const token = tokenAt(text, start)
    const next = token && step(token.kind, text[start]!, expecting, open)
    if (token === undefined || next === undefined) {
      return { ...positionOf(text, start), reason: `expected ${expecting}, got ${excerpt(text, start)}` }
    }
    expecting = next
    offset = token.end
  }
}

const BLANK = new Set(' \t\n\r')
const DIGIT = new Set('0123456789')
const HEX_DIGIT = new Set('0123456789abcdefABCDEF')
const WORDS = ['true', 'false', 'null']

// Character by character: a regular expression's own stack does not hold a string of some million characters.
function skip(text: string, from: number, what: ReadonlySet<string>): number {
  let at = from
  while (at < text.length && what.has(text[at]!)) at++
  return at
}

function tokenAt(text: string, start: number): Token | undefined {
  const first = text[start]
  if (first === undefined) return undefined
  if ('{}[],:'.includes(first)) return { kind: 'mark', start, end: start + 1 }
  const kind = first === '"' ? 'string' : 'other'
  const word = WORDS.find((one) => text.startsWith(one, start))
  const end = kind === 'string' ? stringEnd(text, start + 1) : word ? start + word.length : numberEnd(text, start)
  return end === undefined ? undefined : { kind, start, end }
}

/** Where a string ends whose first character is at `from`; undefined for one that is not right. */
function stringEnd(text: string, from: number): number | undefined {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 34) return at + 1
    if (code < 32) return undefined
    if (code !== 92) continue
    const escaped = text[++at] ?? ''
    if (escaped === 'u') {
      for (let digit = 0; digit < 4; digit++) if (!HEX_DIGIT.has(text[++at] ?? '')) return undefined
    } else if (escaped === '' || !'"\\/bfnrt'.includes(escaped)) return undefined
  }
  return undefined
}

/** Where a number ends, as far as it is one; undefined for none. */
function numberEnd(text: string, start: number): number | undefined {
  const whole = text[start] === '-' ? start + 1 : start
  let end = text[whole] === '0' ? whole + 1 : skip(text, whole, DIGIT)
  if (end === whole) return undefined
  if (text[end] === '.') {
    const fraction = skip(text, end + 1, DIGIT)
    if (fraction > end + 1) end = fraction
  }
  if (text[end] === 'e' || text[end] === 'E') {
    const sign = text[end + 1] === '-' || text[end + 1] === '+' ? end + 2 : end + 1
    const exponent = skip(text, sign, DIGIT)
    if (exponent > sign) end = exponent
  }
  return end
}

/** What is expected after a token, undefined when the token itself is not what was expected. */
function step(kind: Kind, mark: string, expecting: string, open: string[]): string | undefined {
  const values = expecting.startsWith('a value')
  const names = expecting.startsWith('a field name')
  if (kind !== 'mark') {
    if (names && kind === 'string') return '":"'
    return values ? after(open) : undefined
  }
  if (mark === ':') return expecting === '":"' ? 'a value' : undefined
  if (mark === '{' || mark === '[') {
    if (!values) return undefined
    open.push(mark)
    return mark === '{' ? 'a field name in quotes or "}"' : 'a value or "]"'
  }
  if (!expecting.includes(`"${mark}"`)) return undefined
  if (mark === ',') return open.at(-1) === '{' ? 'a field name in quotes' : 'a value'
  open.pop()
  return after(open)
}

function after(open: readonly string[]): string {
  if (open.length === 0) return 'the end of the text'
  return open.at(-1) === '{' ? '"," or "}"' : '"," or "]"'
}

function positionOf(text: string, offset: number): { line: number; column: number } {
  let line = 1
  let begin = 0
  for (;;) {
    const end = text.indexOf('\n', begin)
    if (end < 0 || end >= offset) return { line, column: offset - begin + 1 }
    line++
    begin = end + 1
  }
}

function excerpt(text: string, offset: number): string {
  if (offset >= text.length) return 'the end of the text'
  return describe(/^(?:[\w.+-]+|.)/su.exec(text.slice(offset, offset + EXCERPT))![0])
}

/** More characters than a message shows. */
const EXCERPT = 64
