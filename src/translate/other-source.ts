import { HypvaError } from '../errors.js'
import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import type { ByteOrder } from './binary.js'
import { compileSegments, hypLooksLikeNumbers, sourceSpaces } from './directions.js'
import { RangeCounter } from './range-counter.js'

/** Addresses of another space than the source space. */
export interface OtherSource {
  readonly space: Space
  readonly count: number
}

/** Spaces whose addresses look like nothing else. */
const TELLING: readonly Space[] = ['kernel', 'hyp', 'link']

/**
 * The other space that most addresses of a piece of a trace are of, if there is one. Asked when none of them translated.
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
    const count = countIn(layout, space, bytes, order)
    if (count > (best?.count ?? 0)) best = { space, count }
  }
  return best
}

/** How many of the addresses are of a space; none where the layout does not lead there. */
function countIn(layout: HypLayout, space: Space, bytes: Uint8Array, order: ByteOrder | undefined): number {
  try {
    const counter = new RangeCounter(compileSegments(layout, space, space), order, bytes.length)
    counter.space().set(bytes)
    counter.commit(bytes.length, true)
    return counter.counts.translated
  } catch (error) {
    if (error instanceof HypvaError) return 0
    throw error
  }
}
