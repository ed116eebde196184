import { Engine } from '../engine/engine.js'
import { loadPlan, type Plan } from '../engine/plan.js'
import { newCounts, type RewriteCounts, type Rewriter, type Truncation, truncationOf } from './rewriter.js'
import type { TagWatch } from './tag-watch.js'

/** Byte order of a raw stream of addresses. */
export type ByteOrder = 'le' | 'be'

/** Rewrites raw 64-bit addresses. */
export class BinaryRewriter implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  private readonly engine: Engine
  private readonly plan: Plan
  private readonly order: ByteOrder
  private readonly chunk: number
  private readonly watch: TagWatch | undefined
  /** Bytes at the heap of the last call, and how many of them were whole addresses. */
  private length = 0
  private consumed = 0
  private offset = 0

  /**
   * @param chunk bytes that `space()` has at most, a multiple of 8; 64 KiB by default
   * @param watch told of the addresses of chunks, to notice a layout of another boot
   */
  constructor(plan: Plan, order: ByteOrder, chunk = 65536, watch?: TagWatch) {
    this.engine = new Engine(chunk + 8)
    loadPlan(this.engine, plan)
    this.plan = plan
    this.order = order
    this.chunk = chunk
    this.watch = watch
    if (watch !== undefined) this.engine.setWatch(...watch.ranges)
  }

  space(): Uint8Array {
    const { bytes, heap } = this.engine
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
    const { engine, plan, counts } = this
    const { bytes, heap } = engine
    const { swapBytes, maskTag, translateBatch } = engine.exports
    this.length += length
    counts.bytesIn += length
    const count = Math.floor(this.length / 8)
    this.consumed = count * 8
    if (this.order === 'be') swapBytes(heap, count)
    if (this.watch !== undefined) this.watchWords(this.watch, count)
    if (plan.kind === 'macro') {
      maskTag(heap, heap, count)
      counts.translated += count
    } else {
      translateBatch(heap, heap, count, plan.segments.length)
      const found = engine.counts()
      counts.translated += found.translated
      if (found.missed > 0 && counts.failed === 0) counts.firstFailed = this.offset + found.firstMiss * 8
      counts.missed += found.missed
      counts.failed += found.missed
    }
    if (this.order === 'be') swapBytes(heap, count)
    counts.bytesOut += this.consumed
    return bytes.subarray(heap, heap + this.consumed)
  }

  /** Before anything is translated in place. */
  private watchWords(watch: TagWatch, count: number): void {
    const { engine } = this
    if (!watch.wants(count * 8)) return
    engine.exports.watchBatch(engine.heap, count)
    if (watch.count(engine.watched(), count * 8)) {
      watch.look(new Uint32Array(engine.exports.memory.buffer, engine.heap, count * 2), count)
    }
  }

  end(): Truncation | undefined {
    return truncationOf(this.offset + this.length)
  }
}
