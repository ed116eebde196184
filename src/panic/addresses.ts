import { hypOffsetOf, type PrintedPanic } from '../evidence/kinds/panic.js'
import { linearOfPhys } from '../layout/address-space.js'
import type { HypLayout } from '../layout/types.js'
import { vaBitsMinOfLinkBase } from '../symbols/link-base.js'
import { wrap64 } from '../u64.js'
import type { Places } from './decoded.js'

/** No kernel image is larger; modules and the rest lie behind. */
const MOST_IMAGE = 1n << 28n
const MOST_PHYS = 1n << 52n

/**
 * The constants between the address spaces of one panic (docs/kernel-facts.md, 3), as far as log and layout tell them. Hyp Offset =
 * hyp_physvirt_offset + kimage_voffset - KASLR offset, so of these four any three give the other.
 */
export class AddressFacts {
  readonly hypOffset: bigint | undefined
  /** Hyp Offset is not in the log, but follows from where the panic was and PC. */
  readonly hypOffsetDerived: boolean
  readonly kaslrOffset: bigint | undefined
  readonly linkBase: bigint | undefined
  readonly kimageVoffset: bigint | undefined
  readonly hypPhysvirtOffset: bigint | undefined
  readonly layout: Partial<HypLayout>

  constructor(printed: PrintedPanic, layout: Partial<HypLayout>) {
    const kaslrOffset = printed.kaslrOffset ?? layout.kaslrOffset
    const { kimageVoffset, hypPhysvirtOffset, image } = layout
    const { at, ps, pc } = printed
    let hypOffset = printed.hypOffset
    if (hypOffset === undefined && at !== undefined && ps !== undefined && pc !== undefined) {
      hypOffset = hypOffsetOf(at.address, ps, pc)
    }
    this.hypOffsetDerived = printed.hypOffset === undefined && hypOffset !== undefined
    if (hypOffset === undefined && kaslrOffset !== undefined) {
      if (kimageVoffset !== undefined && hypPhysvirtOffset !== undefined) {
        hypOffset = wrap64(hypPhysvirtOffset + kimageVoffset - kaslrOffset)
      }
    }
    this.layout = layout
    this.kaslrOffset = kaslrOffset
    this.hypOffset = hypOffset
    this.linkBase =
      printed.linkBase ??
      (image !== undefined && kaslrOffset !== undefined ? wrap64(image.start - kaslrOffset) : undefined)
    const runtime = hypOffset !== undefined && kaslrOffset !== undefined ? wrap64(hypOffset + kaslrOffset) : undefined
    this.kimageVoffset =
      kimageVoffset ??
      (runtime !== undefined && hypPhysvirtOffset !== undefined ? wrap64(runtime - hypPhysvirtOffset) : undefined)
    this.hypPhysvirtOffset =
      hypPhysvirtOffset ??
      (runtime !== undefined && kimageVoffset !== undefined ? wrap64(runtime - kimageVoffset) : undefined)
  }

  /** A hyp VA of EL2's linear memory, which the image's text is part of. */
  ofHyp(hyp: bigint): Places {
    const { hypPhysvirtOffset, hypOffset, kaslrOffset } = this
    const link = hypOffset === undefined ? undefined : wrap64(hyp + hypOffset)
    const inImage = link !== undefined && this.inImage(link)
    const phys = hypPhysvirtOffset === undefined ? undefined : wrap64(hyp + hypPhysvirtOffset)
    return {
      hyp,
      ...(inImage && { link }),
      ...(inImage && kaslrOffset !== undefined && { image: wrap64(link + kaslrOffset) }),
      ...this.physical(phys),
    }
  }

  /** A kernel address: linear or image. */
  ofKernel(address: bigint, hpfarPage?: bigint): Places {
    const { kaslrOffset, kimageVoffset, hypPhysvirtOffset, hypOffset } = this
    const link = kaslrOffset === undefined ? undefined : wrap64(address - kaslrOffset)
    if (link !== undefined && this.inImage(link)) {
      const phys = kimageVoffset === undefined ? undefined : wrap64(address - kimageVoffset)
      const hyp = hypOffset === undefined ? undefined : wrap64(link - hypOffset)
      return { image: address, link, ...(hyp !== undefined && { hyp }), ...this.physical(phys) }
    }
    const phys = this.physOfLinear(address, hpfarPage)
    if (phys === undefined) return {}
    const hyp = hypPhysvirtOffset === undefined ? undefined : wrap64(phys - hypPhysvirtOffset)
    return { linear: address, phys, ...(hyp !== undefined && { hyp }) }
  }

  /** Whether a link-time address lies in the kernel image; without its size, where one can reach. */
  inImage(link: bigint): boolean {
    const { linkBase, layout } = this
    if (linkBase === undefined) return link >> 55n === 0x1ffn
    const size = layout.image === undefined ? MOST_IMAGE : layout.image.end - layout.image.start
    return link >= linkBase && link - linkBase < size
  }

  private physical(phys: bigint | undefined): Places {
    if (phys === undefined || phys >= MOST_PHYS) return {}
    const { pageOffset, physOffset } = this.layout
    if (pageOffset === undefined || physOffset === undefined) return { phys }
    return { phys, linear: linearOfPhys(pageOffset, physOffset, phys) }
  }

  /** phys = linear - PAGE_OFFSET + PHYS_OFFSET, where the log leaves PAGE_OFFSET open by what makes sense, or what HPFAR says. */
  private physOfLinear(address: bigint, hpfarPage: bigint | undefined): bigint | undefined {
    const { physOffset } = this.layout
    if (physOffset === undefined) return undefined
    const found = this.pageOffsets().flatMap((pageOffset) => {
      if (address < pageOffset || address >= this.pageEnd(pageOffset)) return []
      const phys = wrap64(address - pageOffset + physOffset)
      return phys < MOST_PHYS ? [phys] : []
    })
    // RAM beyond 2^48 is rare enough to prefer what lies below.
    return (
      found.find((phys) => hpfarPage !== undefined && phys >> 12n === hpfarPage >> 12n) ??
      found.find((phys) => phys < 1n << 48n) ??
      found[0]
    )
  }

  /**
   * Where the linear map ends at the latest: -(2^(VA_BITS_MIN - 1)); vmalloc, modules and the image lie above. Up to 5.3 it is the
   * top half.
   */
  private pageEnd(pageOffset: bigint): bigint {
    const { layout, linkBase } = this
    const linked = linkBase === undefined ? undefined : vaBitsMinOfLinkBase(linkBase)
    const least = linked ?? Math.min(layout.vaBits ?? 48, 48)
    const end = wrap64(-(1n << BigInt(least - 1)))
    return pageOffset < end ? end : 1n << 64n
  }

  /** PAGE_OFFSET, or those it may be: -(2^VA_BITS), VA_BITS being VA_BITS_MIN or 52 since 5.11. */
  private pageOffsets(): bigint[] {
    const { layout, linkBase } = this
    if (layout.pageOffset !== undefined) return [layout.pageOffset]
    const least = linkBase === undefined ? undefined : vaBitsMinOfLinkBase(linkBase)
    const widths =
      layout.vaBits !== undefined ? [layout.vaBits] : least === undefined ? [] : least >= 47 ? [least, 52] : [least]
    return widths.map((bits) => wrap64(-(1n << BigInt(bits))))
  }
}
