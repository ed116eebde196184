import { formatU64, lowMask } from '../u64.js'
import { linearMemory } from './address-space.js'
import { rulesOf } from './generations.js'
import { applyMacro, hypVaEnd, hypVaRange, macroOf } from './macro.js'
import { rangeText } from './ranges.js'
import { imageInMemory } from './spaces.js'
import type { HypLayout } from './types.js'

/** The kinds of problem that a layout can have; stable names for programs. */
export type LayoutProblemKind =
  | 'region-bit-lost'
  | 'tag-overflow'
  | 'idmap-in-hyp-range'
  | 'dram-aliases'
  | 'dram-beyond-hyp-va'
  | 'image-outside-dram'
  | 'idmap-outside-image'

/** Something wrong with a layout that a kernel can nevertheless compute. */
export interface LayoutProblem {
  readonly kind: LayoutProblemKind
  /** One line, with the numbers. */
  readonly message: string
}

/** Bits of tag that the two ADD instructions of the patched code carry. */
const PATCHED_TAG_BITS = 24

/**
 * The problems of a layout that its fields show; empty for a sound one and for mode vhe.
 * @throws HypvaError `HYPVA_LAYOUT` without mask and tag
 * @example
 * layoutProblems(layout) // []
 */
export function layoutProblems(layout: HypLayout): LayoutProblem[] {
  if (layout.mode === 'vhe') return []
  macroOf(layout)
  return [
    regionBitLost,
    tagOverflow,
    idmapInHypRange,
    dramAliases,
    dramBeyondHypVa,
    imageOutsideDram,
    idmapOutsideImage,
  ].flatMap((check) => check(layout) ?? [])
}

/** The image is in DRAM: otherwise kimage_voffset, the image's range or the banks are not of this boot. */
function imageOutsideDram(layout: HypLayout): LayoutProblem | undefined {
  const memory = imageInMemory(layout)
  const { dram } = layout
  if (memory === undefined || dram === undefined) return undefined
  if (dram.some(({ start, end }) => start <= memory.start && memory.end <= end)) return undefined
  const message = `by kimageVoffset the kernel image is at ${rangeText(memory)}, which is not in one bank of dram: one of them is of another boot`
  return { kind: 'image-outside-dram', message }
}

/** The idmap page is a page of the image. */
function idmapOutsideImage(layout: HypLayout): LayoutProblem | undefined {
  const memory = imageInMemory(layout)
  const { idmap } = layout
  if (memory === undefined || idmap === undefined) return undefined
  if (memory.start <= idmap && idmap < memory.end) return undefined
  const message = `the idmap page ${formatU64(idmap)} is not in the kernel image, which by kimageVoffset is at ${rangeText(memory)}`
  return { kind: 'idmap-outside-image', message }
}

/** L >= V: no room for the bit that keeps linear memory out of the half with the idmap (docs/kernel-facts.md, 5). */
function regionBitLost({ generation, proposal, hypVaBits, tagLsb, tag }: HypLayout): LayoutProblem | undefined {
  // These give up the halves on purpose.
  if (tag !== undefined || proposal === 'overlap-top-window') return undefined
  if (hypVaBits === undefined || tagLsb! < hypVaBits) return undefined
  // Before 5.6 a mask of V bits is no accident: it is how a layout without a tag is meant.
  if (generation !== undefined && rulesOf(generation).formula !== 'tag') return undefined
  const message = `tag_lsb ${tagLsb} leaves no room for the region bit (bit ${hypVaBits - 1}): linear memory is not kept out of the half of the hyp VA space that holds the idmap`
  return { kind: 'region-bit-lost', message }
}

/** Patched code carries 24 bits of tag; the kernel's own early computation (__early_kern_hyp_va) all of them. */
function tagOverflow({ tagLsb, tagVal }: HypLayout): LayoutProblem | undefined {
  if (tagVal === undefined) return undefined
  if (tagVal >> BigInt(PATCHED_TAG_BITS) === 0n) return undefined
  const shift = BigInt(tagLsb!)
  const whole = tagVal << shift
  const patched = (tagVal & lowMask(PATCHED_TAG_BITS)) << shift
  const message = `tag_val ${formatU64(tagVal)} has more than ${PATCHED_TAG_BITS} bits: patched code uses tag ${formatU64(patched)}, the kernel's early computation ${formatU64(whole)}`
  return { kind: 'tag-overflow', message }
}

/**
 * Whether KVM's start-up check (docs/kernel-facts.md, 4) ends in -EINVAL. Its last condition compares the page's physical
 * address with the symbol's virtual one, so it hardly ever excuses anything. False where the layout lacks a field.
 */
export function refusedAtStartUp(layout: HypLayout): boolean {
  const { idmap, kimageVoffset } = layout
  const range = hypVaRange(layout)
  if (idmap === undefined || range === undefined || kimageVoffset === 0n) return false
  return idmap >= range.start && idmap < range.end - 1n
}

function idmapInHypRange(layout: HypLayout): LayoutProblem | undefined {
  const { idmap } = layout
  const range = hypVaRange(layout)
  if (range === undefined || !refusedAtStartUp(layout)) return undefined
  const last = range.end - 1n
  const message = `idmap page ${formatU64(idmap!)} lies in the hyp VA range ${formatU64(range.start)}:${formatU64(last)}: KVM refuses to start ("IDMAP intersecting with HYP VA, unable to continue")`
  return { kind: 'idmap-in-hyp-range', message }
}

/** Linear addresses of DRAM that differ only above the mask share a hyp VA, and the way back is ambiguous. */
function dramAliases(layout: HypLayout): LayoutProblem | undefined {
  const memory = linearMemory(layout)
  if (memory === undefined) return undefined
  const { mask } = macroOf(layout)
  const first = memory.banks[0]!.start
  if (((first ^ memory.last) & ~mask) === 0n) return undefined
  const message = `linear addresses of DRAM, ${formatU64(first)} to ${formatU64(memory.last)}, differ above va_mask ${formatU64(mask)}: kern_hyp_va maps some of them to the same hyp VA`
  return { kind: 'dram-aliases', message }
}

/** Memory that an added tag carries beyond the hyp VA bits has no address at EL2, though EL1 uses it. */
function dramBeyondHypVa(layout: HypLayout): LayoutProblem | undefined {
  const memory = linearMemory(layout)
  if (memory === undefined) return undefined
  const last = applyMacro(macroOf(layout), memory.last)
  if (last < hypVaEnd(layout)) return undefined
  const message = `the linear address of DRAM's last byte, ${formatU64(memory.last)}, would have hyp VA ${formatU64(last)}, beyond ${layout.hypVaBits} bits: EL2 cannot map that memory`
  return { kind: 'dram-beyond-hyp-va', message }
}
