import { loadPlan, type Plan } from '../engine/plan.js'
import { Chunks } from './chunks.js'
import type { TagWatch } from './tag-watch.js'

/** Byte order of a raw stream of addresses. */
export type ByteOrder = 'le' | 'be'

/** Rewrites raw 64-bit addresses. */
export class BinaryRewriter extends Chunks {
  private readonly plan: Plan
  private readonly order: ByteOrder
  private readonly watch: TagWatch | undefined

  /**
   * @param chunk bytes that `space()` has at most, a multiple of 8; 64 KiB by default
   * @param watch told of the addresses of chunks, to notice a layout of another boot
   */
  constructor(plan: Plan, order: ByteOrder, chunk = 65536, watch?: TagWatch) {
    super(chunk, 0)
    loadPlan(this.engine, plan)
    this.plan = plan
    this.order = order
    this.watch = watch
    if (watch !== undefined) this.engine.setWatch(...watch.ranges)
  }

  protected process(): Uint8Array {
    const { engine, base, plan, counts } = this
    const { swapBytes, maskTag, translateBatch } = engine.exports
    const count = this.wholeWords()
    if (this.order === 'be') swapBytes(base, count)
    // Before anything is translated in place.
    if (this.watch?.wants(count * 8)) this.watch.see(engine, base, count, count * 8)
    if (plan.kind === 'macro') {
      maskTag(base, base, count)
      counts.translated += count
    } else {
      translateBatch(base, base, count, plan.segments.length)
      const found = engine.counts()
      counts.translated += found.translated
      if (found.missed > 0 && counts.failed === 0) counts.firstFailed = this.offset + found.firstMiss * 8
      counts.missed += found.missed
      counts.failed += found.missed
    }
    if (this.order === 'be') swapBytes(base, count)
    return engine.bytes.subarray(base, base + this.consumed)
  }
}
