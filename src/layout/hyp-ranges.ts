import { lowMask, type Range } from '../u64.js'
import { linearSizeOf, widthsOf } from './address-space.js'
import { macroOf } from './macro.js'
import type { HypLayout } from './types.js'

/** Where EL2 puts its own mappings: stacks, devices, hardening vectors (docs/kernel-facts.md, 4). */
export interface PrivatePlace {
  /** nVHE uses it from the end down, pKVM from the start up. May be empty. */
  readonly range: Range
  /** The page metadata that pKVM keeps directly above. */
  readonly vmemmap?: Range
  /** Whether the kernel checks that mappings stay in `range`. */
  readonly checked: boolean
}

/**
 * Where private mappings go when they grow `down` (nVHE) or `up` (pKVM, whichever mode the layout itself has). Undefined where
 * the layout lacks a field for it.
 * @param linearSize bytes of EL1's linear map, above which overlap-top-window has its window
 */
export function privatePlace(
  layout: HypLayout,
  grows: 'down' | 'up',
  linearSize = linearSizeOfLayout(layout),
): PrivatePlace | undefined {
  const { idmap, vaBits, hypVaBits, proposal } = layout
  if (layout.mode === 'vhe' || idmap === undefined) return undefined
  if (proposal === 'overlap-top-window') {
    if (hypVaBits === undefined || linearSize === undefined) return undefined
    const window = { start: linearSize, end: 1n << BigInt(hypVaBits) }
    // The bit that the kernel's check compares is the same on both sides of the window's beginning.
    if (grows === 'down') return { range: window, checked: false }
    // The proposal is older than pKVM: halved, as pKVM halves its quarter.
    const middle = (window.start + window.end) >> 1n
    return { range: { ...window, end: middle }, vmemmap: { ...window, start: middle }, checked: true }
  }
  if (grows === 'down') {
    if (vaBits === undefined) return undefined
    return { range: { start: idmap & ~lowMask(vaBits - 1), end: idmap }, checked: true }
  }
  if (hypVaBits === undefined) return undefined
  const size = 1n << BigInt(hypVaBits - 2)
  const start = ~idmap & size
  const middle = start | (size >> 1n)
  return { range: { start, end: middle }, vmemmap: { start: middle, end: start + size }, checked: true }
}

function linearSizeOfLayout(layout: HypLayout): bigint | undefined {
  const widths = widthsOf(layout)
  return widths && linearSizeOf(widths)
}

/** Where another boot of the same machine can put linear memory at EL2. */
export interface TagSpace {
  /** tag_lsb, the number of bits below the tag (29 to 51). */
  readonly tagLsb: number
  /** The layout's own tag, in place. */
  readonly tag: bigint
  /** The half of the hyp VA space without the idmap: the same in every boot of a machine. */
  readonly region: Range
  /** Its addresses that carry the layout's own tag. */
  readonly own: Range
}

/**
 * The addresses that carry the tag of some boot. Undefined where no tag tells boots apart: in mode vhe, where no bit of the tag
 * is random, and where the width of hyp addresses is not known. Undefined as well where linear memory is in the lower half: it
 * is that of small numbers and physical addresses, which are in every trace.
 */
export function tagSpace(layout: HypLayout): TagSpace | undefined {
  const { mode, hypVaBits, tagLsb, tagVal, proposal } = layout
  if (mode === 'vhe' || proposal !== undefined) return undefined
  if (hypVaBits === undefined || tagLsb === undefined || tagVal === undefined || tagLsb >= hypVaBits - 1)
    return undefined
  const { mask, tag } = macroOf(layout)
  const half = 1n << BigInt(hypVaBits - 1)
  if (tag < half || tag >= 2n * half) return undefined
  return { tagLsb, tag, region: { start: half, end: 2n * half }, own: { start: tag, end: tag + mask + 1n } }
}

/** Room for a program, its heap and its stack, beyond their random offsets. */
const ROOM = 1n << 32n

/**
 * Where programs put their addresses, by default: an executable (and its heap) above two thirds of the user addresses, libraries
 * and stacks below their end (ELF_ET_DYN_BASE and mmap_base() of Linux).
 * @param random `default`: with the random offset that kernels have by default (a GiB); `most`: with the largest that can be
 *   configured (an eighth of the user addresses)
 */
export function userRanges({ vaBits, vaBitsActual }: HypLayout, random: 'default' | 'most'): Range[] {
  // A program gets addresses above 48 bits only when it asks for them.
  const width = BigInt(Math.min(48, vaBitsActual ?? vaBits ?? 48))
  const size = 1n << width
  const spread = random === 'default' ? ROOM : (size >> 3n) + ROOM
  const program = (2n * size) / 3n
  return [
    { start: program & ~0xffffn, end: program + spread },
    { start: size - spread, end: size },
  ]
}
