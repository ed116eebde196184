import type { NameOptions } from '../symbols/table.js'
import { NameTable } from './name-table.js'
import type { Namer } from './namer.js'
import { loadPlan, type Plan } from './plan.js'
import { newCounts, type RewriteCounts, type Rewriter } from './rewriter.js'
import { Kernel } from './wasm.js'

/** Bytes of a token that may have to wait for the next chunk: 0x and sixteen digits. */
const HELD = 18
/** Bytes of the text before a chunk that the kernel looks at. */
const CONTEXT = 3
/** The kernel's words for "write the name in place of the address" and "apply the macro". */
const REPLACE = -1
const MACRO = 0x7fff_ffff

export interface NameRewriterOptions {
  /** Translate the address by this plan and put the name behind it; absent: the name takes the address's place. */
  readonly annotate?: Plan
  /** Count every token that gets no name, also those too short to be an address of the source space. */
  readonly countAll?: boolean
  /** Bytes that `space()` has at most, 64 KiB by default. */
  readonly chunk?: number
}

/** Writes the names of the address tokens of text. */
export class NameRewriter implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  private readonly kernel: Kernel
  private readonly segments: number
  private readonly minDigits: number
  private readonly translate: number
  private readonly before: number
  private readonly base: number
  private readonly chunk: number
  private readonly dst: number
  /** Bytes at `base` of the last call, and how many of them were dealt with. */
  private length = 0
  private consumed = 0
  private offset = 0

  constructor(namer: Namer, options: NameRewriterOptions = {}) {
    const { annotate, countAll = false, chunk = 65536 } = options
    const table = tableOf(namer)
    const lowest = countAll ? 1 : Math.min(digitsOf(namer.segments[0]!.start), annotate ? lowestOf(annotate) : 16)
    this.minDigits = lowest
    // A token and what separates it from the next give way to at most a name, with its brackets, and sixteen digits.
    const shortest = Math.min(9, lowest + 2) + 1
    const most = Math.ceil((chunk + HELD) / shortest) * (table.longest + 3 + 16) + chunk + HELD
    const slack = 128
    this.kernel = new Kernel(slack + (chunk + HELD) + slack + most + slack + 8 + table.bytes)
    this.base = this.kernel.heap + slack
    this.chunk = chunk
    this.dst = this.base + chunk + HELD + slack
    table.load(this.kernel, (this.dst + most + slack + 7) & ~7)
    if (annotate !== undefined) loadPlan(this.kernel, annotate)
    this.segments = namer.segments.length
    this.translate = annotate === undefined ? REPLACE : annotate.kind === 'macro' ? MACRO : annotate.segments.length
    this.before = namer.options.returnAddresses ? 1 : 0
  }

  space(): Uint8Array {
    const { kernel, base } = this
    // What was held back moves to the front, with the bytes before it that the kernel looks back at.
    kernel.bytes.copyWithin(base - CONTEXT, base + this.consumed - CONTEXT, base + this.length)
    this.offset += this.consumed
    this.length -= this.consumed
    this.consumed = 0
    return kernel.bytes.subarray(base + this.length, base + this.length + this.chunk)
  }

  commit(length: number, last: boolean): Uint8Array {
    const { kernel, counts, base, dst } = this
    this.length += length
    const flag = last ? 1 : 0
    kernel.exports.nameText(base, this.length, dst, flag, this.segments, this.minDigits, this.translate, this.before)
    this.consumed = kernel.consumed
    const found = kernel.counts()
    counts.bytesIn += length
    counts.translated += found.translated
    if (found.missed > 0 && counts.missed === 0) counts.firstMiss = this.offset + found.firstMiss
    counts.missed += found.missed
    const { produced } = kernel
    counts.bytesOut += produced
    return kernel.bytes.subarray(dst, dst + produced)
  }

  end(): void {}
}

// One table for all rewriters of a namer: it is made once, and loaded into each kernel.
const tables = new WeakMap<Namer, NameTable>()

function tableOf(namer: Namer): NameTable {
  let table = tables.get(namer)
  if (table === undefined) {
    const options: NameOptions = namer.options
    table = new NameTable(namer.symbols, namer.segments, options)
    tables.set(namer, table)
  }
  return table
}

function digitsOf(address: bigint): number {
  return address.toString(16).length
}

function lowestOf(plan: Plan): number {
  return plan.kind === 'macro' ? 1 : digitsOf(plan.segments[0]!.start)
}
