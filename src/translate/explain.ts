import { findSegment, type Segment } from '../engine/segments.js'
import { HypvaError } from '../errors.js'
import { MissingFieldError } from '../layout/fields.js'
import { applyMacro, hypVaEnd, macroOf } from '../layout/macro.js'
import { rangeText } from '../layout/ranges.js'
import { classifyHypVa, classifyKernelVa, type Region } from '../layout/regions.js'
import { type ExplainStep, linkedImage, SPACES, type Space, stepsBetween } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { formatU64, wrap64 } from '../u64.js'
import { compileSegments, type DirectedSegment } from './directions.js'

/** The explanation of one address by a layout. */
export interface Explanation {
  readonly address: bigint
  readonly from: Space
  readonly to: Space
  /** The region of the address in the source space; absent where the space has no map of its own (phys, link). */
  readonly region?: Region
  /** The steps from `from` to `to`; empty for a miss, and for an address that is in the target space already. */
  readonly steps: readonly ExplainStep[]
  /** The address in `to`; absent for a miss. */
  readonly result?: bigint
  /** Why it does not translate; absent when it does. */
  readonly reason?: string
  /** Set where `reason` is the text of `region` and no more. */
  readonly regionIsReason?: true
  /** The address in every space that the layout can reach from it. */
  readonly spaces: Readonly<Partial<Record<Space, bigint>>>
}

/**
 * Explains one address. A layout that does not reach the target space still says what the address is, and the reason is
 * the field that is missing.
 * @param unchecked explain what kern_hyp_va makes of it, whatever it is
 */
export function explainAddress(
  layout: HypLayout,
  from: Space,
  to: Space,
  address: bigint,
  unchecked = false,
): Explanation {
  const region = regionOf(layout, from, address)
  const spaces: Partial<Record<Space, bigint>> = {}
  for (const space of SPACES) {
    const value = tryTranslate(layout, from, space, address)
    if (value !== undefined) spaces[space] = value
  }
  const about = { address, from, to, ...(region && { region }), spaces }
  if (unchecked) {
    const steps = stepsBetween(layout, 'linear', 'hyp', address)
    return { ...about, steps, result: steps[0]!.value }
  }
  let segments: DirectedSegment[]
  try {
    segments = compileSegments(layout, from, to)
  } catch (error) {
    if (error instanceof MissingFieldError) return { ...about, steps: [], reason: error.message }
    throw error
  }
  const segment = findSegment(segments, address)
  if (segment === undefined) {
    const reason = ownReason(layout, from, to, address)
    return {
      ...about,
      steps: [],
      ...(reason === undefined ? { reason: region!.text, regionIsReason: true } : { reason }),
    }
  }
  return {
    ...about,
    steps: stepsBetween(layout, segment.from, segment.to, address),
    result: wrap64(address + segment.delta),
  }
}

/** Why an address is in no segment of a direction: one line. */
export function missReason(layout: HypLayout, from: Space, to: Space, address: bigint): string {
  return ownReason(layout, from, to, address) ?? regionOf(layout, from, address)!.text
}

/** The reason where the region of the address does not tell it. */
function ownReason(layout: HypLayout, from: Space, to: Space, address: bigint): string | undefined {
  return (to === 'hyp' ? beyondReason(layout, from, address) : undefined) ?? placeReason(layout, from, to, address)
}

/** The reason for memory whose hyp VA would lie beyond the hyp VA bits. */
function beyondReason(layout: HypLayout, from: Space, address: bigint): string | undefined {
  const linear = from === 'hyp' ? undefined : tryTranslate(layout, from, 'linear', address)
  if (linear === undefined) return undefined
  const sum = applyMacro(macroOf(layout), linear)
  if (sum < hypVaEnd(layout)) return undefined
  return `${classifyKernelVa(layout, linear).text}; its hyp VA would be ${formatU64(sum)}, beyond the ${layout.hypVaBits} bits there are: EL2 cannot map it`
}

function placeReason(layout: HypLayout, from: Space, to: Space, address: bigint): string | undefined {
  const region = regionOf(layout, from, address)
  const here = region?.text
  switch (from) {
    case 'phys':
      return tryTranslate(layout, 'phys', 'phys', address) === undefined
        ? `outside DRAM (${banksText(layout)})`
        : `in DRAM, but not in the kernel image, which alone has ${to} addresses`
    case 'link':
      return `outside the kernel image at its link address (${linkText(layout)})`
    case 'hyp':
      if (region?.kind === 'hyp-linear') {
        return `${here}; outside the kernel image, which alone has ${to} addresses`
      }
      return region?.kind === 'idmap' || region?.kind === 'private' || region?.kind === 'hyp-vmemmap'
        ? "EL2's own mapping: kern_hyp_va does not describe it"
        : undefined
    case 'image':
      return region?.kind === 'linear' ? `${here}: a linear address, not an image one` : undefined
    case 'linear':
      return region?.kind === 'image' ? `${here}: an image address, not a linear one` : undefined
    case 'kernel':
      return region?.kind === 'linear' && (to === 'image' || to === 'link')
        ? `${here}; outside the kernel image, which alone has ${to} addresses`
        : undefined
  }
}

function regionOf(layout: HypLayout, from: Space, address: bigint): Region | undefined {
  if (from === 'phys' || from === 'link') return undefined
  return from === 'hyp' ? classifyHypVa(layout, address) : classifyKernelVa(layout, address)
}

/** The address in another space, or undefined where it or the layout does not reach that far. */
function tryTranslate(layout: HypLayout, from: Space, to: Space, address: bigint): bigint | undefined {
  let segments: Segment[]
  try {
    segments = compileSegments(layout, from, to)
  } catch (error) {
    if (error instanceof HypvaError) return undefined
    throw error
  }
  const segment = findSegment(segments, address)
  return segment && wrap64(address + segment.delta)
}

/** Banks that a message lists. */
const MOST_BANKS = 64

function banksText({ dram = [] }: HypLayout): string {
  if (dram.length === 0) return 'the layout has no dram'
  const more = dram.length > MOST_BANKS ? ` and ${dram.length - MOST_BANKS} more banks` : ''
  const banks = dram.slice(0, MOST_BANKS).map(rangeText)
  return `${banks.join(', ')}${more}`
}

function linkText(layout: HypLayout): string {
  const linked = linkedImage(layout)
  return linked === undefined ? 'not known' : rangeText(linked)
}

/**
 * The spaces that an address may be of, best guess first. A kernel address shows itself by bit 55; what is below may be a
 * hyp VA or a physical address, and is both where the layout does not rule one out. What is none of these is looked at as a
 * kernel address (it may be a user's) and as a hyp VA, for the reasons.
 */
export function readings(layout: HypLayout, address: bigint): Space[] {
  const possible: Space[] = []
  const isKernel = ((address >> 55n) & 1n) === 1n
  if (isKernel) {
    possible.push('kernel')
  } else if (layout.mode !== 'vhe') {
    const { kind } = classifyHypVa(layout, address)
    if (kind !== 'out-of-range' && kind !== 'tag-mismatch') possible.push('hyp')
  }
  if (tryTranslate(layout, 'phys', 'phys', address) !== undefined) possible.push('phys')
  if (layout.kaslrOffset !== 0n && tryTranslate(layout, 'link', 'link', address) !== undefined) possible.push('link')
  if (possible.length > 0) return possible
  return layout.mode === 'vhe' ? ['kernel'] : ['kernel', 'hyp']
}
