import { HypvaError, HypvaTypeError } from '../errors.js'
import { describe } from '../u64.js'
import { describeTruncation, type Rewriter } from './rewriter.js'

/**
 * A rewriter as a Web stream. A chunk is passed on as soon as it is decided: line in, line out.
 * @param onMiss makes the error with which the stream fails at the first address that ought to have translated, from its byte
 *   offset; absent: misses pass
 */
export function rewriterStream(
  rewriter: Rewriter,
  onMiss: ((offset: number) => HypvaError) | undefined,
): TransformStream<Uint8Array, Uint8Array> {
  const step = (length: number, last: boolean, controller: TransformStreamDefaultController<Uint8Array>) => {
    const out = rewriter.commit(length, last)
    if (onMiss !== undefined && rewriter.counts.failed > 0) throw onMiss(rewriter.counts.firstFailed)
    if (out.length > 0) controller.enqueue(out.slice())
  }
  return new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      if (!(chunk instanceof Uint8Array)) {
        throw new HypvaTypeError('HYPVA_ARGUMENT', `stream: expected chunks of type Uint8Array, got ${describe(chunk)}`)
      }
      for (let at = 0; at < chunk.length; ) {
        const space = rewriter.space()
        const length = Math.min(space.length, chunk.length - at)
        space.set(chunk.subarray(at, at + length))
        step(length, false, controller)
        at += length
      }
    },
    flush(controller) {
      rewriter.space()
      step(0, true, controller)
      // A stream has no other way to say so.
      const truncated = rewriter.end()
      if (truncated !== undefined) throw new HypvaError('HYPVA_TRUNCATED', describeTruncation(truncated))
    },
  })
}
