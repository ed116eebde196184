import { CUT_CONTEXT } from './cuts.js'
import { loadPlan, type Plan } from './plan.js'
import { newCounts, type RewriteCounts, type Rewriter } from './rewriter.js'
import { Kernel } from './wasm.js'

/** Bytes of a token that may have to wait for the next chunk: 0x and sixteen digits. */
const HELD = 18
/** The kernel's word for "apply the macro". */
const MACRO = 0xffff_ffff

export interface TextOptions {
  /**
   * Count every token that does not translate. Otherwise tokens too short for any address of the source space are passed
   * over unseen, which is faster.
   */
  readonly countAll?: boolean
  /** Bytes that `space()` has at most, 64 KiB by default. */
  readonly chunk?: number
}

/** Rewrites the address tokens of text. */
export class TextRewriter implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  private readonly kernel: Kernel
  private readonly segments: number
  private readonly minDigits: number
  private readonly base: number
  private readonly chunk: number
  private readonly dst: number
  /** Bytes at `base` of the last call, and how many of them were dealt with. */
  private length = 0
  private consumed = 0
  private offset = 0

  constructor(plan: Plan, options: TextOptions = {}) {
    const { countAll = false, chunk = 65536 } = options
    this.kernel = new Kernel(heapBytes(chunk))
    loadPlan(this.kernel, plan)
    this.segments = plan.kind === 'macro' ? MACRO : plan.segments.length
    const lowest = plan.kind === 'macro' || countAll ? 0n : plan.segments[0]!.start
    this.minDigits = lowest.toString(16).length
    const slack = this.kernel.exports.textSlack()
    this.base = this.kernel.heap + slack
    this.chunk = chunk
    this.dst = this.base + chunk + HELD + slack
  }

  space(): Uint8Array {
    const { kernel, base } = this
    // What was held back moves to the front, with the bytes before it that the kernel looks back at.
    kernel.bytes.copyWithin(base - CUT_CONTEXT, base + this.consumed - CUT_CONTEXT, base + this.length)
    this.offset += this.consumed
    this.length -= this.consumed
    this.consumed = 0
    return kernel.bytes.subarray(base + this.length, base + this.length + this.chunk)
  }

  /**
   * Begins anew in the middle of a text, where it may be cut (cuts.ts).
   * @param offset of the first byte in the whole input
   * @param context the bytes before it, CUT_CONTEXT of them if there are so many
   * @returns `space()`
   */
  begin(offset: number, context: Uint8Array): Uint8Array {
    const { kernel, base } = this
    kernel.bytes.fill(0, base - CUT_CONTEXT, base)
    kernel.bytes.set(context, base - context.length)
    this.offset = offset
    this.length = 0
    this.consumed = 0
    return kernel.bytes.subarray(base, base + this.chunk)
  }

  commit(length: number, last: boolean): Uint8Array {
    const { kernel, counts } = this
    this.length += length
    const at =
      kernel.exports.rewriteText(this.base, this.length, this.dst, last ? 1 : 0, this.segments, this.minDigits) >>> 0
    this.consumed = kernel.consumed
    const found = kernel.counts()
    counts.bytesIn += length
    counts.translated += found.translated
    if (found.missed > 0 && counts.missed === 0) counts.firstMiss = this.offset + found.firstMiss
    counts.missed += found.missed
    const { produced } = kernel
    counts.bytesOut += produced
    return kernel.bytes.subarray(at, at + produced)
  }

  end(): void {}

  /**
   * Puts a chunk into WASM memory and returns the kernel's call on it, for measuring it alone.
   * @internal
   */
  resident(chunk: Uint8Array): () => void {
    this.space().set(chunk)
    const { base, dst, segments, minDigits } = this
    const { rewriteText } = this.kernel.exports
    return () => rewriteText(base, chunk.length, dst, 1, segments, minDigits)
  }
}

/** Room for a chunk, what is held back, five times that for text that grows (0x1 → 16 digits), and slack around each. */
function heapBytes(chunk: number): number {
  const slack = 128
  return slack + (chunk + HELD) + slack + 5 * (chunk + HELD) + slack
}
