import { HypvaError, HypvaTypeError } from '../errors.js'
import { assertU64, describe, formatU64, lowMask, type Range, U64_MAX, wrap64 } from '../u64.js'
import { linearMemory } from './address-space.js'
import type { HypLayout } from './types.js'

/**
 * kern_hyp_va(x) = (x AND mask) + tag. In every layout that a kernel has had the two share no bit, and the sum is the OR of
 * the C code; a layout with a `tag` of its own relies on the carry.
 */
interface Macro {
  readonly mask: bigint
  readonly tag: bigint
}

/**
 * Mask and tag in place of a layout: M = 2^tagLsb - 1, T = tagVal * 2^tagLsb, or `tag` itself. With mode vhe the host runs
 * at EL2 and the macro is the identity: mask 2^64 - 1, tag 0.
 * @throws HypvaError `HYPVA_LAYOUT` when tagLsb is absent, or tagVal and tag both are, or out of range
 */
export function macroOf(layout: HypLayout): Macro {
  if (typeof layout !== 'object' || layout === null) {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `layout: expected an object, got ${describe(layout)}`)
  }
  if (layout.mode === 'vhe') return { mask: U64_MAX, tag: 0n }
  const { tagLsb, tagVal } = layout
  if (tagLsb === undefined || (tagVal === undefined && layout.tag === undefined)) {
    const field = tagLsb === undefined ? 'tagLsb' : 'tagVal'
    throw new HypvaError('HYPVA_LAYOUT', `layout.${field}: missing`, { field })
  }
  if (!Number.isInteger(tagLsb) || tagLsb < 1 || tagLsb > 63) {
    const message = `layout.tagLsb: expected an integer from 1 to 63, got ${tagLsb}`
    throw new HypvaError('HYPVA_LAYOUT', message, { field: 'tagLsb' })
  }
  if (tagVal === undefined) {
    assertU64(layout.tag, 'layout.tag')
    return { mask: lowMask(tagLsb), tag: layout.tag }
  }
  assertU64(tagVal, 'layout.tagVal')
  const tag = tagVal << BigInt(tagLsb)
  if (tag > U64_MAX) {
    const message = `layout.tagVal: ${formatU64(tagVal)} above tagLsb ${tagLsb} needs more than 64 bits`
    throw new HypvaError('HYPVA_LAYOUT', message, { field: 'tagVal', against: ['tagLsb'] })
  }
  return { mask: lowMask(tagLsb), tag }
}

/**
 * The kernel's macro: takes any 64-bit address and gives one, so a user, vmalloc, image or tagged address silently becomes
 * the hyp VA of some linear page. Idempotent.
 * @throws HypvaTypeError, HypvaRangeError when `address` is no 64-bit bigint; HypvaError `HYPVA_LAYOUT` as `macroOf` does
 * @example
 * kernHypVa({ tagLsb: 31, tagVal: 0x11367n }, 0xffff6f3700ef1c00n) // 0x89b380ef1c00n
 */
export function kernHypVa(layout: HypLayout, address: bigint): bigint {
  assertU64(address, 'address')
  return applyMacro(macroOf(layout), address)
}

/** The macro on any 64-bit value. */
export function applyMacro({ mask, tag }: Macro, address: bigint): bigint {
  return wrap64((address & mask) + tag)
}

/**
 * Where hyp VAs end: a sum at or above this has none. Only an added `tag` can reach it; what a tagVal makes fits, by
 * construction.
 */
export function hypVaEnd({ tag, hypVaBits }: HypLayout): bigint {
  return 1n << BigInt(tag === undefined ? 64 : (hypVaBits ?? 64))
}

/**
 * What the kernel prints as "HYP VA range" (there with an inclusive end): from kern_hyp_va(PAGE_OFFSET) through
 * kern_hyp_va(high_memory - 1), half-open here. In a broken layout it may be empty. Undefined in mode vhe and unless
 * pageOffset, physOffset and dram are known.
 */
export function hypVaRange(layout: HypLayout): Range | undefined {
  const memory = linearMemory(layout)
  if (memory === undefined || layout.mode === 'vhe') return undefined
  const macro = macroOf(layout)
  return { start: applyMacro(macro, layout.pageOffset!), end: applyMacro(macro, memory.last) + 1n }
}
