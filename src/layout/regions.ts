import { assertU64, formatU64, type Range, wrap64 } from '../u64.js'
import { linearMemory, linearStartOf, pageEndOf, widthsOf } from './address-space.js'
import { rulesOf } from './generations.js'
import { privatePlace } from './hyp-ranges.js'
import { applyMacro, hypVaEnd, macroOf } from './macro.js'
import { byStart, clip, inOrder, subtract } from './ranges.js'
import { linkedImage } from './spaces.js'
import type { HypLayout } from './types.js'

/** The purpose of a range of an address space. */
export type RegionKind =
  /** Bit 55 is clear: TTBR0's half. */
  | 'user'
  /** Bits 63:56 hold a tag (TBI, MTE, KASAN): sign-extending from bit 55 changes the address. */
  | 'tagged'
  | 'non-canonical'
  /** The linear map, in DRAM; and outside of it. */
  | 'linear'
  | 'linear-hole'
  | 'image'
  | 'modules'
  /** Any other kernel address: vmalloc, vmemmap, fixmap, or a part that the layout lacks the fields for. */
  | 'kernel-other'
  /** EL2's mapping of linear addresses, in DRAM; and outside of it. */
  | 'hyp-linear'
  | 'hyp-linear-hole'
  /** The page that EL2 maps at its physical address. */
  | 'idmap'
  /** EL2's own mappings: stacks, devices, hardening vectors. */
  | 'private'
  /** pKVM's page metadata. */
  | 'hyp-vmemmap'
  /** Within the hyp VA bits, but not with the tag of linear memory nor in a known range. */
  | 'tag-mismatch'
  /** Bits above the hyp VA bits are set. */
  | 'out-of-range'

/** A part of the kernel's or of EL2's address space; for an address in no known part, the reason why it is in none. */
export interface Region {
  readonly kind: RegionKind
  /** Where it lies, when the layout has the fields for it; half-open. */
  readonly range?: Range
  /** Which of the layout's DRAM banks it is, counted from 0; only for `linear` and `hyp-linear` in DRAM. */
  readonly bank?: number
  /** One line for people. */
  readonly text: string
}

/** A region whose place is known. */
export interface LocatedRegion extends Region {
  readonly range: Range
}

/** Of several regions that hold an address the one of the lowest rank counts: a tag alone claims a whole block, holes and all. */
export function rankOf({ kind }: Region): number {
  return kind === 'idmap' ? 0 : kind === 'linear-hole' || kind === 'hyp-linear-hole' ? 2 : 1
}

/** No arm64 kernel uses more bits of virtual address. */
const MAX_VA_BITS = 52

/**
 * The known parts of the kernel's address space, in address order and without overlaps. A layout with few fields gives a
 * short list; `kernel-other` is not listed.
 * @example
 * kernelRegions(layout).at(-1).kind // 'image'
 */
export function kernelRegions(layout: HypLayout): LocatedRegion[] {
  const regions: LocatedRegion[] = []
  const { image } = layout
  const width = layout.vaBitsActual ?? layout.vaBits
  if (width !== undefined) {
    regions.push({ kind: 'user', range: { start: 0n, end: 1n << BigInt(width) }, text: 'user addresses (TTBR0)' })
  }
  for (const region of linearRegions(layout)) regions.push(region)
  const modules = modulesRange(layout)
  if (modules !== undefined) {
    regions.push({ kind: 'modules', range: modules, text: 'modules, below the unrandomised image' })
  }
  if (image !== undefined) regions.push({ kind: 'image', range: image, text: 'kernel image, _text to _end' })
  return regions.sort(byStart)
}

/**
 * The known parts of EL2's address space, in address order; empty in mode vhe, where EL2 is the host's. Ranges overlap only
 * in broken layouts, and where the private range can grow into linear memory unnoticed (docs/kernel-facts.md, 4).
 * @throws HypvaError `HYPVA_LAYOUT` without mask and tag
 * @example
 * hypRegions(layout).map(({ kind }) => kind) // ['private', 'idmap', 'hyp-linear']
 */
export function hypRegions(layout: HypLayout): LocatedRegion[] {
  if (layout.mode === 'vhe') return []
  return [...idmapRegion(layout), ...hypLinearRegions(layout), ...privateRegions(layout)].sort(byStart)
}

/**
 * The region of a kernel address.
 * @throws HypvaTypeError, HypvaRangeError when `address` is no 64-bit bigint
 * @example
 * classifyKernelVa(layout, 0xffffad4306ef1c00n).kind // 'image'
 */
export function classifyKernelVa(layout: HypLayout, address: bigint): Region {
  assertU64(address, 'address')
  const extended = BigInt.asUintN(64, BigInt.asIntN(56, address))
  if (extended !== address) {
    const tag = formatU64(address >> 56n)
    return { kind: 'tagged', text: `bits 63:56 hold a tag, ${tag}; without it the address is ${formatU64(extended)}` }
  }
  const region = kernelRegions(layout).find((known) => contains(known, address))
  if (region !== undefined) return region
  const width = layout.vaBitsActual ?? layout.vaBits ?? MAX_VA_BITS
  if (address >> 55n === 0n) {
    if (address >> BigInt(MAX_VA_BITS) !== 0n) return nonCanonical(MAX_VA_BITS, '0')
    return { kind: 'user', text: 'bit 55 is clear: a user address (or a physical or a hyp one)' }
  }
  if (address < wrap64(-(1n << BigInt(width)))) return nonCanonical(width, '1')
  return {
    kind: 'kernel-other',
    text: 'a kernel address outside the ranges of the layout (vmalloc, vmemmap, fixmap …)',
  }
}

/**
 * The region of an address at EL2; in mode vhe EL2 has the host's addresses.
 * @throws HypvaTypeError, HypvaRangeError when `address` is no 64-bit bigint; HypvaError `HYPVA_LAYOUT` without mask and tag
 * @example
 * classifyHypVa(layout, 0x40eed000n).kind // 'idmap'
 */
export function classifyHypVa(layout: HypLayout, address: bigint): Region {
  if (layout.mode === 'vhe') return classifyKernelVa(layout, address)
  return hypClassifier(layout)(address)
}

/** Gives the region of an address at EL2, for one layout. */
export type HypClassifier = (address: bigint) => Region

/** `classifyHypVa` for many addresses of one layout, not of mode vhe. */
export function hypClassifier(layout: HypLayout): HypClassifier {
  let regions: LocatedRegion[] | undefined
  const width = layout.hypVaBits ?? MAX_VA_BITS
  return (address) => {
    assertU64(address, 'address')
    if (address >> BigInt(width) !== 0n) {
      return { kind: 'out-of-range', text: `bits 63:${width} are not all clear: no hyp VA` }
    }
    regions ??= hypRegions(layout)
    const known = regions.filter((region) => contains(region, address))
    const [region] = known.sort((a, b) => rankOf(a) - rankOf(b))
    if (region !== undefined) return region
    const unknown =
      layout.idmap === undefined ? '; the layout has no idmap, so it may be that or a private mapping' : ''
    const { mask, tag } = macroOf(layout)
    const text = `tag ${formatU64(address & ~mask)}, linear memory has ${formatU64(tag)}${unknown}`
    return { kind: 'tag-mismatch', text }
  }
}

/** Banks of DRAM in the linear map, and the rest of it. */
function linearRegions(layout: HypLayout): LocatedRegion[] {
  const widths = widthsOf(layout)
  const banks = linearMemory(layout)?.banks
  const whole = widths && {
    start: linearStartOf(widths.generation, widths.vaBits, widths.vaBitsActual),
    end: pageEndOf(widths),
  }
  if (banks === undefined) {
    return whole === undefined
      ? []
      : [{ kind: 'linear', range: whole, text: 'linear map (where in it DRAM is, is not known)' }]
  }
  const holes = subtract([whole ?? { start: banks[0]!.start, end: banks.at(-1)!.end }], banks)
  return [
    ...banks.map(
      (range, bank): LocatedRegion => ({
        kind: 'linear',
        range,
        bank,
        text: `linear map of ${bankText(layout, bank)}`,
      }),
    ),
    ...holes.map((range): LocatedRegion => ({ kind: 'linear-hole', range, text: 'linear map, but no DRAM' })),
  ]
}

function hypLinearRegions(layout: HypLayout): LocatedRegion[] {
  const macro = macroOf(layout)
  const limit = hypVaEnd(layout)
  const whole = { start: macro.tag, end: macro.tag + macro.mask + 1n }
  const block = whole.end < limit ? whole : { ...whole, end: limit }
  const banks = linearMemory(layout)?.banks.map(({ start, end }) => {
    const hyp = applyMacro(macro, start)
    return { start: hyp, end: hyp + (end - start) }
  })
  if (banks === undefined) {
    return [{ kind: 'hyp-linear', range: block, text: 'linear memory at EL2 (where in it DRAM is, is not known)' }]
  }
  return [
    ...banks.flatMap((whole, bank): LocatedRegion[] =>
      clip([whole], 0n, limit).map((range) => ({
        kind: 'hyp-linear',
        range,
        bank,
        text: `linear memory at EL2, ${bankText(layout, bank)}`,
      })),
    ),
    ...subtract([block], inOrder(banks)).map(
      (range): LocatedRegion => ({
        kind: 'hyp-linear-hole',
        range,
        text: 'has the tag of linear memory, but is not DRAM',
      }),
    ),
  ]
}

function idmapRegion({ idmap, pageSize = 4096 }: HypLayout): LocatedRegion[] {
  if (idmap === undefined) return []
  const range = { start: idmap, end: idmap + BigInt(pageSize) }
  return [{ kind: 'idmap', range, text: 'idmap page, mapped at its physical address' }]
}

function privateRegions(layout: HypLayout): LocatedRegion[] {
  const { mode } = layout
  const place = privatePlace(layout, mode === 'protected' ? 'up' : 'down')
  if (place === undefined || place.range.start === place.range.end) return []
  if (mode !== 'protected') {
    const from = layout.proposal === 'overlap-top-window' ? 'the end of the hyp VA space' : 'the idmap page'
    return [{ kind: 'private', range: place.range, text: `private mappings, growing down from ${from}` }]
  }
  return [
    { kind: 'private', range: place.range, text: 'private mappings of pKVM, growing up' },
    { kind: 'hyp-vmemmap', range: place.vmemmap!, text: 'page metadata of pKVM (hyp_vmemmap)' },
  ]
}

/** [PAGE_END, KIMAGE_VADDR): the image's link address is the end, known from the image or from the generation. */
function modulesRange(layout: HypLayout): Range | undefined {
  const widths = widthsOf(layout)
  if (widths === undefined) return undefined
  const { pageEnd, kimageGap } = rulesOf(widths.generation)
  if (pageEnd !== 'va-bits-min') return undefined
  const start = pageEndOf(widths)
  const end = linkedImage(layout)?.start
  if (end !== undefined) return start < end ? { start, end } : undefined
  return kimageGap === undefined ? undefined : { start, end: start + kimageGap }
}

function bankText({ dram }: HypLayout, index: number): string {
  const { start, end } = dram![index]!
  return `DRAM bank ${index}, physical ${formatU64(start)} to ${formatU64(end - 1n)}`
}

function nonCanonical(width: number, bit: '0' | '1'): Region {
  return { kind: 'non-canonical', text: `bits 63:${width} are not all ${bit}: no address with ${width} bits` }
}

function contains({ range }: LocatedRegion, address: bigint): boolean {
  return address >= range.start && address < range.end
}
