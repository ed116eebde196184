import { roundUp } from '../engine/engine.js'
import { ABI } from '../engine/wasm.generated.js'
import type { Range } from '../u64.js'
import type { ByteOrder } from './binary.js'
import { Chunks } from './chunks.js'
import type { TagWatch } from './tag-watch.js'

/** Counts the addresses of a stream by the range that holds them. It rewrites nothing: `commit` returns no bytes. */
export class RangeCounter extends Chunks {
  private readonly ranges: number
  private readonly order: ByteOrder | undefined
  private readonly watch: TagWatch | undefined
  private readonly values: number
  private readonly counters: number

  /**
   * @param ranges ascending, disjoint
   * @param order of raw words; absent: text
   * @throws HypvaError `HYPVA_LAYOUT` for more ranges than the engine has room for
   */
  constructor(ranges: readonly Range[], order: ByteOrder | undefined, chunk: number, watch?: TagWatch) {
    // The shortest token, 0x0, and the byte after it take four bytes; its value takes eight.
    const values = roundUp(2 * (chunk + ABI.LONGEST_TOKEN)) + 8
    super(chunk, values + ranges.length * 8)
    this.ranges = this.engine.load({ kind: 'checked', segments: ranges.map((range) => ({ ...range, delta: 0n })) })
    this.order = order
    this.watch = watch
    this.values = this.extra
    this.counters = this.values + values
    if (watch !== undefined) this.engine.setWatch(...watch.ranges)
  }

  protected process(last: boolean, added: number): Uint8Array {
    const { engine, base, counts, values } = this
    const count = this.order === undefined ? this.tokens(last) : this.words(this.order)
    engine.exports.tally(values, count, this.ranges, this.counters)
    const { missed } = engine.counts()
    counts.translated += count - missed
    counts.missed += missed
    this.watch?.see(engine, values, count, added)
    this.examine(new BigUint64Array(engine.exports.memory.buffer, values, count))
    // The next input begins anew: its first token does not touch the last bytes of this one.
    if (last && this.consumed === this.length) this.begin(0, new Uint8Array())
    return engine.bytes.subarray(base, base)
  }

  /** Shows a subclass the addresses of a chunk. */
  protected examine(_addresses: BigUint64Array): void {}

  /** How many addresses each range has held so far. */
  protected perRange(): BigUint64Array {
    return new BigUint64Array(this.engine.exports.memory.buffer, this.counters, this.ranges)
  }

  private tokens(last: boolean): number {
    const { engine } = this
    const count = engine.exports.tokenValues(this.base, this.length, this.values, last ? 1 : 0)
    this.consumed = engine.consumed
    return count
  }

  private words(order: ByteOrder): number {
    const { engine, base, values } = this
    const count = this.wholeWords()
    engine.bytes.copyWithin(values, base, base + count * 8)
    if (order === 'be') engine.exports.swapBytes(values, count)
    return count
  }
}
