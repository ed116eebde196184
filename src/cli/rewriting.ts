import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { RawLines } from '../translate/binary.js'
import { checkedPlan, sourceSpaces, uncheckedPlan } from '../translate/directions.js'
import { complementOf, gapsOf } from '../translate/expected.js'
import { NameRewriter, namedRanges } from '../translate/names.js'
import { tagClues } from '../translate/tag-watch.js'
import { newRewriter, orderOf } from './format.js'
import { CHUNK, type Work } from './pump.js'
import { namerOf, type TraceOptions } from './trace-options.js'

/** The options that decide how addresses are rewritten. */
export interface RewriteOptions extends TraceOptions {
  to?: Space | 'name'
  annotate?: boolean
  unchecked?: boolean
  strict?: boolean
  jobs?: number
}

/** The source and target spaces, from the options or by default. */
export interface Direction {
  /** Absent: kernel and hyp addresses alike. */
  readonly from?: Space
  readonly to: Space | 'name'
}

export function directionOf(layout: HypLayout, options: RewriteOptions): Direction {
  const { from, to = from === 'hyp' ? 'kernel' : 'hyp', unchecked } = options
  if (to === 'name') return { ...(from && { from }), to }
  const sources = sourceSpaces(layout, unchecked ? (from ?? 'kernel') : from, to)
  return { ...(sources.length === 1 && { from: sources[0]! }), to }
}

/** What the options ask hypva to do with each input. */
export function workOf(layout: HypLayout, options: RewriteOptions, { from, to }: Direction): Work {
  const { annotate, unchecked, format, strict } = options
  const order = orderOf(format)
  const plan =
    to === 'name' ? undefined : unchecked ? uncheckedPlan(layout, from ?? 'kernel', to) : checkedPlan(layout, from, to)
  const segments = plan?.kind === 'checked' ? plan.segments : []
  const namer = annotate || to === 'name' ? namerOf(layout, options, from) : undefined
  const covered = plan === undefined ? namedRanges(namer!) : segments
  // Every raw word is an address. In text, a number is one when it lies where the layout expects addresses.
  const gaps =
    !strict || unchecked
      ? []
      : order !== undefined
        ? complementOf(covered)
        : gapsOf(layout, sourceSpaces(layout, from, to === 'name' ? 'kernel' : to), covered)
  const counting = { countAll: Boolean(options.stats), gaps }
  // The tags of hyp addresses tell boots apart, wherever hypva looks for hyp addresses.
  const hyp = !unchecked && (from === 'hyp' || (from === undefined && to !== 'hyp'))
  const clues = hyp ? tagClues(layout, segments, namer?.symbols) : undefined
  if (namer === undefined) {
    const translation = { plan: plan!, format, ...counting, clues }
    return {
      make: (watch) => newRewriter(translation, CHUNK, watch),
      parts: { ...translation, jobs: options.jobs },
      clues,
    }
  }
  return {
    make(watch) {
      const rewriter = (chunk: number) =>
        new NameRewriter(namer, { chunk, ...counting, ...(plan && { annotate: plan }), ...(watch && { watch }) })
      // Names are text, so raw words become lines first.
      return order === undefined ? rewriter(CHUNK) : new RawLines(rewriter, order)
    },
    clues,
  }
}
