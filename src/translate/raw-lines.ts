import { ABI } from '../engine/wasm.generated.js'
import type { ByteOrder } from './binary.js'
import { Chunks } from './chunks.js'
import type { Rewriter } from './rewriter.js'

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
    // Where a line stands in the text tells where its address stands in the input.
    const first = firstFailed < 0 ? -1 : Math.floor(firstFailed / ABI.LINE_BYTES) * 8
    Object.assign(this.counts, { translated, missed, failed, firstFailed: first })
    return out
  }
}
