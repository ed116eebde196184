import { formatU64, type Range, wrap64 } from '../u64.js'
import { linearSizeOf, memstartAlignOf, physOffsetBiasOf, widthsOf } from './address-space.js'
import { isSince } from './generations.js'
import { joinTouching, rangeText } from './ranges.js'
import { imageInMemory } from './spaces.js'
import type { HypLayout } from './types.js'

/** A field with a value that it has on no machine. */
export interface Impossibility {
  readonly field: keyof HypLayout
  /** Where in the field: `dram[1].end`; absent for the field as a whole. */
  readonly path?: string
  /** The value: a bigint, or a range. */
  readonly value: bigint | Range
  /** The fields that contradict it; none where the architecture or the kernel's build does. */
  readonly against: readonly (keyof HypLayout)[]
  /** The value is impossible whatever the other fields are. */
  readonly alone?: boolean
  /** The mistake, with the numbers; follows `path` and a colon in a message. */
  readonly text: string
  /** The condition it breaks: "must lie in DRAM, 0x40000000–0xbfffffff". */
  readonly wanted: string
}

/** Bits of a physical address with LPA or LPA2; no arm64 machine has more (PHYS_MASK of the largest build). */
const MAX_PHYS_BITS = 52
const PHYS_END = 1n << BigInt(MAX_PHYS_BITS)

/** MIN_KIMG_ALIGN. A virtual address of the image equals its physical address modulo this, KASLR or not. */
const KIMAGE_ALIGN = 0x200000n

/** The smallest linear map that a kernel has: 16K pages with 36 bits. */
const SMALLEST_LINEAR_MAP = 1n << 35n
/** No kernel of 5.15 or later has a larger one below EL2 (88053ec8cb1b); larger ones are judged as if they had this size. */
const LARGEST_LINEAR_MAP = 1n << 51n

/** A check of the known fields; it finds nothing where a field that it needs is not known. */
type Rule = (facts: Partial<HypLayout>) => Impossibility | undefined

/** The idmap page is a page. */
export const idmapNotAligned: Rule = ({ idmap, pageSize }) => {
  const page = pageSize ?? 4096
  if (idmap === undefined || idmap % BigInt(page) === 0n) return undefined
  return {
    field: 'idmap',
    value: idmap,
    against: pageSize === undefined ? [] : ['pageSize'],
    text: `${formatU64(idmap)} is not aligned to pages of ${page} bytes`,
    wanted: `must be aligned to pages of ${page} bytes`,
  }
}

export const dramNotPhysical: Rule = ({ dram = [] }) => {
  const index = dram.findIndex(({ end }) => end > PHYS_END)
  if (index < 0) return undefined
  const bank = dram[index]!
  return {
    field: 'dram',
    path: `dram[${index}].end`,
    value: bank,
    against: [],
    text: `${formatU64(bank.end)} is beyond 2^${MAX_PHYS_BITS}, where physical addresses end`,
    wanted: `must lie below 2^${MAX_PHYS_BITS}, where physical addresses end`,
  }
}

/**
 * DRAM is whole pages of the kernel's size. The kernel trims the memory that firmware reports
 * (early_init_dt_add_memory_arch, EFI's reserve_regions), and /proc/iomem and the boot log show page frames: even where
 * no-map memory of 4 KiB granularity cuts a bank of a 64K kernel, request_standard_resources() rounds the parts to pages.
 */
const dramNotWholePages: Rule = ({ dram = [], pageSize }) => {
  const size = pageSize ?? 4096
  const page = BigInt(size)
  const index = dram.findIndex(({ start, end }) => start % page !== 0n || end % page !== 0n)
  if (index < 0) return undefined
  const bank = dram[index]!
  const { start, end } = bank
  const common: Pick<Impossibility, 'field' | 'value' | 'against' | 'wanted'> = {
    field: 'dram',
    value: bank,
    against: pageSize === undefined ? [] : ['pageSize'],
    wanted: `must be whole pages of ${size} bytes`,
  }
  if (end % page === page - 1n) {
    const text = `${formatU64(end)} looks like the bank's last byte, as /proc/iomem gives it; an end is the first byte behind it, ${formatU64(end + 1n)}`
    return { ...common, path: `dram[${index}].end`, text }
  }
  const whole = { start: start + ((page - (start % page)) % page), end: end - (end % page) }
  const kept = whole.start < whole.end ? `${formatU64(whole.start)} to ${formatU64(whole.end)} of it` : 'nothing of it'
  const text = `${formatU64(start)} to ${formatU64(end)} is not whole pages of ${size} bytes: a kernel keeps ${kept}`
  return { ...common, path: `dram[${index}]`, text }
}

const kimageVoffsetNotAligned: Rule = ({ kimageVoffset }) => {
  if (kimageVoffset === undefined || kimageVoffset % KIMAGE_ALIGN === 0n) return undefined
  const multiple = 'a multiple of 2 MiB: the kernel maps its image with the same offset into 2 MiB as in memory'
  return {
    field: 'kimageVoffset',
    value: kimageVoffset,
    against: [],
    text: `${formatU64(kimageVoffset)} is not ${multiple}`,
    wanted: `must be ${multiple}`,
  }
}

/**
 * EFI_KIMG_ALIGN: the image is moved by segments of 64 KiB. Until 5.7 CONFIG_RANDOMIZE_TEXT_OFFSET could shift it by single
 * pages, so where the generation may be older only the page counts.
 */
function imageAlign({ generation }: Partial<HypLayout>): bigint {
  return generation !== undefined && isSince(generation, '5.9') ? 0x10000n : 0x1000n
}

const kaslrOffsetNotAligned: Rule = (facts) => {
  const { kaslrOffset } = facts
  const align = imageAlign(facts)
  if (kaslrOffset === undefined || kaslrOffset % align === 0n) return undefined
  const multiple = `a multiple of ${align >> 10n} KiB: KASLR moves the image in such steps`
  return {
    field: 'kaslrOffset',
    value: kaslrOffset,
    against: align === 0x1000n ? [] : ['generation'],
    text: `${formatU64(kaslrOffset)} is not ${multiple}`,
    wanted: `must be ${multiple}`,
  }
}

const imageNotAligned: Rule = (facts) => {
  const { image } = facts
  const align = imageAlign(facts)
  if (image === undefined || image.start % align === 0n) return undefined
  return {
    field: 'image',
    path: 'image.start',
    value: image,
    against: align === 0x1000n ? [] : ['generation'],
    text: `${formatU64(image.start)} is not aligned to ${align >> 10n} KiB, as _text is`,
    wanted: `must start at a multiple of ${align >> 10n} KiB, as _text does`,
  }
}

/** The image is one piece of DRAM; touching banks are one. */
const imageNotInDram: Rule = (facts) => {
  const { image, dram } = facts
  const memory = imageInMemory(facts)
  if (image === undefined || memory === undefined || dram === undefined) return undefined
  if (joinTouching(dram).some(({ start, end }) => start <= memory.start && memory.end <= end)) return undefined
  return {
    field: 'kimageVoffset',
    value: facts.kimageVoffset!,
    against: ['image', 'dram'],
    text: `it puts the kernel image at ${rangeText(memory)}, which is not in DRAM (${banksText(dram)})`,
    wanted: `must put the kernel image, ${rangeText(image)}, into DRAM, ${banksText(dram)} (or the list of memory is incomplete)`,
  }
}

const idmapNotInImage: Rule = (facts) => {
  const { idmap } = facts
  const memory = imageInMemory(facts)
  if (idmap === undefined || memory === undefined || (memory.start <= idmap && idmap < memory.end)) return undefined
  return {
    field: 'idmap',
    value: idmap,
    against: ['image', 'kimageVoffset'],
    alone: idmap >= PHYS_END,
    text: `the page at ${formatU64(idmap)} is outside the kernel image, which kimageVoffset puts at ${rangeText(memory)}`,
    wanted: `must lie in the kernel image, which kimageVoffset puts at ${rangeText(memory)}`,
  }
}

const idmapNotInDram: Rule = ({ idmap, dram }) => {
  if (idmap === undefined || dram === undefined) return undefined
  if (dram.some(({ start, end }) => start <= idmap && idmap < end)) return undefined
  return {
    field: 'idmap',
    value: idmap,
    against: ['dram'],
    alone: idmap >= PHYS_END,
    text: `the page at ${formatU64(idmap)} is outside DRAM (${banksText(dram)})`,
    wanted: `must lie in DRAM, ${banksText(dram)}`,
  }
}

/** Checks the idmap page where the layout has neither DRAM nor image that it could lie in. */
const idmapNotPhysical: Rule = ({ idmap }) => {
  if (idmap === undefined || idmap < PHYS_END) return undefined
  return {
    field: 'idmap',
    value: idmap,
    against: [],
    text: `${formatU64(idmap)} is no physical address: those have at most ${MAX_PHYS_BITS} bits`,
    wanted: `must be a physical address, of at most ${MAX_PHYS_BITS} bits`,
  }
}

/**
 * memstart_addr is DRAM's first address rounded down; KASLR lowers it, and so does a 52-bit build on smaller hardware. Only where
 * the linear map is too small for all of DRAM does the kernel give up memory at the bottom instead. Until 4.5 it gave up
 * all that lay below itself, so that generation is not judged.
 */
const physOffsetAboveDram: Rule = (facts) => {
  const { physOffset, dram, generation, pageSize = 4096 } = facts
  const first = dram?.[0]
  if (physOffset === undefined || dram === undefined || first === undefined || generation === '3.11') return undefined
  const widths = widthsOf(facts)
  const lowered = widths === undefined ? 0n : physOffsetBiasOf(widths)
  const memstart = BigInt.asIntN(64, physOffset + lowered)
  if (memstart <= first.start) return undefined
  const size = widths === undefined ? SMALLEST_LINEAR_MAP : linearSizeOf(widths)
  const span = dram.at(-1)!.end - (first.start - (first.start % memstartAlignOf(pageSize)))
  if (span > (size < LARGEST_LINEAR_MAP ? size : LARGEST_LINEAR_MAP)) return undefined
  const most = formatU64(wrap64(first.start - lowered))
  const why =
    lowered === 0n
      ? ', where DRAM begins'
      : `: DRAM begins at ${formatU64(first.start)}, and a 52-bit build on smaller hardware lowers physOffset by ${formatU64(lowered)}`
  return {
    field: 'physOffset',
    value: physOffset,
    against: ['dram'],
    text: `${formatU64(physOffset)} is above ${most}${why}`,
    wanted: `must be at most ${most}${why}`,
  }
}

/**
 * One rule for each thing that no machine has, such as an idmap page outside DRAM or an image that is not aligned. Rules about
 * one field come before those about several.
 */
export const IMPOSSIBLE: readonly Rule[] = [
  idmapNotAligned,
  dramNotPhysical,
  dramNotWholePages,
  kimageVoffsetNotAligned,
  kaslrOffsetNotAligned,
  imageNotAligned,
  imageNotInDram,
  idmapNotInDram,
  idmapNotInImage,
  idmapNotPhysical,
  physOffsetAboveDram,
]

/** A machine has few banks, a crafted file may have a million. */
const MOST_BANKS = 8

function banksText(dram: readonly Range[]): string {
  const shown = dram.slice(0, MOST_BANKS).map(rangeText)
  if (dram.length > MOST_BANKS) shown.push(`and ${dram.length - MOST_BANKS} more`)
  return shown.join(', ')
}
