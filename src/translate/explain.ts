import { findSegment, type Segment } from '../engine/segments.js'
import { HypvaError } from '../errors.js'
import { MissingFieldError } from '../layout/fields.js'
import { applyMacro, hypVaEnd, macroOf } from '../layout/macro.js'
import { classifyHypVa, classifyKernelVa, type Region } from '../layout/regions.js'
import type { HypLayout } from '../layout/types.js'
import { formatU64, wrap64 } from '../u64.js'
import { type ConcreteSpace, compileSegments, type DirectedSegment, SPACES, type Space } from './directions.js'

/** One step of a translation, from one space to the next. */
export interface ExplainStep {
  readonly to: Space
  /** The kernel's formula, with the kernel's names. */
  readonly formula: string
  /** The same with the numbers of this address. */
  readonly numbers: string
  readonly value: bigint
}

/** All that a layout says about one address. */
export interface Explanation {
  readonly address: bigint
  readonly from: Space
  readonly to: Space
  /** What the address is, in the source space; absent where the space has no map of its own (phys, link). */
  readonly region?: Region
  /** The steps from `from` to `to`; empty for a miss, and for an address that is in the target space already. */
  readonly steps: readonly ExplainStep[]
  /** The address in `to`; absent for a miss. */
  readonly result?: bigint
  /** Why it does not translate; absent when it does. */
  readonly reason?: string
  /** The address in every space that the layout can reach from it. */
  readonly spaces: Readonly<Partial<Record<Space, bigint>>>
}

/** Order in which the kernel's formulas lead from one space to the next. */
const CHAIN: readonly ConcreteSpace[] = ['link', 'image', 'phys', 'linear', 'hyp']

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
    const step = stepBetween(layout, 'linear', 'hyp', address)
    return { ...about, steps: [step], result: step.value }
  }
  let segments: DirectedSegment[]
  try {
    segments = compileSegments(layout, from, to)
  } catch (error) {
    if (error instanceof MissingFieldError) return { ...about, steps: [], reason: error.message }
    throw error
  }
  const segment = findSegment(segments, address)
  if (segment === undefined) return { ...about, steps: [], reason: missReason(layout, from, to, address) }
  return {
    ...about,
    steps: stepsOf(layout, segment.from, segment.to, address),
    result: wrap64(address + segment.delta),
  }
}

/** Why an address is in no segment of a direction: one line. */
export function missReason(layout: HypLayout, from: Space, to: Space, address: bigint): string {
  return (to === 'hyp' ? beyondReason(layout, from, address) : undefined) ?? placeReason(layout, from, to, address)
}

/** For memory that the layout's sum carries beyond the hyp VA bits. */
function beyondReason(layout: HypLayout, from: Space, address: bigint): string | undefined {
  const linear = from === 'hyp' ? undefined : tryTranslate(layout, from, 'linear', address)
  if (linear === undefined) return undefined
  const sum = applyMacro(macroOf(layout), linear)
  if (sum < hypVaEnd(layout)) return undefined
  return `${classifyKernelVa(layout, linear).text}; its hyp VA would be ${formatU64(sum)}, beyond the ${layout.hypVaBits} bits there are: EL2 cannot map it`
}

function placeReason(layout: HypLayout, from: Space, to: Space, address: bigint): string {
  const region = regionOf(layout, from, address)
  const here = region === undefined ? '' : region.text
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
        : here
    case 'image':
      return region?.kind === 'linear' ? `${here}: a linear address, not an image one` : here
    case 'linear':
      return region?.kind === 'image' ? `${here}: an image address, not a linear one` : here
    case 'kernel':
      return region?.kind === 'linear' && (to === 'image' || to === 'link')
        ? `${here}; outside the kernel image, which alone has ${to} addresses`
        : here
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

function stepsOf(layout: HypLayout, from: ConcreteSpace, to: ConcreteSpace, address: bigint): ExplainStep[] {
  // Without PAGE_OFFSET and PHYS_OFFSET hyp and physical addresses still differ by hyp_physvirt_offset.
  const linear = layout.pageOffset !== undefined && layout.physOffset !== undefined
  const chain = CHAIN.filter((space) => linear || space !== 'linear')
  const steps: ExplainStep[] = []
  const target = chain.indexOf(to)
  let value = address
  for (let at = chain.indexOf(from); at !== target; ) {
    const next = at < target ? at + 1 : at - 1
    const step = stepBetween(layout, chain[at]!, chain[next]!, value)
    steps.push(step)
    value = step.value
    at = next
  }
  return steps
}

function stepBetween(layout: HypLayout, from: ConcreteSpace, to: ConcreteSpace, x: bigint): ExplainStep {
  const { kaslrOffset = 0n, kimageVoffset = 0n, pageOffset = 0n, physOffset = 0n, hypPhysvirtOffset = 0n } = layout
  const hex = formatU64
  switch (`${from} ${to}`) {
    case 'link image':
      return sum(to, 'link + kaslr_offset', x, kaslrOffset)
    case 'image link':
      return difference(to, 'image - kaslr_offset', x, kaslrOffset)
    case 'image phys':
      return difference(to, 'image - kimage_voffset', x, kimageVoffset)
    case 'phys image':
      return sum(to, 'phys + kimage_voffset', x, kimageVoffset)
    case 'phys linear': {
      const value = wrap64(x - physOffset) | pageOffset
      return {
        to,
        formula: '(phys - PHYS_OFFSET) | PAGE_OFFSET',
        numbers: `(${hex(x)} - ${hex(physOffset)}) | ${hex(pageOffset)}`,
        value,
      }
    }
    case 'linear phys':
      return {
        to,
        formula: 'linear - PAGE_OFFSET + PHYS_OFFSET',
        numbers: `${hex(x)} - ${hex(pageOffset)} + ${hex(physOffset)}`,
        value: wrap64(x - pageOffset + physOffset),
      }
    case 'linear hyp': {
      const { mask, tag } = macroOf(layout)
      return {
        to,
        formula: `(linear & va_mask) + ${tagText(layout)}`,
        numbers: `(${hex(x)} & ${hex(mask)}) + ${hex(tag)}`,
        value: applyMacro({ mask, tag }, x),
      }
    }
    case 'hyp linear': {
      const { mask, tag } = macroOf(layout)
      // The bits that va_mask drops are the same for all of DRAM: those of its beginning.
      const first = layout.dram?.[0]?.start ?? wrap64((layout.image?.start ?? 0n) - kimageVoffset)
      const above = (wrap64(first - physOffset) | pageOffset) & ~mask
      return {
        to,
        formula: `((hyp - ${tagText(layout)}) & va_mask) | linear(dram_start) & ~va_mask`,
        numbers: `((${hex(x)} - ${hex(tag)}) & ${hex(mask)}) | ${hex(above)}`,
        value: (wrap64(x - tag) & mask) | above,
      }
    }
    case 'phys hyp':
      return difference(to, 'phys - hyp_physvirt_offset', x, hypPhysvirtOffset)
    case 'hyp phys':
      return sum(to, 'hyp + hyp_physvirt_offset', x, hypPhysvirtOffset)
    default:
      throw new Error(`no step from ${from} to ${to}`)
  }
}

function sum(to: Space, formula: string, x: bigint, y: bigint): ExplainStep {
  return { to, formula, numbers: `${formatU64(x)} + ${formatU64(y)}`, value: wrap64(x + y) }
}

function difference(to: Space, formula: string, x: bigint, y: bigint): ExplainStep {
  return { to, formula, numbers: `${formatU64(x)} - ${formatU64(y)}`, value: wrap64(x - y) }
}

function tagText({ tag }: HypLayout): string {
  return tag === undefined ? '(tag_val << tag_lsb)' : 'tag'
}

/** Banks that a message lists. */
const MOST_BANKS = 64

function banksText({ dram = [] }: HypLayout): string {
  if (dram.length === 0) return 'the layout has no dram'
  const more = dram.length > MOST_BANKS ? ` and ${dram.length - MOST_BANKS} more banks` : ''
  const banks = dram.slice(0, MOST_BANKS).map(({ start, end }) => `${formatU64(start)}–${formatU64(end - 1n)}`)
  return `${banks.join(', ')}${more}`
}

function linkText({ image, kaslrOffset }: HypLayout): string {
  if (image === undefined || kaslrOffset === undefined) return 'not known'
  return `${formatU64(wrap64(image.start - kaslrOffset))}–${formatU64(wrap64(image.end - kaslrOffset - 1n))}`
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
