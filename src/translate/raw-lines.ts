import { Engine } from '../engine/engine.js'
import type { ByteOrder } from './binary.js'
import { type RewriteCounts, type Rewriter, type Truncation, truncationOf } from './rewriter.js'

/** Bytes of an address as text: sixteen digits and a line end. */
const LINE = 17

/** Raw 64-bit addresses for a rewriter of text: each as a line of sixteen digits. */
export class RawLines implements Rewriter {
  private readonly text: Rewriter
  private readonly order: ByteOrder
  private readonly engine: Engine
  private readonly count: number
  private readonly lines: number
  private held = 0
  private bytesIn = 0

  /**
   * @param makeText makes the rewriter of text for chunks of so many bytes
   * @param addresses at most so many a turn
   */
  constructor(makeText: (chunk: number) => Rewriter, order: ByteOrder, addresses = 4096) {
    this.text = makeText(addresses * LINE)
    this.order = order
    this.count = addresses
    this.engine = new Engine(addresses * 8 + addresses * LINE + 16)
    this.lines = this.engine.heap + addresses * 8
  }

  /** As of the text, but counting the bytes of the raw words that came in, and where they stand. */
  get counts(): RewriteCounts {
    const { counts } = this.text
    const firstFailed = counts.firstFailed < 0 ? -1 : Math.floor(counts.firstFailed / LINE) * 8
    return { ...counts, bytesIn: this.bytesIn, firstFailed }
  }

  space(): Uint8Array {
    const { bytes, heap } = this.engine
    return bytes.subarray(heap + this.held, heap + this.count * 8)
  }

  commit(length: number, last: boolean): Uint8Array {
    const { bytes, heap } = this.engine
    const { swapBytes, hexLines } = this.engine.exports
    this.bytesIn += length
    const have = this.held + length
    const count = Math.floor(have / 8)
    if (this.order === 'be') swapBytes(heap, count)
    hexLines(heap, this.lines, count)
    bytes.copyWithin(heap, heap + count * 8, heap + have)
    this.held = have - count * 8
    this.text.space().set(bytes.subarray(this.lines, this.lines + count * LINE))
    return this.text.commit(count * LINE, last)
  }

  end(): Truncation | undefined {
    return truncationOf(this.bytesIn)
  }
}
