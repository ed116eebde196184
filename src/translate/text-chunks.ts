import { Engine } from '../engine/engine.js'
import type { Range } from '../u64.js'
import { CUT_CONTEXT } from './cuts.js'
import { newCounts, type RewriteCounts, type Rewriter } from './rewriter.js'
import type { TagWatch } from './tag-watch.js'

/** Bytes of a token that may have to wait for the next chunk: 0x and sixteen digits. */
const HELD = 18
/** What a text kernel wants free around a chunk and behind what it writes: TEXT_SLACK of assembly/memory.ts. */
const SLACK = 128
/** Bytes of text whose addresses are looked at together. */
const PIECE = 8192

/** What is counted besides the tokens that translate. */
export interface Counting {
  /**
   * Where addresses lie that ought to translate and do not (gapsOf): those are counted as failed. Each chunk is looked through
   * for them first, which takes about as long as rewriting it. Ascending, disjoint.
   */
  readonly gaps?: readonly Range[]
  /** Told of the addresses of each chunk, to notice a layout of another boot. */
  readonly watch?: TagWatch
}

/** Text on its way through a kernel: chunks, what is held back between them, and what was counted. */
export abstract class TextChunks implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  protected readonly engine: Engine
  /** Where a chunk begins, and where what comes out may be written. */
  protected readonly base: number
  protected readonly dst: number
  /** First byte behind all that, a multiple of 8: `extra` bytes from there on are the kernel's tables. */
  protected readonly tables: number
  /** Bytes at `base` of the last call, and how many of them were dealt with. */
  protected length = 0
  private readonly chunk: number
  private readonly gaps: readonly Range[]
  private readonly gapsAt: number
  /** Digits of the lowest of their addresses. */
  private readonly gapDigits: number
  private readonly watch: TagWatch | undefined
  private readonly valuesAt: number
  private consumed = 0
  private offset = 0

  /**
   * @param chunk bytes that `space()` has at most
   * @param room gives the most bytes that come out of so many
   */
  constructor(chunk: number, room: (bytes: number) => number, { gaps = [], watch }: Counting, extra = 0) {
    const most = chunk + HELD
    const before = 2 * SLACK + most
    this.engine = new Engine(before + room(most) + SLACK + 8 + extra + gaps.length * 24 + (watch ? 2 * PIECE : 0))
    this.chunk = chunk
    this.base = this.engine.heap + SLACK
    this.dst = this.engine.heap + before
    this.tables = (this.dst + room(most) + SLACK + 7) & ~7
    this.gaps = gaps
    this.gapsAt = this.tables + extra
    this.gapDigits = (gaps[0]?.start ?? 0n).toString(16).length
    this.engine.putRanges(this.gapsAt, gaps)
    this.watch = watch
    this.valuesAt = this.gapsAt + gaps.length * 24
    if (watch !== undefined) this.engine.setWatch(...watch.ranges)
  }

  /** Runs the kernel over the `length` bytes at `base`; where the text that comes out begins. */
  protected abstract rewrite(last: boolean): number

  space(): Uint8Array {
    const { engine, base } = this
    // What was held back moves to the front, with the bytes before it that the kernel looks back at.
    engine.bytes.copyWithin(base - CUT_CONTEXT, base + this.consumed - CUT_CONTEXT, base + this.length)
    this.offset += this.consumed
    this.length -= this.consumed
    this.consumed = 0
    return engine.bytes.subarray(base + this.length, base + this.length + this.chunk)
  }

  /**
   * Begins anew in the middle of a text, where it may be cut (cuts.ts).
   * @param offset of the first byte in the whole input
   * @param context the bytes before it, CUT_CONTEXT of them if there are so many
   * @returns `space()`
   */
  begin(offset: number, context: Uint8Array): Uint8Array {
    const { engine, base } = this
    engine.bytes.fill(0, base - CUT_CONTEXT, base)
    engine.bytes.set(context, base - context.length)
    this.offset = offset
    this.length = 0
    this.consumed = 0
    return engine.bytes.subarray(base, base + this.chunk)
  }

  commit(length: number, last: boolean): Uint8Array {
    const { engine, counts } = this
    this.length += length
    if (this.gaps.length > 0) this.countFailed(last)
    const at = this.rewrite(last)
    this.consumed = engine.consumed
    const found = engine.counts()
    counts.bytesIn += length
    counts.translated += found.translated
    counts.missed += found.missed
    const { produced } = engine
    counts.bytesOut += produced
    if (this.watch?.count(engine.watched(), length)) this.look(this.watch, last)
    return engine.bytes.subarray(at, at + produced)
  }

  /** Text ends anywhere. */
  end(): undefined {}

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

  /** Before anything is rewritten in place. */
  private countFailed(last: boolean): void {
    const { engine, counts, base, length, gaps, gapsAt, gapDigits } = this
    engine.exports.countText(base, length, last ? 1 : 0, gapsAt, gaps.length, gapDigits)
    const { missed, firstMiss } = engine.counts()
    if (missed > 0 && counts.failed === 0) counts.firstFailed = this.offset + firstMiss
    counts.failed += missed
  }
}
