import type { Plan } from '../engine/segments.js'
import { ABI } from '../engine/wasm.generated.js'
import { subtract } from '../layout/ranges.js'
import { type Range, wrap64 } from '../u64.js'
import type { Namer } from './namer.js'
import { TextChunks, type TextOptions } from './text-chunks.js'

interface NameRewriterOptions extends TextOptions {
  /** Translate the address by this plan and put the name behind it; absent: the name takes the address's place. */
  readonly annotate?: Plan
}

/** Writes the names of the address tokens of text. */
export class NameRewriter extends TextChunks {
  private readonly segments: number
  private readonly minDigits: number
  private readonly translate: number
  private readonly before: number

  constructor(namer: Namer, options: NameRewriterOptions = {}) {
    const { annotate, countAll = false } = options
    const table = namer.textTable()
    const lowest = countAll ? 1 : Math.min(digitsOf(namer.segments[0]!.start), annotate ? lowestOf(annotate) : 16)
    // A token and what separates it from the next give way to at most a name, with its brackets, and sixteen digits.
    const shortest = Math.min(9, lowest + 2) + 1
    super((bytes) => Math.ceil(bytes / shortest) * (table.longest + 3 + 16) + bytes, options, table.bytes)
    table.load(this.engine, this.tables)
    this.minDigits = lowest
    this.segments = namer.segments.length
    this.translate = annotate === undefined ? ABI.BY_NAME : this.engine.load(annotate)
    this.before = namer.options.returnAddresses ? 1 : 0
  }

  protected rewrite(last: boolean): number {
    const { base, length, dst, segments, minDigits, translate, before } = this
    this.engine.exports.nameText(base, length, dst, last ? 1 : 0, segments, minDigits, translate, before)
    return dst
  }
}

/** Where addresses have a name: what leads to the table, but for the table's holes. */
export function namedRanges({ symbols, segments, options }: Namer): Range[] {
  const { starts, names } = symbols
  const holes: Range[] = []
  names.forEach((name, i) => {
    if (name === '' && i + 1 < starts.length) holes.push({ start: starts[i]!, end: starts[i + 1]! })
  })
  const whole = { start: starts[0]!, end: starts.at(-1)! }
  // A return address is looked up by the one before it.
  const before = options.returnAddresses ? 1n : 0n
  return segments.flatMap(({ start, end, delta }) => {
    const shift = (x: bigint) => wrap64(x + delta)
    const size = end - start
    const target = { start: shift(start), end: shift(start) + size }
    const outside = [{ start: 0n, end: whole.start }, ...holes, { start: whole.end, end: 1n << 64n }]
    return subtract([target], outside).map((range) => {
      const from = wrap64(range.start - delta) + before
      return { start: from, end: from + (range.end - range.start) }
    })
  })
}

function digitsOf(address: bigint): number {
  return address.toString(16).length
}

function lowestOf(plan: Plan): number {
  return plan.kind === 'macro' ? 1 : digitsOf(plan.segments[0]!.start)
}
