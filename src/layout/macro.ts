import { HypvaError } from '../errors.js'
import { assertU64, lowMask, type Range, U64_MAX } from '../u64.js'
import { linearMemory } from './linear.js'
import type { HypLayout } from './types.js'

/** kern_hyp_va(x) = (x AND mask) OR tag; the two share no bit. */
export interface Macro {
  readonly mask: bigint
  readonly tag: bigint
}

/**
 * Mask and tag in place of a layout: M = 2^tagLsb - 1, T = tagVal * 2^tagLsb. With mode vhe the host runs at EL2 and the
 * macro is the identity: mask 2^64 - 1, tag 0.
 * @throws HypvaError `HYPVA_LAYOUT` when tagLsb or tagVal is absent or out of its range
 */
export function macroOf(layout: HypLayout): Macro {
  if (layout.mode === 'vhe') return { mask: U64_MAX, tag: 0n }
  const { tagLsb, tagVal } = layout
  if (tagLsb === undefined || tagVal === undefined) {
    throw new HypvaError('HYPVA_LAYOUT', `layout.${tagLsb === undefined ? 'tagLsb' : 'tagVal'}: missing`)
  }
  if (!Number.isInteger(tagLsb) || tagLsb < 1 || tagLsb > 63) {
    throw new HypvaError('HYPVA_LAYOUT', `layout.tagLsb: expected an integer from 1 to 63, got ${tagLsb}`)
  }
  assertU64(tagVal, 'layout.tagVal')
  const tag = tagVal << BigInt(tagLsb)
  if (tag > U64_MAX) {
    throw new HypvaError(
      'HYPVA_LAYOUT',
      `layout.tagVal: 0x${tagVal.toString(16)} above tagLsb ${tagLsb} needs more than 64 bits`,
    )
  }
  return { mask: lowMask(tagLsb), tag }
}

/**
 * The kernel's macro: takes any 64-bit address and gives one, so a user, vmalloc, image or tagged address silently becomes
 * the hyp VA of some linear page. Idempotent.
 * @throws HypvaTypeError, HypvaRangeError when `address` is no 64-bit bigint; HypvaError `HYPVA_LAYOUT` as `macroOf` does
 */
export function kernHypVa(layout: HypLayout, address: bigint): bigint {
  assertU64(address, 'address')
  const { mask, tag } = macroOf(layout)
  return (address & mask) | tag
}

/**
 * What the kernel prints as "HYP VA range" (there with an inclusive end): from kern_hyp_va(PAGE_OFFSET) through
 * kern_hyp_va(high_memory - 1), half-open here. In a broken layout it may be empty. Undefined in mode vhe and unless
 * pageOffset, physOffset and dram are known.
 */
export function hypVaRange(layout: HypLayout): Range | undefined {
  const memory = linearMemory(layout)
  if (memory === undefined || layout.mode === 'vhe') return undefined
  const { mask, tag } = macroOf(layout)
  return { start: (layout.pageOffset! & mask) | tag, end: ((memory.last & mask) | tag) + 1n }
}
