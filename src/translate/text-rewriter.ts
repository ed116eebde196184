import type { Plan } from '../engine/segments.js'
import { TextChunks, type TextOptions } from './text-chunks.js'

/** Rewrites the address tokens of text. */
export class TextRewriter extends TextChunks {
  private readonly segments: number
  private readonly minDigits: number

  constructor(plan: Plan, options: TextOptions = {}) {
    // Text grows five times at most: 0x1 and a blank become 0x, sixteen digits and a blank.
    super((bytes) => 5 * bytes, options)
    this.segments = this.engine.load(plan)
    const lowest = plan.kind === 'macro' || options.countAll ? 0n : plan.segments[0]!.start
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
