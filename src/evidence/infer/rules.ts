import { hypVaBitsOf, pageOffsetOf } from '../../layout/address-space.js'
import { generationOf, isSince } from '../../layout/generations.js'
import type { Generation, PageSize } from '../../layout/types.js'
import { vaBitsMinOfLinkBase } from '../../symbols/link-base.js'
import { fls64, lowMask, type Range, wrap64 } from '../../u64.js'
import type { Quantities, Quantity } from '../facts.js'
import { kernelBits } from '../kernel-address.js'

/** One step of reasoning: the value of `to` from those of `from`. */
export interface Rule {
  readonly to: Quantity
  readonly from: readonly Quantity[]
  /** Quantities that the rule uses if they are known. */
  readonly also?: readonly Quantity[]
  readonly text: string
  /** The conclusion is likely, not certain: any better evidence overrides it. */
  readonly weak?: true
  value(known: Quantities): unknown
}

/** The image keeps its place within 2 MiB when it is mapped (MIN_KIMG_ALIGN), so kimage_voffset is a multiple of it. */
const KIMAGE_ALIGN = 0x200000n
/** _stext - _text since 5.11: the image's header and stubs take one segment of 64 KiB. */
const HEAD_TEXT = 0x10000n

/**
 * VA_BITS_MIN by the significant bits of _text. Of n bits the image has n-1, or n-2 when KASLR, which adds 1/8 to 3/8 of 2^n, moved it
 * far. So 46 can be either of 47 and 48.
 */
const VA_BITS_MIN_OF_IMAGE: Readonly<Record<number, number>> = {
  34: 36,
  35: 36,
  37: 39,
  38: 39,
  40: 42,
  41: 42,
  45: 47,
  47: 48,
}

export const RULES: readonly Rule[] = [
  {
    to: 'generation',
    from: ['release'],
    text: 'the mainline version the release is named after',
    value: ({ release }) => generationOfRelease(release),
  },
  { to: 'tagLsb', from: ['vaMask'], text: 'width of va_mask', value: ({ vaMask }) => fls64(vaMask) },
  { to: 'vaMask', from: ['tagLsb'], text: '2^tag_lsb - 1', value: ({ tagLsb }) => lowMask(tagLsb) },
  {
    to: 'tagVal',
    from: ['tag', 'tagLsb'],
    text: 'tag >> tag_lsb',
    value: ({ tag, tagLsb }) => ((tag & lowMask(tagLsb)) === 0n ? tag >> BigInt(tagLsb) : undefined),
  },
  // Widths.
  {
    to: 'vaBitsMin',
    from: ['linkBase'],
    also: ['generation'],
    text: 'KIMAGE_VADDR lies just above PAGE_END',
    value: ({ linkBase, generation }) =>
      generation === undefined || isSince(generation, '5.4') ? vaBitsMinOfLinkBase(linkBase) : undefined,
  },
  {
    to: 'vaBitsMin',
    from: ['text'],
    text: 'the image is in the upper half of the kernel address space',
    weak: true,
    value: ({ text }) => VA_BITS_MIN_OF_IMAGE[kernelBits(text)],
  },
  {
    to: 'vaBitsMin',
    from: ['text', 'pageSize'],
    text: 'the image is in the upper half of the kernel address space, which has 47 bits with 16K pages only',
    weak: true,
    value: ({ text, pageSize }) => (kernelBits(text) === 46 && pageSize !== 16384 ? 48 : undefined),
  },
  {
    to: 'vaBits',
    from: ['vaBitsMin'],
    text: 'only builds with 47 or 48 bits at least can be 52-bit ones',
    value: ({ vaBitsMin }) => (vaBitsMin < 47 ? vaBitsMin : undefined),
  },
  {
    to: 'vaBits',
    from: ['physOffset', 'vaBitsMin'],
    text: 'PHYS_OFFSET is lowered by -(2^52) as only a 52-bit build does on smaller hardware',
    value: ({ physOffset, vaBitsMin }) => (vaBitsMin >= 47 && isBiased(physOffset) ? 52 : undefined),
  },
  {
    to: 'vaBitsActual',
    from: ['physOffset', 'vaBitsMin'],
    text: 'PHYS_OFFSET is lowered by -(2^52) as only a 52-bit build does on smaller hardware',
    value: ({ physOffset, vaBitsMin }) => (vaBitsMin >= 47 && isBiased(physOffset) ? vaBitsMin : undefined),
  },
  {
    // The region bit is bit 51 then, and the idmap below 2^51 whatever the machine.
    to: 'vaBitsActual',
    from: ['tag'],
    text: 'bit 51 of the tag is the region bit of 52 hyp VA bits',
    value: ({ tag }) => (fls64(tag) === 52 ? 52 : undefined),
  },
  {
    to: 'vaBitsActual',
    from: ['tag', 'vaBitsMin'],
    also: ['idmap'],
    text: 'bit 51 of the tag is clear, so fewer than 52 hyp VA bits are in use',
    value: ({ tag, vaBitsMin, idmap }) =>
      vaBitsMin >= 47 && fls64(tag) < 52 && (idmap ?? 0n) < 1n << 51n ? vaBitsMin : undefined,
  },
  {
    to: 'vaBits',
    from: ['vaBitsActual', 'vaBitsMin', 'physOffset', 'generation'],
    text: 'PHYS_OFFSET is not lowered: the hardware has all the bits of the build',
    value: ({ vaBitsActual, physOffset, generation }) =>
      isSince(generation, '5.11') && !isBiased(physOffset) ? vaBitsActual : undefined,
  },
  {
    to: 'vaBitsActual',
    from: ['vaBits'],
    text: 'a build with fewer than 52 bits uses all of them',
    value: ({ vaBits }) => (vaBits < 52 ? vaBits : undefined),
  },
  {
    to: 'vaBits',
    from: ['vaBitsActual'],
    text: 'only a 52-bit build uses 52 bits',
    value: ({ vaBitsActual }) => (vaBitsActual === 52 ? 52 : undefined),
  },
  {
    to: 'pageSize',
    from: ['vaBits'],
    text: 'the page size that goes with this VA_BITS',
    value: ({ vaBits }) => ({ 36: 16384, 39: 4096, 42: 65536, 47: 16384 })[vaBits],
  },
  {
    to: 'pageSize',
    from: ['vaBitsMin'],
    text: 'VA_BITS_MIN of 47 bits: 16K pages',
    value: ({ vaBitsMin }) => (vaBitsMin === 47 ? 16384 : undefined),
  },
  {
    to: 'pageSize',
    from: ['release'],
    text: 'the flavour in the release name',
    weak: true,
    value: ({ release }) => pageSizeOfRelease(release),
  },
  {
    to: 'hypVaBits',
    from: ['generation', 'vaBits', 'vaBitsActual'],
    text: 'hyp VA bits of this generation',
    value: ({ generation, vaBits, vaBitsActual }) => hypVaBitsOf(generation, vaBits, vaBitsActual),
  },
  {
    to: 'hypVaBits',
    from: ['vaBitsActual'],
    text: 'with 48 or 52 bits in use every generation takes those',
    value: ({ vaBitsActual }) => (vaBitsActual >= 48 ? vaBitsActual : undefined),
  },
  {
    to: 'pageOffset',
    from: ['generation', 'vaBits', 'vaBitsActual'],
    text: 'PAGE_OFFSET of this generation',
    value: ({ generation, vaBits, vaBitsActual }) => pageOffsetOf(generation, vaBits, vaBitsActual),
  },
  // The linear map.
  {
    to: 'linearShift',
    from: ['pageOffset', 'physOffset'],
    text: 'PAGE_OFFSET - PHYS_OFFSET',
    value: ({ pageOffset, physOffset }) => wrap64(pageOffset - physOffset),
  },
  {
    to: 'physOffset',
    from: ['pageOffset', 'linearShift'],
    text: 'PAGE_OFFSET less (linear - physical address)',
    value: ({ pageOffset, linearShift }) => wrap64(pageOffset - linearShift),
  },
  // The image.
  {
    to: 'text',
    from: ['linkBase', 'kaslrOffset'],
    also: ['generation'],
    text: 'KIMAGE_VADDR + KASLR offset',
    value: ({ linkBase, kaslrOffset, generation }) =>
      generation === undefined || isSince(generation, '5.9') ? wrap64(linkBase + kaslrOffset) : undefined,
  },
  {
    to: 'text',
    from: ['stext', 'generation'],
    text: '_stext is 64 KiB above _text',
    weak: true,
    value: ({ stext, generation }) => (isSince(generation, '5.11') ? stext - HEAD_TEXT : undefined),
  },
  movedByKaslr('stext', 'linkStext'),
  movedByKaslr('end', 'linkEnd'),
  movedByKaslr('idmapSymbol', 'linkIdmapSymbol'),
  {
    to: 'kimageVoffset',
    from: ['codePhys', 'stext'],
    text: 'Kernel code begins at _stext or _text: the one that is a multiple of 2 MiB away',
    value: ({ codePhys, stext }) =>
      [stext, stext - HEAD_TEXT].map((va) => wrap64(va - codePhys)).find((offset) => offset % KIMAGE_ALIGN === 0n),
  },
  {
    to: 'kimageVoffset',
    from: ['codePhys', 'text'],
    text: 'Kernel code begins at _text or _stext: the one that is a multiple of 2 MiB away',
    value: ({ codePhys, text }) =>
      [text, text + HEAD_TEXT].map((va) => wrap64(va - codePhys)).find((offset) => offset % KIMAGE_ALIGN === 0n),
  },
  {
    to: 'kimageVoffset',
    from: ['endPhys', 'end'],
    text: 'Kernel data ends at _end',
    value: ({ endPhys, end }) => {
      const offset = wrap64(end - endPhys)
      return offset % KIMAGE_ALIGN === 0n ? offset : undefined
    },
  },
  {
    to: 'end',
    from: ['endPhys', 'kimageVoffset'],
    text: 'Kernel data ends at _end',
    value: ({ endPhys, kimageVoffset }) => wrap64(endPhys + kimageVoffset),
  },
  {
    to: 'image',
    from: ['text', 'end'],
    text: 'from _text to _end',
    value: ({ text, end }) => (text < end ? ({ start: text, end } satisfies Range) : undefined),
  },
  {
    to: 'kaslrOffset',
    from: ['text', 'linkBase'],
    text: '_text - KIMAGE_VADDR',
    value: ({ text, linkBase }) => wrap64(text - linkBase),
  },
  {
    to: 'linkBase',
    from: ['text', 'kaslrOffset'],
    text: '_text - KASLR offset',
    value: ({ text, kaslrOffset }) => wrap64(text - kaslrOffset),
  },
  {
    to: 'idmap',
    from: ['idmapSymbol', 'kimageVoffset'],
    also: ['pageSize'],
    text: 'page of __hyp_idmap_text_start: image address - kimage_voffset',
    value: ({ idmapSymbol, kimageVoffset, pageSize }) => {
      const physical = wrap64(idmapSymbol - kimageVoffset)
      return physical - (physical % BigInt(pageSize ?? 4096))
    },
  },
  // EL2.
  {
    to: 'hypPhysvirtOffset',
    from: ['hypOffset', 'kimageVoffset', 'kaslrOffset'],
    text: 'Hyp Offset - kimage_voffset + KASLR offset',
    value: ({ hypOffset, kimageVoffset, kaslrOffset }) => wrap64(hypOffset - kimageVoffset + kaslrOffset),
  },
  {
    to: 'hypPhysvirtOffset',
    from: ['tagLsb', 'tagVal', 'linearShift', 'dram'],
    text: 'physical - hyp address of the first byte of DRAM',
    value: ({ tagLsb, tagVal, linearShift, dram }) => physvirtOffset(tagLsb, tagVal, linearShift, dram[0]!.start),
  },
  {
    // PAGE_OFFSET has no bits below VA_BITS and the mask none above it, so PAGE_OFFSET does not matter.
    to: 'hypPhysvirtOffset',
    from: ['tagLsb', 'tagVal', 'physOffset', 'dram'],
    text: 'physical - hyp address of the first byte of DRAM, whatever PAGE_OFFSET is',
    value: ({ tagLsb, tagVal, physOffset, dram }) =>
      physvirtOffset(tagLsb, tagVal, wrap64(-physOffset), dram[0]!.start),
  },
  {
    to: 'hypPhysvirtOffset',
    from: ['tagLsb', 'tagVal', 'linearShift', 'stext', 'kimageVoffset'],
    text: 'physical - hyp address of _stext',
    value: ({ tagLsb, tagVal, linearShift, stext, kimageVoffset }) =>
      physvirtOffset(tagLsb, tagVal, linearShift, wrap64(stext - kimageVoffset)),
  },
  {
    to: 'dram',
    from: ['coreRam', 'tagLsb', 'linearShift'],
    text: 'memory of the program headers: the kernel takes this tag_lsb from its ends',
    weak: true,
    value: ({ coreRam, tagLsb, linearShift }) => (lsbOfMemory(coreRam, linearShift) === tagLsb ? coreRam : undefined),
  },
]

function movedByKaslr(to: 'stext' | 'end' | 'idmapSymbol', from: 'linkStext' | 'linkEnd' | 'linkIdmapSymbol'): Rule {
  return {
    to,
    from: [from, 'kaslrOffset'],
    text: 'link-time address + KASLR offset',
    value: (known) => wrap64(known[from] + known.kaslrOffset),
  }
}

/** What physical - hyp address is for memory at `physical`. */
function physvirtOffset(tagLsb: number, tagVal: bigint, linearShift: bigint, physical: bigint): bigint {
  const hyp = (wrap64(physical + linearShift) & lowMask(tagLsb)) | (tagVal << BigInt(tagLsb))
  return wrap64(physical - hyp)
}

/** tag_lsb as the kernel computes it: linear addresses of the first and the last byte of DRAM first differ below it. */
export function lsbOfMemory(memory: readonly Range[], linearShift: bigint): number {
  const first = wrap64(memory[0]!.start + linearShift)
  const last = wrap64(memory.at(-1)!.end - 1n + linearShift)
  return fls64(first ^ last)
}

/**
 * memstart_addr of a 52-bit build on hardware with fewer bits: lowered by 2^52 - 2^48 or 2^52 - 2^47, and by KASLR at most by another
 * 2^47. Without the bias it is above -(2^47).
 */
function isBiased(physOffset: bigint): boolean {
  return BigInt.asIntN(64, physOffset) < -(1n << 51n)
}

/** Undefined for names that follow no rule. RHEL 8 carries the formula of 5.6 under the name of 4.18. */
function generationOfRelease(release: string): Generation | undefined {
  if (/^4\.18\.\d/.test(release) && release.includes('.el8')) return '5.6'
  try {
    return generationOf(/^\d+\.\d+/.exec(release)?.[0] ?? release)
  } catch {
    return undefined
  }
}

function pageSizeOfRelease(release: string): PageSize | undefined {
  const kilobytes = /[-+.](16|64)k\b/i.exec(release)?.[1]
  return kilobytes === undefined ? undefined : kilobytes === '16' ? 16384 : 65536
}
