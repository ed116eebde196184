import { roundUp } from '../engine/engine.js'
import { ABI } from '../engine/wasm.generated.js'
import type { Range } from '../u64.js'
import { Chunks } from './chunks.js'
import type { TagWatch } from './tag-watch.js'

/** Bytes of text whose addresses are looked at together. */
const PIECE = 8192

/** Options of all rewriters of text. */
export interface TextOptions {
  /** Bytes that `space()` has at most, 64 KiB by default. */
  readonly chunk?: number
  /** Count every token that stays as it was. Otherwise the engine skips tokens too short for an address, which is faster. */
  readonly countAll?: boolean
  /**
   * Where addresses lie that ought to translate and do not (gapsOf): the rewriter counts those as failed. It searches each
   * chunk for them first, which takes about as long as rewriting it. Ascending, disjoint.
   */
  readonly gaps?: readonly Range[]
  /** Sees the addresses of each chunk, to notice a layout of another boot. */
  readonly watch?: TagWatch
}

/** Text: a subclass rewrites its tokens; this class counts those that failed and shows all of them to the watch. */
export abstract class TextChunks extends Chunks {
  /** Where what comes out may be written. */
  protected readonly dst: number
  /** Where the bytes are that were asked for besides, at a multiple of 8. */
  protected readonly tables: number
  private readonly gaps: readonly Range[]
  private readonly gapsAt: number
  /** Digits of the lowest of their addresses. */
  private readonly gapDigits: number
  private readonly watch: TagWatch | undefined
  private readonly valuesAt: number

  /**
   * @param growth gives the most bytes that come out of so many
   * @param tables bytes that the subclass needs for tables, a multiple of 8
   */
  constructor(growth: (bytes: number) => number, { chunk = 65536, gaps = [], watch }: TextOptions, tables = 0) {
    const room = roundUp(growth(chunk + ABI.LONGEST_TOKEN) + ABI.TEXT_SLACK)
    const gapBytes = gaps.length * ABI.SEGMENT_BYTES
    super(chunk, room + tables + gapBytes + (watch ? 2 * PIECE : 0))
    this.dst = this.extra
    this.tables = this.dst + room
    this.gaps = gaps
    this.gapsAt = this.tables + tables
    this.gapDigits = (gaps[0]?.start ?? 0n).toString(16).length
    this.engine.putSegments(this.gapsAt, gaps)
    this.watch = watch
    this.valuesAt = this.gapsAt + gapBytes
    if (watch !== undefined) this.engine.setWatch(...watch.ranges)
  }

  /** Rewrites the `length` bytes at `base`; returns where the text that comes out begins. */
  protected abstract rewrite(last: boolean): number

  protected process(last: boolean, added: number): Uint8Array {
    const { engine, counts } = this
    // Before anything is rewritten in place.
    if (this.gaps.length > 0) this.countFailed(last)
    const at = this.rewrite(last)
    const { consumed, produced } = engine
    this.consumed = consumed
    const found = engine.counts()
    counts.translated += found.translated
    counts.missed += found.missed
    if (this.watch?.count(engine.watched(), added)) this.look(this.watch, last)
    return engine.bytes.subarray(at, at + produced)
  }

  /** Shows the watch the chunk's addresses: those that did not translate still stand where they were. */
  private look(watch: TagWatch, last: boolean): void {
    const { engine, base, length, valuesAt } = this
    const words = new Uint32Array(engine.exports.memory.buffer, valuesAt, PIECE / 2)
    for (let at = 0; at < length; at += engine.consumed) {
      const size = Math.min(PIECE, length - at)
      const end = at + size === length
      const count = engine.exports.tokenValues(base + at, size, valuesAt, last && end ? 1 : 0)
      if (!watch.look(words, count) || end) return
    }
  }

  private countFailed(last: boolean): void {
    const { engine, counts, base, length, gaps, gapsAt, gapDigits } = this
    engine.exports.countText(base, length, last ? 1 : 0, gapsAt, gaps.length, gapDigits)
    const { missed, firstMiss } = engine.counts()
    if (missed > 0 && counts.failed === 0) counts.firstFailed = this.offset + firstMiss
    counts.failed += missed
  }
}
