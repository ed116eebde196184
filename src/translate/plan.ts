import { HypvaError } from '../errors.js'
import { macroOf } from '../layout/macro.js'
import type { HypLayout } from '../layout/types.js'
import { compileDirections, type Segment, type Space } from './segments.js'
import type { Kernel } from './wasm.js'

/** What a kernel is told to do with each address: look it up in segments, or apply kern_hyp_va unconditionally. */
export type Plan =
  | { readonly kind: 'checked'; readonly segments: readonly Segment[] }
  | { readonly kind: 'macro'; readonly mask: bigint; readonly tag: bigint }

/** @param from absent: kernel and hyp addresses alike, or kernel addresses when they become hyp addresses */
export function checkedPlan(layout: HypLayout, from: Space | undefined, to: Space): Plan & { kind: 'checked' } {
  const { segments } = compileDirections(layout, from, to)
  if (segments.length === 0) {
    const source = from ?? (to === 'hyp' ? 'kernel' : 'kernel or hyp')
    throw new HypvaError('HYPVA_LAYOUT', `layout: none of its memory has both a ${source} and a ${to} address`)
  }
  return { kind: 'checked', segments }
}

export function macroPlan(layout: HypLayout): Plan {
  return { kind: 'macro', ...macroOf(layout) }
}

/**
 * kern_hyp_va as the plan of a direction.
 * @throws HypvaError `HYPVA_ARGUMENT` for a direction in which it does not go
 */
export function uncheckedPlan(layout: HypLayout, from: Space, to: Space): Plan {
  if (to !== 'hyp' || (from !== 'kernel' && from !== 'linear')) {
    throw new HypvaError('HYPVA_ARGUMENT', `unchecked: kern_hyp_va goes from kernel to hyp, not from ${from} to ${to}`)
  }
  return macroPlan(layout)
}

/** Loads a plan into the tables of a kernel. */
export function loadPlan(kernel: Kernel, plan: Plan): void {
  if (plan.kind === 'macro') {
    kernel.setMacro(plan.mask, plan.tag)
    return
  }
  const capacity = kernel.segmentCapacity
  if (plan.segments.length > capacity) {
    throw new HypvaError(
      'HYPVA_LAYOUT',
      `layout: ${plan.segments.length} separate ranges of memory; at most ${capacity} fit the kernels: merge neighbouring dram banks`,
    )
  }
  kernel.setSegments(plan.segments)
}
