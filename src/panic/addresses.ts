import { hypOffsetOf, type PrintedPanic } from '../evidence/kinds/panic.js'
import { convert, linkedImage } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { vaBitsMinOfLinkBase } from '../symbols/link-base.js'
import { wrap64 } from '../u64.js'
import type { Places } from './decoded.js'

/** No kernel image is larger, in bytes. */
const MOST_IMAGE = 1n << 28n
const MOST_PHYS = 1n << 52n

/**
 * Places the addresses of one panic, with the constants that log and layout give (docs/kernel-facts.md, 3). Hyp Offset =
 * hyp_physvirt_offset + kimage_voffset - KASLR offset, so any three of these four give the fourth.
 */
export class AddressFacts {
  readonly hypOffset: bigint | undefined
  /** Hyp Offset is not in the log, but follows from the address of the panic and PC. */
  readonly hypOffsetDerived: boolean
  readonly linkBase: bigint | undefined
  readonly layout: Partial<HypLayout>
  /** The layout's offsets, completed by the log; without the linear map, whose formulas hold for linear addresses only. */
  readonly offsets: Pick<HypLayout, 'kaslrOffset' | 'kimageVoffset' | 'hypPhysvirtOffset'>

  constructor(printed: PrintedPanic, layout: Partial<HypLayout>) {
    const { kaslrOffset = layout.kaslrOffset, linkBase, at, ps, pc } = printed
    const { kimageVoffset, hypPhysvirtOffset, image } = layout
    const known = { kaslrOffset, kimageVoffset, hypPhysvirtOffset, image } as HypLayout
    const derived = at && ps !== undefined && pc !== undefined ? hypOffsetOf(at.address, ps, pc) : undefined
    this.layout = layout
    this.hypOffset = printed.hypOffset ?? derived ?? convert(known, 'hyp', 'link', 0n)
    this.hypOffsetDerived = printed.hypOffset === undefined && derived !== undefined
    this.linkBase = linkBase ?? linkedImage(known)?.start
    const runtime = this.hypOffset === undefined ? undefined : convert(known, 'link', 'image', this.hypOffset)
    const other = kimageVoffset ?? hypPhysvirtOffset
    const missing = runtime === undefined || other === undefined ? undefined : wrap64(runtime - other)
    this.offsets = {
      kaslrOffset,
      kimageVoffset: kimageVoffset ?? missing,
      hypPhysvirtOffset: hypPhysvirtOffset ?? missing,
    } as HypLayout
  }

  /** A hyp VA of EL2's linear memory, which the image's text is part of. */
  ofHyp(hyp: bigint): Places {
    const { hypOffset, offsets } = this
    const link = hypOffset === undefined ? undefined : wrap64(hyp + hypOffset)
    const physical = this.physical(convert(offsets, 'hyp', 'phys', hyp))
    if (link === undefined || !this.inImage(link)) return { hyp, ...physical }
    const image = convert(offsets, 'link', 'image', link)
    return { hyp, link, ...(image !== undefined && { image }), ...physical }
  }

  /** A kernel address: linear or image. */
  ofKernel(address: bigint, hpfarPage?: bigint): Places {
    const { hypOffset, offsets } = this
    const link = convert(offsets, 'image', 'link', address)
    if (link !== undefined && this.inImage(link)) {
      const hyp = hypOffset === undefined ? undefined : wrap64(link - hypOffset)
      const physical = this.physical(convert(offsets, 'image', 'phys', address))
      return { image: address, link, ...(hyp !== undefined && { hyp }), ...physical }
    }
    const phys = this.physOfLinear(address, hpfarPage)
    if (phys === undefined) return {}
    const hyp = convert(offsets, 'phys', 'hyp', phys)
    return { linear: address, phys, ...(hyp !== undefined && { hyp }) }
  }

  /** Whether a link-time address lies in the kernel image, or, if its size is not known, in the largest possible image. */
  inImage(link: bigint): boolean {
    const { linkBase, layout } = this
    if (linkBase === undefined) return link >> 55n === 0x1ffn
    const size = layout.image === undefined ? MOST_IMAGE : layout.image.end - layout.image.start
    return link >= linkBase && link - linkBase < size
  }

  private physical(phys: bigint | undefined): Places {
    if (phys === undefined || phys >= MOST_PHYS) return {}
    const linear = convert(this.layout, 'phys', 'linear', phys)
    return { phys, ...(linear !== undefined && { linear }) }
  }

  /** Physical address of a linear one. If several PAGE_OFFSETs are possible, HPFAR decides, or else which address can exist. */
  private physOfLinear(address: bigint, hpfarPage: bigint | undefined): bigint | undefined {
    const { layout } = this
    const found = this.pageOffsets().flatMap((pageOffset) => {
      if (address < pageOffset || address >= this.pageEnd(pageOffset)) return []
      const phys = convert({ ...layout, pageOffset }, 'linear', 'phys', address)
      return phys !== undefined && phys < MOST_PHYS ? [phys] : []
    })
    // RAM beyond 2^48 is rare: prefer an address below.
    return (
      found.find((phys) => hpfarPage !== undefined && phys >> 12n === hpfarPage >> 12n) ??
      found.find((phys) => phys < 1n << 48n) ??
      found[0]
    )
  }

  /** The highest possible end of the linear map: -(2^(VA_BITS_MIN - 1)), or 2^64 up to 5.3, where it is the top half. */
  private pageEnd(pageOffset: bigint): bigint {
    const { layout, linkBase } = this
    const linked = linkBase === undefined ? undefined : vaBitsMinOfLinkBase(linkBase)
    const least = linked ?? Math.min(layout.vaBits ?? 48, 48)
    const end = wrap64(-(1n << BigInt(least - 1)))
    return pageOffset < end ? end : 1n << 64n
  }

  /** PAGE_OFFSET, or the values it may have: -(2^VA_BITS), where VA_BITS is VA_BITS_MIN or, since 5.11, 52. */
  private pageOffsets(): bigint[] {
    const { layout, linkBase } = this
    if (layout.pageOffset !== undefined) return [layout.pageOffset]
    const least = linkBase === undefined ? undefined : vaBitsMinOfLinkBase(linkBase)
    const widths =
      layout.vaBits !== undefined ? [layout.vaBits] : least === undefined ? [] : least >= 47 ? [least, 52] : [least]
    return widths.map((bits) => wrap64(-(1n << BigInt(bits))))
  }
}
