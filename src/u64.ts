import { HypvaRangeError, HypvaTypeError } from './errors.js'

/** 2^64 - 1. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn

/** A half-open range of 64-bit values. `end` may be 2^64, which is how a range reaches the last address. */
export interface Range {
  readonly start: bigint
  readonly end: bigint
}

/** Reduces modulo 2^64, the arithmetic of every formula in this project. */
export function wrap64(value: bigint): bigint {
  return BigInt.asUintN(64, value)
}

/** Number of significant bits: the kernel's `fls64()`, 0 for 0. */
export function fls64(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length
}

/** `2^bits - 1`, for 0 to 64 bits. */
export function lowMask(bits: number): bigint {
  return (1n << BigInt(bits)) - 1n
}

/**
 * Checks that `value` is a 64-bit value: a bigint in 0 … 2^64 - 1.
 * @param what names the value in the message
 * @throws HypvaTypeError (`HYPVA_U64_TYPE`) for anything but a bigint, HypvaRangeError (`HYPVA_U64_RANGE`) outside the range
 */
export function assertU64(value: unknown, what: string): asserts value is bigint {
  if (typeof value !== 'bigint') {
    throw new HypvaTypeError('HYPVA_U64_TYPE', `${what}: expected a bigint (64-bit value), got ${describe(value)}`)
  }
  if (value < 0n || value > U64_MAX) {
    throw new HypvaRangeError('HYPVA_U64_RANGE', `${what}: ${signedHex(value)} is outside 0 … 2^64 - 1`)
  }
}

/** `0x` and lower-case digits, no padding. */
export function formatU64(value: bigint): string {
  return `0x${value.toString(16)}`
}

/** A value for a message: short, on one line, its type visible. */
export function describe(value: unknown): string {
  if (typeof value === 'string') {
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)
  }
  if (typeof value === 'bigint') return `${value}n`
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'number' || typeof value === 'boolean') return `the ${typeof value} ${value}`
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`
}

function signedHex(value: bigint): string {
  return value < 0n ? `-0x${(-value).toString(16)}` : formatU64(value)
}
