import { HypvaError } from '../errors.js'
import type { Engine } from './engine.js'
import type { Segment } from './segments.js'

/** What a kernel is told to do with each address: look it up in segments, or apply kern_hyp_va unconditionally. */
export type Plan =
  | { readonly kind: 'checked'; readonly segments: readonly Segment[] }
  | { readonly kind: 'macro'; readonly mask: bigint; readonly tag: bigint }

/** Loads a plan into the tables of a kernel. */
export function loadPlan(engine: Engine, plan: Plan): void {
  if (plan.kind === 'macro') {
    engine.setMacro(plan.mask, plan.tag)
    return
  }
  const capacity = engine.segmentCapacity
  if (plan.segments.length > capacity) {
    throw new HypvaError(
      'HYPVA_LAYOUT',
      `layout: ${plan.segments.length} separate ranges of memory; at most ${capacity} fit the kernels: merge neighbouring dram banks`,
    )
  }
  engine.setSegments(plan.segments)
}
