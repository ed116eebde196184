import { HypvaError } from '../errors.js'
import { loadPlan, type Plan } from './plan.js'
import { newCounts, type RewriteCounts, type Rewriter } from './rewriter.js'
import { Kernel } from './wasm.js'

/** Byte order of a raw stream of addresses. */
export type ByteOrder = 'le' | 'be'

/** Rewrites raw 64-bit addresses. */
export class BinaryRewriter implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  private readonly kernel: Kernel
  private readonly plan: Plan
  private readonly order: ByteOrder
  private readonly chunk: number
  /** Bytes at the heap of the last call, and how many of them were whole addresses. */
  private length = 0
  private consumed = 0
  private offset = 0

  /** @param chunk bytes that `space()` has at most, a multiple of 8; 64 KiB by default */
  constructor(plan: Plan, order: ByteOrder, chunk = 65536) {
    this.kernel = new Kernel(chunk + 8)
    loadPlan(this.kernel, plan)
    this.plan = plan
    this.order = order
    this.chunk = chunk
  }

  space(): Uint8Array {
    const { bytes, heap } = this.kernel
    if (this.consumed < this.length) bytes.copyWithin(heap, heap + this.consumed, heap + this.length)
    this.offset += this.consumed
    this.length -= this.consumed
    this.consumed = 0
    return bytes.subarray(heap + this.length, heap + this.length + this.chunk)
  }

  /** Begins anew at a whole address, `offset` bytes into the input. */
  begin(offset: number): Uint8Array {
    this.offset = offset
    this.length = 0
    this.consumed = 0
    return this.space()
  }

  commit(length: number, _last: boolean): Uint8Array {
    const { kernel, plan, counts } = this
    const { bytes, heap } = kernel
    const { swapBytes, maskTag, translateBatch } = kernel.exports
    this.length += length
    counts.bytesIn += length
    const count = Math.floor(this.length / 8)
    this.consumed = count * 8
    if (this.order === 'be') swapBytes(heap, count)
    if (plan.kind === 'macro') {
      maskTag(heap, heap, count)
      counts.translated += count
    } else {
      translateBatch(heap, heap, count, plan.segments.length)
      const found = kernel.counts()
      counts.translated += found.translated
      if (found.missed > 0 && counts.missed === 0) counts.firstMiss = this.offset + found.firstMiss * 8
      counts.missed += found.missed
    }
    if (this.order === 'be') swapBytes(heap, count)
    counts.bytesOut += this.consumed
    return bytes.subarray(heap, heap + this.consumed)
  }

  end(): void {
    const rest = this.length - this.consumed
    if (rest > 0) {
      throw new HypvaError(
        'HYPVA_TRUNCATED',
        `byte ${this.offset + this.consumed}: ${rest} of the 8 bytes of an address; the ${(this.offset + this.consumed) / 8} whole ones before it are written`,
      )
    }
  }
}
