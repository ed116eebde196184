import { Engine, roundUp } from '../engine/engine.js'
import type { Segment } from '../engine/segments.js'
import { ABI } from '../engine/wasm.generated.js'
import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import type { ByteOrder } from './binary.js'
import { valueBytes } from './census.js'
import { compileSegments, hypLooksLikeNumbers, sourceSpaces } from './directions.js'

/** Addresses of a space that was not asked for. */
export interface OtherSource {
  readonly space: Space
  readonly count: number
}

/** Spaces whose addresses nothing else looks like. */
const TELLING: readonly Space[] = ['kernel', 'hyp', 'link']

/**
 * Of a piece of a trace in which nothing translated: the other space that most of its addresses are of, if there is one.
 * @param bytes text, or raw words in `order`
 */
export function otherSource(
  layout: HypLayout,
  from: Space | undefined,
  to: Space,
  bytes: Uint8Array,
  order?: ByteOrder,
): OtherSource | undefined {
  const asked = sourceSpaces(layout, from, to)
  let best: OtherSource | undefined
  for (const space of TELLING) {
    if (asked.includes(space)) continue
    if (space === 'hyp' && (layout.mode === 'vhe' || hypLooksLikeNumbers(layout))) continue
    if (space === 'link' && layout.kaslrOffset === 0n) continue
    const segments = segmentsOf(layout, space)
    const count = segments.length === 0 ? 0 : countIn(segments, bytes, order)
    if (count > (best?.count ?? 0)) best = { space, count }
  }
  return best
}

/** Where the addresses of a space are; nowhere when the layout does not tell. */
function segmentsOf(layout: HypLayout, space: Space): readonly Segment[] {
  try {
    return compileSegments(layout, space, space)
  } catch {
    return []
  }
}

function countIn(segments: readonly Segment[], bytes: Uint8Array, order: ByteOrder | undefined): number {
  if (segments.length > ABI.SEGMENT_CAPACITY) return 0
  // Text, then the values of its tokens, then a counter a segment.
  const text = roundUp(bytes.length + 2 * ABI.TEXT_SLACK)
  const room = valueBytes(bytes.length)
  const engine = new Engine(text + room + segments.length * 8)
  const base = engine.heap + ABI.TEXT_SLACK
  const values = engine.heap + text
  engine.setSegments(segments)
  engine.bytes.set(bytes, order === undefined ? base : values)
  let count = Math.floor(bytes.length / 8)
  if (order === undefined) count = engine.exports.tokenValues(base, bytes.length, values, 1)
  else if (order === 'be') engine.exports.swapBytes(values, count)
  engine.exports.tally(values, count, segments.length, values + room)
  return count - engine.counts().missed
}
