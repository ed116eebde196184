import { loadPlan, type Plan, segmentsOf } from '../engine/plan.js'
import { type Counting, TextChunks } from './text-chunks.js'

export interface TextOptions extends Counting {
  /**
   * Count every token that does not translate. Otherwise tokens too short for any address of the source space are passed
   * over unseen, which is faster.
   */
  readonly countAll?: boolean
  /** Bytes that `space()` has at most, 64 KiB by default. */
  readonly chunk?: number
}

/** Rewrites the address tokens of text. */
export class TextRewriter extends TextChunks {
  private readonly segments: number
  private readonly minDigits: number

  constructor(plan: Plan, options: TextOptions = {}) {
    const { countAll = false, chunk = 65536 } = options
    // Text grows five times at most: 0x1 and a blank become 0x, sixteen digits and a blank.
    super(chunk, (bytes) => 5 * bytes, options)
    loadPlan(this.engine, plan)
    this.segments = segmentsOf(plan)
    const lowest = plan.kind === 'macro' || countAll ? 0n : plan.segments[0]!.start
    this.minDigits = lowest.toString(16).length
  }

  protected rewrite(last: boolean): number {
    const { base, length, dst, segments, minDigits } = this
    return this.engine.exports.rewriteText(base, length, dst, last ? 1 : 0, segments, minDigits) >>> 0
  }

  /**
   * Puts a chunk into WASM memory and returns the engine's call on it, for measuring it alone.
   * @internal
   */
  resident(chunk: Uint8Array): () => void {
    this.space().set(chunk)
    const { base, dst, segments, minDigits } = this
    const { rewriteText } = this.engine.exports
    return () => rewriteText(base, chunk.length, dst, 1, segments, minDigits)
  }
}
