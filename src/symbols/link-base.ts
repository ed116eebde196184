import { wrap64 } from '../u64.js'

/** _stext lies this far behind _text at most: 64 KiB since 5.11 or so, one page or less before. */
export const MOST_HEAD = 0x10000n

/**
 * KIMAGE_VADDR - PAGE_END in all versions: modules (and once BPF, and KASAN's shadow) lie between. An image at such a distance from
 * some PAGE_END is at its link-time place; a KASLR displacement is at least 1/32 of the space, never as small as this.
 */
const IMAGE_GAPS = [0x8000000n, 0x10000000n, 0x80000000n]
/** VA_BITS_MIN of all kernels since 5.4, which have PAGE_END at -(2^(VA_BITS_MIN - 1)). Kernels before have VA_START = -(2^VA_BITS) instead. */
const VA_BITS_MINS = [36, 39, 42, 47, 48]

/** The VA_BITS_MIN for which `base` is a KIMAGE_VADDR of Linux 5.4 or later; undefined when for none. */
export function vaBitsMinOfLinkBase(base: bigint): number | undefined {
  const end = 1n << 64n
  return VA_BITS_MINS.find((bits) => IMAGE_GAPS.includes(base - (end - (1n << BigInt(bits - 1)))))
}

/** Whether a kernel of any version is linked with _text at `text`. */
export function isLinkBase(text: bigint): boolean {
  if (vaBitsMinOfLinkBase(text) !== undefined) return true
  // Up to 5.3: VA_START = -(2^VA_BITS), then modules; the image TEXT_OFFSET (512 KiB) above that.
  const start = text - (text % 0x200000n)
  return VA_BITS_MINS.some((bits) => IMAGE_GAPS.includes(start - ((1n << 64n) - (1n << BigInt(bits)))))
}

/** Whether a kernel is linked with _text or _stext at `address`. */
export function isLinkedHead(address: bigint): boolean {
  return isLinkBase(address) || isLinkBase(wrap64(address - MOST_HEAD))
}
