import { Engine, roundUp } from '../engine/engine.js'
import { ABI } from '../engine/wasm.generated.js'
import { newCounts, type RewriteCounts, type Rewriter, type Truncation } from './rewriter.js'

/**
 * A stream of bytes that goes through WASM memory in chunks. A chunk may end inside a token or a raw address: this class holds
 * those bytes back and puts them in front of the next chunk. A subclass does the work on a chunk.
 */
export abstract class Chunks implements Rewriter {
  readonly counts: RewriteCounts = newCounts()
  protected readonly engine: Engine
  /** Where a chunk begins in the engine's memory. */
  protected readonly base: number
  /** The first of the bytes there that are the subclass's, a multiple of 8. */
  protected readonly extra: number
  /** Bytes at `base`: those held back and those of the last commit. */
  protected length = 0
  /** How many of them `process` has consumed; this class holds back the rest. */
  protected consumed = 0
  /** Where `base` is in the whole input. */
  protected offset = 0
  private readonly chunk: number

  /**
   * @param chunk bytes that `space()` has at most; a multiple of 8 for raw addresses
   * @param extra bytes that the subclass needs besides
   */
  constructor(chunk: number, extra: number) {
    const before = roundUp(chunk + ABI.LONGEST_TOKEN + 2 * ABI.TEXT_SLACK)
    this.engine = new Engine(before + extra)
    this.chunk = chunk
    this.base = this.engine.heap + ABI.TEXT_SLACK
    this.extra = this.engine.heap + before
  }

  /**
   * Deals with the `length` bytes at `base` and sets `consumed`.
   * @param last whether the input ends here
   * @param added how many of the bytes are new
   * @returns what comes out, in the engine's memory
   */
  protected abstract process(last: boolean, added: number): Uint8Array

  space(): Uint8Array {
    const { engine, base } = this
    // The bytes held back move to the front, together with the bytes before them, at which the engine looks back.
    engine.bytes.copyWithin(base - ABI.TEXT_CONTEXT, base + this.consumed - ABI.TEXT_CONTEXT, base + this.length)
    this.offset += this.consumed
    this.length -= this.consumed
    this.consumed = 0
    return engine.bytes.subarray(base + this.length, base + this.length + this.chunk)
  }

  /**
   * Begins anew in the middle of an input: of a text where it may be cut (cuts.ts), of raw addresses at a whole one.
   * @param offset of the first byte in the whole input
   * @param context the bytes before it, TEXT_CONTEXT of them if there are so many
   * @returns `space()`
   */
  begin(offset: number, context: Uint8Array): Uint8Array {
    const { engine, base } = this
    engine.bytes.fill(0, base - ABI.TEXT_CONTEXT, base)
    engine.bytes.set(context, base - context.length)
    this.offset = offset
    this.length = 0
    this.consumed = 0
    return engine.bytes.subarray(base, base + this.chunk)
  }

  commit(length: number, last: boolean): Uint8Array {
    this.length += length
    this.counts.bytesIn += length
    const out = this.process(last, length)
    this.counts.bytesOut += out.length
    return out
  }

  /** Text holds nothing back after its last commit. */
  end(): Truncation | undefined {
    const bytes = this.length - this.consumed
    return bytes === 0 ? undefined : { offset: this.offset + this.consumed, bytes }
  }

  /** Of raw addresses all whole ones are dealt with: counts them. */
  protected wholeWords(): number {
    const count = Math.floor(this.length / 8)
    this.consumed = count * 8
    return count
  }
}
