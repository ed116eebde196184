import { describe } from '../u64.js'

/** Where JSON text goes wrong: line and column count from 1, columns in UTF-16 units. */
export interface JsonError {
  readonly line: number
  readonly column: number
  readonly reason: string
}

/** One token, blanks before it included; a string may hold no raw control character. */
const TOKEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these
  /[ \t\n\r]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null))/y

/**
 * The first syntax error of text that JSON.parse refuses. Engines word and place that error differently, or not at all,
 * hence a scan of our own.
 */
export function jsonErrorOf(text: string): JsonError {
  const open: string[] = []
  let expecting = 'a value'
  let offset = 0
  for (;;) {
    TOKEN.lastIndex = offset
    const match = TOKEN.exec(text)
    const next = match === null ? undefined : step(match, expecting, open)
    if (next === undefined) {
      const at = offset + /^[ \t\n\r]*/.exec(text.slice(offset))![0].length
      return { ...positionOf(text, at), reason: `expected ${expecting}, got ${excerpt(text, at)}` }
    }
    expecting = next
    offset = TOKEN.lastIndex
  }
}

/** What is expected after a token, undefined when the token itself is not what was expected. */
function step(match: RegExpExecArray, expecting: string, open: string[]): string | undefined {
  const [, mark, string] = match
  const values = expecting.startsWith('a value')
  const names = expecting.startsWith('a field name')
  if (mark === undefined) {
    if (names && string !== undefined) return '":"'
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
  const before = text.slice(0, offset)
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') }
}

function excerpt(text: string, offset: number): string {
  if (offset >= text.length) return 'the end of the text'
  return describe(/^(?:[\w.+-]+|.)/su.exec(text.slice(offset))![0])
}
