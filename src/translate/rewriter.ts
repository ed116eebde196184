import { HypvaError, HypvaTypeError } from '../errors.js'
import { describe } from '../u64.js'

/** Counts of a rewriter so far. */
export interface RewriteCounts {
  /** Bytes that went in. */
  bytesIn: number
  /** Bytes that came out. */
  bytesOut: number
  /** Addresses that translated. */
  translated: number
  /** Tokens of text, or raw words, that did not and stayed as they were. */
  missed: number
  /**
   * Of these, the addresses that ought to have translated: every one of raw words; of text those that lie where the layout
   * expects addresses of the source space, counted only by a rewriter that has `gaps`.
   */
  failed: number
  /** Byte offset in the whole input of the first of these; -1 when there is none. */
  firstFailed: number
}

/**
 * Rewrites a stream of bytes through WASM memory. The caller fills `space()`, tells `commit()` how many bytes it filled, and
 * takes what comes out, until the last commit; then `end()`. It may read a file straight into `space()` and write straight
 * from what `commit()` returns.
 */
export interface Rewriter {
  readonly counts: Readonly<RewriteCounts>
  /** Where the next input bytes go; valid until the next call. Never empty. */
  space(): Uint8Array
  /**
   * Rewrites the first `length` bytes of `space()`; the `last` call also rewrites the bytes that were held back.
   * @returns the output so far, valid until the next call
   */
  commit(length: number, last: boolean): Uint8Array
  /** After the last commit: where the input stopped inside a raw address; undefined when it did not. */
  end(): Truncation | undefined
}

/** Raw words whose last one is incomplete. All whole ones before it have been dealt with. */
export interface Truncation {
  /** Byte offset of the incomplete address in the input: a multiple of 8. */
  readonly offset: number
  /** How many of its 8 bytes there are: 1 … 7. */
  readonly bytes: number
}

/** A truncation in words, for an input whose whole addresses have been written. */
export function describeTruncation({ offset, bytes }: Truncation): string {
  return `byte ${offset}: ${bytes} of the 8 bytes of an address; the ${offset / 8} whole ones before it are written`
}

export function newCounts(): RewriteCounts {
  return { bytesIn: 0, bytesOut: 0, translated: 0, missed: 0, failed: 0, firstFailed: -1 }
}

/** The counts of several rewriters that shared one input, added up. */
export function addCounts(a: RewriteCounts, b: RewriteCounts): RewriteCounts {
  return {
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
    translated: a.translated + b.translated,
    missed: a.missed + b.missed,
    failed: a.failed + b.failed,
    firstFailed:
      a.failed === 0 ? b.firstFailed : b.failed === 0 ? a.firstFailed : Math.min(a.firstFailed, b.firstFailed),
  }
}

/**
 * A rewriter as a Web stream. It passes each chunk on at once: line in, line out.
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
