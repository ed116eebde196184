import { wrap64 } from '../../u64.js'
import type { FileFindings } from '../facts.js'
import type { SymbolAddresses } from '../host-memory.js'
import { LineReader } from '../line-reader.js'

// A line is read from left to right, each pattern where the last one ended, so that none is tried twice at one place.
/** Words that may stand around the addresses of a pair. Others make it some other kind of line. */
const WORDS = '(?:kern(?:el)?|hyp(?:ervisor)?|linear|image|el1|el2|vaddr|va|addr(?:ess)?|to|is|maps|at|and)'
const FILLER = new RegExp(`(?:[^0-9A-Za-z_]+|\\b${WORDS}\\b)*`, 'iy')
const WORD = new RegExp(`^${WORDS}$`, 'i')
const HEX = /(?:0x)?([0-9a-f]{8,16})(?![0-9a-z_])/iy
const MARKS = /[^0-9A-Za-z_]*/y
const BLANKS = /\s*/y
const OPENING = /[[<(]*/y
const NAME = /([A-Za-z_][\w.$]*)(?:\+0x([0-9a-fA-F]+)(?:\/0x[0-9a-fA-F]+)?)?/y
const CLOSING = /[\])>]*/y
const HYP_FIRST = /0[xX]?([0-9a-fA-F]{7,16})(?![0-9A-Za-z_])/y
const HYP_LAST = /0[xX]([0-9a-fA-F]{10,16})(?![0-9A-Za-z_])/y
const TO_NAME = /(?:[^0-9A-Za-z_]+|\b(?:is|at)\b)*/y
const FROM_NAME = /(?:[\s,;]+|->|=>|\b(?:is|at)\b)*/y

/** Takes one pattern after the other off a line. */
class Cursor {
  private at = 0
  private readonly text: string

  constructor(text: string) {
    this.text = text
  }

  get end(): boolean {
    return this.at === this.text.length
  }

  /** What a sticky pattern matches here; undefined, and nothing taken, when it does not. */
  take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.at
    const match = pattern.exec(this.text)
    if (match === null) return undefined
    this.at += match[0].length
    return match
  }
}

/** Kernel and hyp address in either order, then perhaps what is there. */
function twoAddresses(text: string): readonly [string, string] | undefined {
  const line = new Cursor(text)
  line.take(FILLER)
  const first = line.take(HEX)?.[1]
  if (first === undefined) return undefined
  line.take(FILLER)
  const second = line.take(HEX)?.[1]
  if (second === undefined) return undefined
  const marks = line.take(MARKS)![0]
  if (marks !== '' && !marks.includes('+') && line.take(NAME) !== undefined) line.take(MARKS)
  return line.end ? [first, second] : undefined
}

interface Named {
  readonly name: string
  /** Hexadecimal digits. */
  readonly offset: string | undefined
  readonly hyp: string
}

/** A hyp address and a symbol, in either order. */
function namedAddress(text: string): Named | undefined {
  const line = new Cursor(text)
  line.take(BLANKS)
  const before = line.take(HYP_FIRST)?.[1]
  if (before === undefined) line.take(OPENING)
  else if (line.take(TO_NAME)![0] === '') return undefined
  const named = line.take(NAME)
  if (named === undefined) return undefined
  line.take(CLOSING)
  const hyp = before ?? (line.take(FROM_NAME)![0] === '' ? undefined : line.take(HYP_LAST)?.[1])
  line.take(BLANKS)
  return hyp !== undefined && line.end ? { name: named[1]!, offset: named[2], hyp } : undefined
}

/** Below this a value is no hyp address of linear memory, whatever it is. */
const LEAST = 1n << 24n

/** Known pairs: an address of the kernel (or a symbol) and where EL2 has it. */
export class PairReader extends LineReader {
  line(text: string, line: number): boolean {
    if (text.length > 256) return false
    const comment = text.includes('#') ? text.search(/\s#/) : -1
    const bare = comment < 0 ? text : text.slice(0, comment).trimEnd()
    const two = twoAddresses(bare)
    if (two !== undefined) {
      const [a, b] = two
      const first = untagged(BigInt(`0x${a}`))
      const second = untagged(BigInt(`0x${b}`))
      const [kernel, hyp] = isKernel(first) ? [first, second] : [second, first]
      if (!isKernel(kernel) || !isHyp(hyp)) return false
      return this.add(kernel, undefined, hyp, line)
    }
    const named = namedAddress(bare)
    if (named === undefined || WORD.test(named.name)) return false
    const { name, offset } = named
    const hyp = BigInt(`0x${named.hyp}`)
    if (!isHyp(hyp)) return false
    return this.add(undefined, name, wrap64(hyp - BigInt(`0x${offset ?? '0'}`)), line)
  }

  private add(kernel: bigint | undefined, symbol: string | undefined, hyp: bigint, line: number): true {
    this.found = true
    this.findings.pair(kernel, symbol, hyp, `line ${line}`)
    return true
  }
}

/** Bit 55 tells kernel from user; tags above it (TBI, MTE, KASAN) are taken off. */
function untagged(address: bigint): bigint {
  return (address >> 55n) & 1n ? address | (0xffn << 56n) : address
}

function isKernel(address: bigint): boolean {
  return address >> 52n === 0xfffn
}

function isHyp(address: bigint): boolean {
  return address >> 52n === 0n && address >= LEAST
}

/** The symbols that pairs name. */
export function namesOfPairs(files: readonly FileFindings[]): Set<string> {
  return new Set(files.flatMap(({ pairs }) => pairs.flatMap(({ symbol }) => symbol ?? [])))
}

/** Gives pairs that name a symbol its address, and drops those whose symbol no table has. */
export function resolveNames(findings: FileFindings, tables: readonly SymbolAddresses[]): void {
  const missing = new Set<string>()
  for (const [i, pair] of findings.pairs.entries()) {
    if (pair.symbol === undefined) continue
    const table = tables.find(({ linkTime, addresses }) => !linkTime && addresses.has(pair.symbol!))
    if (table === undefined) missing.add(pair.symbol)
    else
      findings.pairs[i] = {
        ...pair,
        kernel: table.addresses.get(pair.symbol),
        rule: `known pair, ${pair.symbol} by ${table.file}`,
      }
  }
  // Without its symbol such a line may be anything.
  if (missing.size > 0) {
    const known = findings.pairs.filter(({ kernel }) => kernel !== undefined)
    findings.pairs.length = 0
    for (const pair of known) findings.pairs.push(pair)
    const names = [...missing].slice(0, 3).join(', ')
    findings.note(`no run-time address of ${names}: give the /proc/kallsyms of that boot as well`)
  }
}
