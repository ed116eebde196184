import type { HypLayout } from '../layout/types.js'
import { fls64, U64_MAX } from '../u64.js'

/** What a kernel address can be, by its value: the linear map lies below PAGE_END, the image above it (since 5.4). */
type KernelKind = 'linear' | 'image' | 'either'

/** Significant bits of a kernel address: 64 less its leading ones. */
export function kernelBits(address: bigint): number {
  return fls64(U64_MAX ^ address)
}

/**
 * Tells by the address alone. In the linear map of n bits, bit n-1 is clear and all above are set. The image of an m-bit kernel
 * has m-1 significant bits or less: its own are 35, 38, 41, 46 and 47, and fewer when KASLR moved it far. Only 47 is both: the image of a
 * 48-bit kernel, or the linear map of a 47-bit one.
 * @param vaBitsMin decides that, when known
 */
export function kernelKind(address: bigint, vaBitsMin: number | undefined): KernelKind {
  const bits = kernelBits(address)
  if (vaBitsMin !== undefined) return bits < vaBitsMin ? 'image' : 'linear'
  if (bits === 47) return 'either'
  return [36, 39, 42, 48].includes(bits) || bits > 48 ? 'linear' : 'image'
}

/** vabits_actual of a kernel whose linear map has `address`; undefined when the number is none. */
export function vaBitsOfLinear(address: bigint): NonNullable<HypLayout['vaBitsActual']> | undefined {
  const bits = kernelBits(address)
  // 52 bits leave the linear map 3968 TiB: its last part has fewer significant bits, which 49 to 51 say as well.
  if (bits > 48) return 52
  return [36, 39, 42, 47, 48].includes(bits) ? bits : undefined
}
