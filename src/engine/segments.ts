import type { Range } from '../u64.js'

/** Every address in [start, end) translates by adding `delta` modulo 2^64. */
export interface Segment extends Range {
  readonly delta: bigint
}

/** The engine either looks each address up in segments, or applies kern_hyp_va to it unconditionally. */
export type Plan =
  | { readonly kind: 'checked'; readonly segments: readonly Segment[] }
  | { readonly kind: 'macro'; readonly mask: bigint; readonly tag: bigint }

/** The one of ascending, disjoint ranges that holds an address, by binary search. */
export function findSegment<S extends Range>(segments: readonly S[], address: bigint): S | undefined {
  let low = 0
  let high = segments.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (segments[middle]!.end <= address) low = middle + 1
    else high = middle
  }
  const segment = segments[low]
  return segment !== undefined && segment.start <= address ? segment : undefined
}
