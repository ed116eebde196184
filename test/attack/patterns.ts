import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AST } from '@eslint-community/regexpp'
import { CountedPattern, characterTest, MOST_STEPS } from './steps.ts'

/** A pattern as source and flags, and where it stands. */
export interface Pattern {
  readonly source: string
  readonly flags: string
  readonly where: string
}

const SRC = new URL('../../src/', import.meta.url)

/** The source files that hold code of ours. */
export function sourceFiles(): { readonly file: string; readonly text: string }[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.includes('generated'))
    .map((file) => ({ file, text: readFileSync(join(SRC.pathname, file), 'utf8') }))
}

/** The regular expressions written in a source text: what begins with a slash where a value may stand. */
export function literalsOf(text: string, file: string): Pattern[] {
  const found: Pattern[] = []
  // For each brace that is open whether it ends a part of a template.
  const braces: boolean[] = []
  let before = ''
  let at = 0
  const template = () => {
    while (text[at] !== '`') {
      if (text.startsWith('${', at)) {
        braces.push(true)
        at += 2
        before = '{'
        return
      }
      at += text[at] === '\\' ? 2 : 1
    }
    at++
    before = 'x'
  }
  while (at < text.length) {
    const char = text[at]!
    if (text.startsWith('//', at)) at = text.indexOf('\n', at)
    else if (text.startsWith('/*', at)) at = text.indexOf('*/', at) + 2
    else if (char === "'" || char === '"') {
      for (at++; text[at] !== char; ) at += text[at] === '\\' ? 2 : 1
      at++
      before = 'x'
    } else if (char === '`') {
      at++
      template()
    } else if (char === '}' && braces.pop()) {
      at++
      template()
    } else if (char === '/' && /[=(,:[!&|?{};>]/.test(before)) {
      const begin = at + 1
      let inClass = false
      for (at = begin; inClass || text[at] !== '/'; at++) {
        if (text[at] === '\\') at++
        else if (text[at] === '[') inClass = true
        else if (text[at] === ']') inClass = false
      }
      const flags = /^[a-z]*/.exec(text.slice(at + 1))![0]
      found.push({ source: text.slice(begin, at), flags, where: file })
      at += 1 + flags.length
      before = 'x'
    } else {
      if (char === '{') braces.push(false)
      if (!/\s/.test(char)) before = char
      at++
    }
  }
  return found
}

/** Characters by which texts are told apart that a pattern may be given. */
const CHARS = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code))

/** Pieces of text out of which lines are made against a pattern. */
interface Pieces {
  /** Texts that match what comes before each place of the pattern. */
  readonly prefixes: string[]
  /** Texts that match each piece of it. */
  readonly pumps: string[]
}

function pieces(pattern: AST.Pattern, flags: string): Pieces {
  const prefixes = new Set([''])
  const pumps = new Set<string>()
  const sample = (element: AST.Element): string => {
    switch (element.type) {
      case 'Quantifier':
        return sample(element.element).repeat(Math.max(1, element.min))
      case 'Group':
      case 'CapturingGroup':
        return element.alternatives[0]!.elements.map(sample).join('')
      case 'Character':
      case 'CharacterSet':
      case 'CharacterClass':
        return CHARS.filter(characterTest(element, flags))[0] ?? ''
      default:
        return ''
    }
  }
  const isPlain = (element: AST.Element | undefined) => element?.type === 'Character'
  const walk = (alternatives: readonly AST.Alternative[], before: string, repeated: boolean): void => {
    for (const { elements } of alternatives) {
      let text = before
      elements.forEach((element, i) => {
        const repeats = repeated || (element.type === 'Quantifier' && element.max > 1)
        const inner = element.type === 'Quantifier' ? element.element : element
        if (inner.type === 'Group' || inner.type === 'CapturingGroup') {
          walk(inner.alternatives, text, repeats)
          if (repeats) for (const { elements } of inner.alternatives) pumps.add(elements.map(sample).join(''))
        } else if (repeats && inner.type !== 'Assertion' && inner.type !== 'Backreference') {
          // One of each kind that the piece takes.
          const all = CHARS.filter(characterTest(inner as AST.Character, flags))
          for (const kind of [/\s/, /\d/, /[a-f]/, /[G-z]/, /[^\w\s]/]) {
            const one = all.find((char) => kind.test(char))
            if (one !== undefined) pumps.add(one)
          }
        }
        text += sample(element)
        if (!isPlain(element) || !isPlain(elements[i + 1])) prefixes.add(text)
      })
    }
  }
  walk(pattern.alternatives, '', false)
  pumps.delete('')
  return { prefixes: [...prefixes], pumps: [...pumps] }
}

const SMALL = 150
const LARGE = 4 * SMALL
/** Four times the text takes four times the steps where they are linear, sixteen times where they are quadratic. */
const MOST_GROWTH = 8
/** Steps a character that no quadratic pattern stays below at the larger size. */
const FEW = 30

/** A text against which a pattern takes more than linear steps, when one is found, with how much it grew. */
export function attack({
  source,
  flags,
}: Pick<Pattern, 'source' | 'flags'>): { text: string; growth: number } | undefined {
  const steps = { count: 0 }
  const counted = new CountedPattern(source, flags, steps)
  const { prefixes, pumps } = pieces(counted.pattern, flags)
  const count = (text: string) => {
    steps.count = 0
    counted.run(text, 0, flags.includes('g'))
    return steps.count
  }
  const full = (front: string, pump: string, size: number, tail: string) =>
    front + pump.repeat(Math.ceil(size / pump.length)).slice(0, Math.max(pump.length, size)) + tail
  const tries = new Map<string, (size: number) => string>()
  for (const tail of ['', '\u0001']) {
    for (const pump of [...pumps, ...prefixes.filter((prefix) => prefix !== '')]) {
      for (const front of prefixes) {
        tries.set(`${front}\n${pump}\n${tail}`, (size) => full(front, pump, size, tail))
        if (pump.length === 1)
          tries.set(`both ${front}\n${pump}\n${tail}`, (size) => full('', front + pump, size, tail))
      }
    }
  }
  for (const make of tries.values()) {
    const large = count(make(LARGE))
    if (large < FEW * LARGE) continue
    const growth = large > MOST_STEPS ? Number.POSITIVE_INFINITY : large / count(make(SMALL))
    if (growth > MOST_GROWTH) return { text: make(40), growth }
  }
  return undefined
}
