import { lowMask, type Range } from '../u64.js'
import { linearSizeOf, widthsOf } from './address-space.js'
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
 * the layout does not tell.
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
