import type { Plan } from '../engine/segments.js'
import { ABI } from '../engine/wasm.generated.js'
import { Chunks } from './chunks.js'
import type { Rewriter } from './rewriter.js'
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
   * @param watch sees the addresses of chunks, to notice a layout of another boot
   */
  constructor(plan: Plan, order: ByteOrder, chunk = 65536, watch?: TagWatch) {
    super(chunk, 0)
    this.engine.load(plan)
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

/** Raw 64-bit addresses for a rewriter of text: each as a line of sixteen digits. */
export class RawLines extends Chunks {
  private readonly text: Rewriter
  private readonly order: ByteOrder

  /**
   * @param makeText makes the rewriter of text for chunks of so many bytes
   * @param addresses at most so many a turn
   */
  constructor(makeText: (chunk: number) => Rewriter, order: ByteOrder, addresses = 4096) {
    super(addresses * 8, addresses * ABI.LINE_BYTES + ABI.TEXT_SLACK)
    this.text = makeText(addresses * ABI.LINE_BYTES)
    this.order = order
  }

  protected process(last: boolean): Uint8Array {
    const { engine, base, extra: lines, text } = this
    const count = this.wholeWords()
    if (this.order === 'be') engine.exports.swapBytes(base, count)
    engine.exports.hexLines(base, lines, count)
    const size = count * ABI.LINE_BYTES
    text.space().set(engine.bytes.subarray(lines, lines + size))
    const out = text.commit(size, last)
    const { translated, missed, failed, firstFailed } = text.counts
    // All lines have one length, so the place of a line gives the place of its address in the input.
    const first = firstFailed < 0 ? -1 : Math.floor(firstFailed / ABI.LINE_BYTES) * 8
    Object.assign(this.counts, { translated, missed, failed, firstFailed: first })
    return out
  }
}
