import { CUT_CONTEXT } from './cuts.js'
import { newCounts, type RewriteCounts, type Rewriter } from './rewriter.js'
import { Kernel } from './wasm.js'

/** Bytes of a token that may have to wait for the next chunk: 0x and sixteen digits. */
const HELD = 18
/** What a text kernel wants free around a chunk and behind what it writes: TEXT_SLACK of assembly/memory.ts. */
const SLACK = 128

/** Text on its way through a kernel: chunks, what is held back between them, and what was counted. */
export abstract class TextChunks implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  protected readonly kernel: Kernel
  /** Where a chunk begins, and where what comes out may be written. */
  protected readonly base: number
  protected readonly dst: number
  /** First byte behind all that, a multiple of 8: `extra` bytes from there on are the kernel's tables. */
  protected readonly tables: number
  /** Bytes at `base` of the last call, and how many of them were dealt with. */
  protected length = 0
  private readonly chunk: number
  private consumed = 0
  private offset = 0

  /**
   * @param chunk bytes that `space()` has at most
   * @param room gives the most bytes that come out of so many
   */
  constructor(chunk: number, room: (bytes: number) => number, extra = 0) {
    const most = chunk + HELD
    const before = 2 * SLACK + most
    this.kernel = new Kernel(before + room(most) + SLACK + 8 + extra)
    this.chunk = chunk
    this.base = this.kernel.heap + SLACK
    this.dst = this.kernel.heap + before
    this.tables = (this.dst + room(most) + SLACK + 7) & ~7
  }

  /** Runs the kernel over the `length` bytes at `base`; where the text that comes out begins. */
  protected abstract rewrite(last: boolean): number

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
    const at = this.rewrite(last)
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
}
