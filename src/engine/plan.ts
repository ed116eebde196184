import { HypvaError } from '../errors.js'
import type { Engine } from './engine.js'
import type { Segment } from './segments.js'
import { ABI } from './wasm.generated.js'

/** What the engine does with each address: look it up in segments, or apply kern_hyp_va unconditionally. */
export type Plan =
  | { readonly kind: 'checked'; readonly segments: readonly Segment[] }
  | { readonly kind: 'macro'; readonly mask: bigint; readonly tag: bigint }

/** A plan as the engine's text functions take it: how many segments to look up, or BY_MACRO. */
export function segmentsOf(plan: Plan): number {
  return plan.kind === 'macro' ? ABI.BY_MACRO : plan.segments.length
}

/** Puts a plan into an engine's tables. */
export function loadPlan(engine: Engine, plan: Plan): void {
  if (plan.kind === 'macro') {
    engine.setMacro(plan.mask, plan.tag)
    return
  }
  const capacity = ABI.SEGMENT_CAPACITY
  if (plan.segments.length > capacity) {
    throw new HypvaError(
      'HYPVA_LAYOUT',
      `layout: ${plan.segments.length} separate ranges of memory; at most ${capacity} fit the engine: merge neighbouring dram banks`,
    )
  }
  engine.setSegments(plan.segments)
}
