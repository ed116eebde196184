import { HypvaError, HypvaRangeError, HypvaTypeError } from '../errors.js'
import { describe, formatU64, lowMask } from '../u64.js'
import { macroOf } from './macro.js'
import type { HypLayout } from './types.js'

/** What `decodePatch` finds in five instruction words. */
export type PatchResult =
  /** Mask and tag in place, as a kernel patches them. AND-only code (no tag) has tagVal 0. */
  | {
      readonly kind: 'patched'
      readonly tagLsb: number
      readonly tagVal: bigint
      readonly vaMask: bigint
      readonly register: number
    }
  /** The placeholder that the compiler emitted: a kernel image on disk, or one not patched yet. */
  | { readonly kind: 'unpatched'; readonly register: number }
  /** Five NOPs: the host runs at EL2. */
  | { readonly kind: 'vhe' }
  /** Words that no kernel writes. */
  | { readonly kind: 'inconsistent'; readonly reason: string }

const NOP = 0xd503_201f
const AND = 0x9240_0000
const ROR = 0x93c0_0000
const ADD = 0x9100_0000
/** ADD with its immediate shifted left by 12. */
const ADD_LSL12 = 0x9140_0000
/** AND #1; ROR #1; ADD #0; ADD #0, lsl 12; ROR #63: what stands in an image before it is patched. */
const PLACEHOLDER = [0x9240_0000, 0x93c0_0400, 0x9100_0000, 0x9140_0000, 0x93c0_fc00]

/**
 * The five A64 words that a kernel (4.17 and later) puts in place of kern_hyp_va: AND, ROR, ADD, ADD, ROR on one register.
 * Without a tag only the AND stays and four NOPs follow, in every generation; in mode vhe all five are NOPs. 24 bits of
 * tag fit: of a larger tag the kernel encodes the low 24, as this does, and its address computation then differs from
 * `kernHypVa` (`layoutProblems` reports `tag-overflow`).
 * @param register 0 to 30
 * @returns five unsigned 32-bit words
 * @throws HypvaTypeError, HypvaRangeError `HYPVA_ARGUMENT` for a bad register; HypvaError `HYPVA_LAYOUT` without mask and tag,
 *   `HYPVA_PATCH` for a layout with a `tag` in place, which no kernel has patched in
 * @example
 * const words = encodePatch({ tagLsb: 33, tagVal: 0x24n }, 0)
 * words // [0x92408000, 0x93c08400, 0x91009000, 0x91000000, 0x93c07c00]
 */
export function encodePatch(layout: HypLayout, register: number): number[] {
  if (typeof register !== 'number' || !Number.isInteger(register)) {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `register: expected an integer from 0 to 30, got ${describe(register)}`)
  }
  if (register < 0 || register > 30) {
    throw new HypvaRangeError('HYPVA_ARGUMENT', `register: expected 0 to 30, got ${register}`)
  }
  if (layout.mode === 'vhe') return [NOP, NOP, NOP, NOP, NOP]
  macroOf(layout)
  if (layout.tag !== undefined) {
    throw new HypvaError('HYPVA_PATCH', 'layout.tag: the patched code carries a tagVal, no tag in place')
  }
  const tagLsb = layout.tagLsb!
  const tagVal = layout.tagVal!
  const and = (AND | ((tagLsb - 1) << 10) | operands(register)) >>> 0
  if (tagVal === 0n) return [and, NOP, NOP, NOP, NOP]
  return [and, ror(tagLsb, register), ...addWords(tagVal, register), ror(64 - tagLsb, register)]
}

/**
 * Reads mask and tag back from five words: exactly what a kernel writes, and nothing else, is `patched`.
 * @param words five unsigned 32-bit words
 * @throws HypvaTypeError, HypvaRangeError `HYPVA_ARGUMENT` unless `words` is five unsigned 32-bit integers
 * @example
 * decodePatch([0x92408000, 0x93c08400, 0x91009000, 0x91000000, 0x93c07c00]).tagVal // 0x24n
 */
export function decodePatch(words: ArrayLike<number>): PatchResult {
  if (words?.length !== 5) {
    throw new HypvaError('HYPVA_ARGUMENT', `words: expected five instruction words, got ${describeLength(words)}`)
  }
  const code = Array.from(words)
  code.forEach(assertWord)
  if (code.every((word) => word === NOP)) return { kind: 'vhe' }

  const register = code[0]! & 31
  if (code.every((word, i) => word === unpatchedWord(i, register)) && register !== 31) {
    return { kind: 'unpatched', register }
  }
  const tagLsb = ((code[0]! >>> 10) & 63) + 1
  const and = (AND | ((tagLsb - 1) << 10) | operands(register)) >>> 0
  if (code[0] !== and || register === 31 || tagLsb === 64) {
    return inconsistent(0, code, 'no AND of a register (x0 to x30) with a mask of 1 to 63 low bits')
  }
  const rest = code.slice(1)
  if (rest.every((word) => word === NOP)) return patched(tagLsb, 0n, register)

  if (code[1] !== ror(tagLsb, register)) return inconsistent(1, code, `not ROR x${register}, x${register}, #${tagLsb}`)
  const low = (code[2]! >>> 10) & 0xfff
  const high = (code[3]! >>> 10) & 0xfff
  const tagVal = BigInt(low) | (BigInt(high) << 12n)
  const [add, addHigh] = addWords(tagVal, register)
  if (code[2] !== add) return inconsistent(2, code, `not ADD x${register}, x${register}, #imm without a shift`)
  if (code[3] !== addHigh) {
    const form = high === 0 ? '#0 without a shift' : '#imm, lsl #12'
    return inconsistent(3, code, `not ADD x${register}, x${register}, ${form}`)
  }
  if (code[4] !== ror(64 - tagLsb, register)) {
    return inconsistent(4, code, `not ROR x${register}, x${register}, #${64 - tagLsb}`)
  }
  if (tagVal >> BigInt(64 - tagLsb) !== 0n) {
    return { kind: 'inconsistent', reason: `tag_val ${formatU64(tagVal)} does not fit above tag_lsb ${tagLsb}` }
  }
  return patched(tagLsb, tagVal, register)
}

function patched(tagLsb: number, tagVal: bigint, register: number): PatchResult {
  return { kind: 'patched', tagLsb, tagVal, vaMask: lowMask(tagLsb), register }
}

function inconsistent(index: number, code: readonly number[], what: string): PatchResult {
  return {
    kind: 'inconsistent',
    reason: `word ${index + 1} (${code[index]!.toString(16).padStart(8, '0')}) is ${what}`,
  }
}

/** The register as source and as destination. */
function operands(register: number): number {
  return (register << 5) | register
}

function ror(amount: number, register: number): number {
  return (ROR | (register << 16) | (amount << 10) | operands(register)) >>> 0
}

/** The second ADD has its shift bit only where it adds something. */
function addWords(tagVal: bigint, register: number): [number, number] {
  const low = Number(tagVal & 0xfffn)
  const high = Number((tagVal >> 12n) & 0xfffn)
  return [
    (ADD | (low << 10) | operands(register)) >>> 0,
    ((high === 0 ? ADD : ADD_LSL12) | (high << 10) | operands(register)) >>> 0,
  ]
}

function unpatchedWord(index: number, register: number): number {
  const source = index === 1 || index === 4 ? register << 16 : 0
  return (PLACEHOLDER[index]! | source | operands(register)) >>> 0
}

function assertWord(word: unknown, index: number): void {
  if (typeof word !== 'number' || !Number.isInteger(word)) {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `words[${index}]: expected a 32-bit integer, got ${describe(word)}`)
  }
  if (word < 0 || word > 0xffff_ffff) {
    throw new HypvaRangeError('HYPVA_ARGUMENT', `words[${index}]: expected 0 to 0xffffffff, got ${word}`)
  }
}

function describeLength(words: ArrayLike<number>): string {
  return typeof words?.length === 'number' ? `${words.length}` : describe(words)
}
