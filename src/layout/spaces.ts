import { formatU64, type Range, wrap64 } from '../u64.js'
import { linearOfPhys } from './address-space.js'
import { applyMacro, macroOf } from './macro.js'
import type { HypLayout } from './types.js'

/**
 * The views an address can be taken in. `kernel` is the run-time kernel's own: a linear-map or an image address. `link` is
 * what System.map and vmlinux say: the image address without the KASLR offset.
 */
export type Space = 'kernel' | 'linear' | 'image' | 'link' | 'phys' | 'hyp'

export const SPACES: readonly Space[] = ['kernel', 'linear', 'image', 'link', 'phys', 'hyp']

/** A space in which an address has one meaning: `kernel` is `linear` or `image`, depending on the address. */
export type ConcreteSpace = Exclude<Space, 'kernel'>

/** One formula of docs/kernel-facts.md, 3, which leads from one space to the next; `x` is the address. */
interface Formula {
  /** The fields whose values the formula takes. Mask and tag are not among them: every layout has those. */
  readonly needs: readonly (keyof HypLayout)[]
  readonly value: (layout: HypLayout, x: bigint) => bigint
  /** With the kernel's names, and with the numbers. */
  readonly text: (layout: HypLayout) => string
  readonly numbers: (layout: HypLayout, x: bigint) => string
}

const hex = formatU64

/** `names` is the sum in the kernel's names. */
function sum(names: string, field: 'kaslrOffset' | 'kimageVoffset' | 'hypPhysvirtOffset'): Formula {
  return {
    needs: [field],
    value: (layout, x) => wrap64(x + layout[field]!),
    text: () => names,
    numbers: (layout, x) => `${hex(x)} + ${hex(layout[field]!)}`,
  }
}

function difference(names: string, field: 'kaslrOffset' | 'kimageVoffset' | 'hypPhysvirtOffset'): Formula {
  return {
    needs: [field],
    value: (layout, x) => wrap64(x - layout[field]!),
    text: () => names,
    numbers: (layout, x) => `${hex(x)} - ${hex(layout[field]!)}`,
  }
}

const FORMULAS: Readonly<Partial<Record<`${ConcreteSpace} ${ConcreteSpace}`, Formula>>> = {
  'link image': sum('link + kaslr_offset', 'kaslrOffset'),
  'image link': difference('image - kaslr_offset', 'kaslrOffset'),
  'image phys': difference('image - kimage_voffset', 'kimageVoffset'),
  'phys image': sum('phys + kimage_voffset', 'kimageVoffset'),
  'phys linear': {
    needs: ['pageOffset', 'physOffset'],
    value: ({ pageOffset, physOffset }, x) => linearOfPhys(pageOffset!, physOffset!, x),
    text: () => '(phys - PHYS_OFFSET) | PAGE_OFFSET',
    numbers: ({ pageOffset, physOffset }, x) => `(${hex(x)} - ${hex(physOffset!)}) | ${hex(pageOffset!)}`,
  },
  'linear phys': {
    needs: ['pageOffset', 'physOffset'],
    value: ({ pageOffset, physOffset }, x) => wrap64(x - pageOffset! + physOffset!),
    text: () => 'linear - PAGE_OFFSET + PHYS_OFFSET',
    numbers: ({ pageOffset, physOffset }, x) => `${hex(x)} - ${hex(pageOffset!)} + ${hex(physOffset!)}`,
  },
  'linear hyp': {
    needs: [],
    value: (layout, x) => applyMacro(macroOf(layout), x),
    text: (layout) => `(linear & va_mask) + ${tagText(layout)}`,
    numbers: (layout, x) => {
      const { mask, tag } = macroOf(layout)
      return `(${hex(x)} & ${hex(mask)}) + ${hex(tag)}`
    },
  },
  'hyp linear': {
    needs: ['pageOffset', 'physOffset'],
    value: (layout, x) => {
      const { mask, tag } = macroOf(layout)
      return (wrap64(x - tag) & mask) | linearBitsAboveMask(layout)
    },
    text: (layout) => `((hyp - ${tagText(layout)}) & va_mask) | linear(dram_start) & ~va_mask`,
    numbers: (layout, x) => {
      const { mask, tag } = macroOf(layout)
      return `((${hex(x)} - ${hex(tag)}) & ${hex(mask)}) | ${hex(linearBitsAboveMask(layout))}`
    },
  },
  'phys hyp': difference('phys - hyp_physvirt_offset', 'hypPhysvirtOffset'),
  'hyp phys': sum('hyp + hyp_physvirt_offset', 'hypPhysvirtOffset'),
}

function tagText({ tag }: HypLayout): string {
  return tag === undefined ? '(tag_val << tag_lsb)' : 'tag'
}

/** B of docs/kernel-facts.md: va_mask drops these bits, which are the same for all of DRAM as at its beginning. */
function linearBitsAboveMask(layout: HypLayout): bigint {
  const { pageOffset, physOffset, dram } = layout
  const first = dram?.[0]?.start ?? imageInMemory(layout)?.start ?? 0n
  return linearOfPhys(pageOffset!, physOffset!, first) & ~macroOf(layout).mask
}

/** The order in which formulas lead from space to space. */
const CHAIN: readonly ConcreteSpace[] = ['link', 'image', 'phys', 'linear', 'hyp']
/** Without PAGE_OFFSET and PHYS_OFFSET hyp and physical addresses still differ by hyp_physvirt_offset. */
const CHAIN_WITHOUT_LINEAR = CHAIN.filter((space) => space !== 'linear')

/** The formulas from one space to another, in order, each with the space it leads to. */
function formulasBetween(layout: HypLayout, from: ConcreteSpace, to: ConcreteSpace) {
  const linear = layout.pageOffset !== undefined && layout.physOffset !== undefined
  const chain = linear || from === 'linear' || to === 'linear' ? CHAIN : CHAIN_WITHOUT_LINEAR
  const target = chain.indexOf(to)
  const path: { readonly to: ConcreteSpace; readonly formula: Formula }[] = []
  for (let at = chain.indexOf(from); at !== target; ) {
    const next = at < target ? at + 1 : at - 1
    path.push({ to: chain[next]!, formula: FORMULAS[`${chain[at]!} ${chain[next]!}`]! })
    at = next
  }
  return path
}

/** One step of a translation, from one space to the next. */
export interface ExplainStep {
  readonly to: Space
  /** The kernel's formula, with the kernel's names. */
  readonly formula: string
  /** The same with the numbers of this address. */
  readonly numbers: string
  readonly value: bigint
}

/**
 * The steps that take an address from one space to another; none where the two are the same.
 * @param layout one that lacks none of the `missingFields` of the two spaces
 */
export function stepsBetween(
  layout: HypLayout,
  from: ConcreteSpace,
  to: ConcreteSpace,
  address: bigint,
): ExplainStep[] {
  let x = address
  return formulasBetween(layout, from, to).map(({ to, formula }) => {
    const { text, numbers, value } = formula
    const step = { to, formula: text(layout), numbers: numbers(layout, x), value: value(layout, x) }
    x = step.value
    return step
  })
}

/** The value of the last of these steps; undefined where the layout lacks a field of one of them. */
export function convert(
  layout: HypLayout,
  from: ConcreteSpace,
  to: ConcreteSpace,
  address: bigint,
): bigint | undefined {
  let x = address
  for (const { formula } of formulasBetween(layout, from, to)) {
    if (formula.needs.some((field) => layout[field] === undefined)) return undefined
    x = formula.value(layout, x)
  }
  return x
}

/** The fields that a layout lacks to take physical addresses to a space; where one of several would do, all of them. */
export function missingFields(layout: HypLayout, space: ConcreteSpace): (keyof HypLayout)[] {
  const needs = new Set(formulasBetween(layout, 'phys', space).flatMap(({ formula }) => formula.needs))
  const missing = [...needs].filter((field) => layout[field] === undefined)
  if (space !== 'hyp' || missing.length === 0) return missing
  return (['pageOffset', 'physOffset', 'hypPhysvirtOffset'] as const).filter((field) => layout[field] === undefined)
}

/** The physical range of the image; undefined where the layout lacks a field. A wrong layout puts it where no memory can be. */
export function imageInMemory({ image, kimageVoffset }: Pick<HypLayout, 'image' | 'kimageVoffset'>): Range | undefined {
  if (image === undefined || kimageVoffset === undefined) return undefined
  const start = wrap64(image.start - kimageVoffset)
  return { start, end: start + (image.end - image.start) }
}

/** The link-time range of the image; undefined where the layout lacks a field. */
export function linkedImage({ image, kaslrOffset }: HypLayout): Range | undefined {
  if (image === undefined || kaslrOffset === undefined) return undefined
  return { start: wrap64(image.start - kaslrOffset), end: wrap64(image.end - kaslrOffset) }
}

/** hyp_physvirt_offset by tag and linear map: physical less hyp address of DRAM's first byte. */
export function physvirtOffsetOf(layout: HypLayout): bigint | undefined {
  const first = layout.dram?.[0]?.start
  if (first === undefined || missingFields(layout, 'linear').length > 0) return undefined
  return wrap64(first - convert(layout, 'phys', 'hyp', first)!)
}
