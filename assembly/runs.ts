// Where runs of hex digits begin that are long enough for a token (tokens.ts): what all text kernels look at first.

import { isHex } from './hex'
import { CANDIDATES } from './scratch'

/** Digits of the shortest token without 0x. */
export const BARE_DIGITS: u32 = 9

/** Bytes that are decided on at a time. */
const STRIDE: usize = 48
/** Their bits: bit 0 is the byte in front of them. */
const STRIDE_BITS: u64 = 0x1_ffff_ffff_fffe

/** An entry of CANDIDATES: u32 where the first digit stands, u32 how many there are, 17 or more for too many. */
export const CANDIDATE_BYTES: usize = 8
export const CANDIDATE_DIGITS: usize = 4

/**
 * Collects where in [tile, tileEnd) maximal runs of hex digits begin. Of each, the seventeenth digit may not have been seen:
 * whoever takes sixteen for all of them looks at the byte behind.
 * @param rest the fewest digits of a run less eight, 1 … 8; see restOf
 * @returns the end of what is in CANDIDATES
 */
type Collect = (tile: usize, tileEnd: usize, rest: u64) => usize

/** The way to collect runs in which all tokens of `minDigits` (1 … 16) and more digits are. */
export function collectorOf(minDigits: u32): Collect {
  return minDigits == 16 ? collectSixteen : minDigits < BARE_DIGITS ? collectPrefixed : collectLong
}

/** The last argument of it. */
// @ts-ignore: decorator
@inline
export function restOf(minDigits: u32): u64 {
  return <u64>(max(minDigits, BARE_DIGITS) - 8)
}

/** Runs of sixteen digits and more; each counts as one of sixteen. */
function collectSixteen(tile: usize, tileEnd: usize, rest: u64): usize {
  return collect(tile, tileEnd, 8, false, true)
}

/** Runs of eight and `rest` digits and more. */
function collectLong(tile: usize, tileEnd: usize, rest: u64): usize {
  return collect(tile, tileEnd, rest, false, false)
}

/** These, and all that stand behind an x. */
function collectPrefixed(tile: usize, tileEnd: usize, rest: u64): usize {
  return collect(tile, tileEnd, rest, true, false)
}

// @ts-ignore: decorator
@inline
function collect(tile: usize, tileEnd: usize, rest: u64, prefixed: bool, sixteen: bool): usize {
  let list = CANDIDATES
  let first = hexBits(tile - 1)
  // A tile is an even number of strides; behind the text's end there is slack.
  for (let at = tile; at < tileEnd; at += 2 * STRIDE) {
    const middle = hexBits(at + 47)
    list = collectStride(list, at, first, middle, rest, prefixed, sixteen)
    first = hexBits(at + STRIDE + 47)
    list = collectStride(list, at + STRIDE, middle, first, rest, prefixed, sixteen)
  }
  while (list > CANDIDATES && <usize>load<u32>(list - CANDIDATE_BYTES) >= tileEnd) list -= CANDIDATE_BYTES
  return list
}

/**
 * 64 bytes, one bit each: the one in front of `at`, 48 to decide on, fifteen more, so that of whatever begins among the 48
 * there are sixteen to see.
 * @param first bits of the first sixteen, `last` of the last: each is two strides' concern
 */
// @ts-ignore: decorator
@inline
function collectStride(
  list: usize,
  at: usize,
  first: u32,
  last: u32,
  rest: u64,
  prefixed: bool,
  sixteen: bool,
): usize {
  const hex = <u64>(first | (hexBits(at + 15) << 16)) | (<u64>(hexBits(at + 31) | (last << 16)) << 32)
  const run2 = hex & (hex >> 1)
  const run4 = run2 & (run2 >> 2)
  const run8 = run4 & (run4 >> 4)
  let starts = run8 & (run8 >> rest)
  if (prefixed) {
    starts |= hex & (<u64>(xBits(at - 2) | (xBits(at + 14) << 16)) | (<u64>(xBits(at + 30) | (xBits(at + 46) << 16)) << 32))
  }
  // Mostly there is nothing; and a run that is far too long begins but once.
  if (!starts) return list
  starts &= ~(hex << 1) & STRIDE_BITS
  if (!starts) return list
  const found = <usize>popcnt(starts)
  // Three at once, whether there are so many or not: how many cannot be guessed.
  const second = starts & (starts - 1)
  let third = second & (second - 1)
  keep(list, at, starts, hex, sixteen)
  keep(list + CANDIDATE_BYTES, at, second, hex, sixteen)
  keep(list + 2 * CANDIDATE_BYTES, at, third, hex, sixteen)
  if (found > 3) {
    for (let more = list + 3 * CANDIDATE_BYTES; (third &= third - 1) != 0; more += CANDIDATE_BYTES) {
      keep(more, at, third, hex, sixteen)
    }
  }
  return list + found * CANDIDATE_BYTES
}

/** Writes the first of the runs that begin at the bits of `starts`. */
// @ts-ignore: decorator
@inline
function keep(list: usize, at: usize, starts: u64, hex: u64, sixteen: bool): void {
  const start = ctz(starts)
  store<u32>(list, <u32>(at + <usize>start - 1))
  if (!sixteen) store<u32>(list, <u32>ctz(~(hex >> start)), CANDIDATE_DIGITS)
}

/** Bit i set when byte i of the sixteen at `at` is a hex digit. */
// @ts-ignore: decorator
@inline
function hexBits(at: usize): u32 {
  return <u32>i8x16.bitmask(isHex(v128.load(at)))
}

/** Bit i set when byte i of the sixteen at `at` is x or X. */
// @ts-ignore: decorator
@inline
function xBits(at: usize): u32 {
  return <u32>i8x16.bitmask(i8x16.eq(v128.or(v128.load(at), i8x16.splat(0x20)), i8x16.splat(0x78)))
}
