import type { Plan } from '../engine/plan.js'
import { HypvaError } from '../errors.js'
import { macroOf } from '../layout/macro.js'
import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { compileDirections } from './directions.js'

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
