// Addresses in bytes: find the tokens of a chunk, rewrite those that translate, leave every other byte as it was.
//
// A token is a maximal run of hex digits, optionally behind 0x or 0X, that no other letter, digit or underscore touches;
// 9 to 16 digits when bare, 1 to 16 behind the prefix. That is: a whole "word" of at most 18 bytes, which is why the three
// bytes in front of a chunk are all the context that a cut needs.
//
// Two steps over a tile that stays in the first-level cache. First collect, without a branch that depends on the text,
// where runs of enough digits begin; then look at each of these places. Tokens mostly keep their length (sixteen digits
// stay sixteen) and are then overwritten where they stand; from the first one that does not, the chunk is copied to `dst`.

import { alignLeft, formatHex, isHex, isWord, parseHex } from './hex'
import {
  CANDIDATES,
  MACRO,
  NO_MISS,
  RESULT,
  RESULT_CONSUMED,
  RESULT_FIRST_MISS,
  RESULT_MISSED,
  RESULT_PRODUCED,
  RESULT_TRANSLATED,
  TEXT_TILE,
} from './memory'
import { findSegment } from './segments'

/** The longest token: 0x and sixteen digits. A longer word is none, wherever it is cut. */
const LONGEST: u32 = 18
export const BARE_DIGITS: u32 = 9
export const LOWER: u32 = 39
const UPPER: u32 = 7

// State of a chunk between its tiles.
/** Where the next byte to be copied stands in the chunk, once copying has begun. */
let copied: usize = 0
/** Where it goes; 0 while everything could be done in place. */
let out: usize = 0
let translated: u64 = 0
let missed: u64 = 0

/**
 * Rewrites the tokens of the chunk [src, src + length) and stores the outcome in RESULT.
 *
 * TEXT_SLACK bytes in front of and behind the chunk are readable and writable; the last three in front are the text's
 * previous bytes (0 at its beginning). Not `last`: bytes at the end that may belong to a token going on in the next chunk
 * are not consumed. `dst` has room for 5 * length + TEXT_SLACK bytes.
 * @param segments entries of SEGMENTS to use, or 0xffffffff: apply MACRO to every token
 * @param minDigits tokens with fewer digits than this (1 … 16) are known not to translate, and are not looked at or counted
 * @returns where the text that came out stands: src or dst. RESULT has its length and what was counted.
 */
export function rewriteText(src: usize, length: u32, dst: usize, last: bool, segments: u32, minDigits: u32): usize {
  if (last) store<u8>(src + length, 0)
  const end = last ? src + length : safeEnd(src, length)
  copied = src
  out = 0
  translated = 0
  missed = 0
  store<u64>(RESULT, NO_MISS, RESULT_FIRST_MISS)
  const bareDigits = max(minDigits, BARE_DIGITS)
  for (let tile = src; tile < end; tile += TEXT_TILE) {
    const tileEnd = min(tile + TEXT_TILE, end)
    const stop = minDigits >= BARE_DIGITS
      ? collect(tile, tileEnd, end, bareDigits, false)
      : collect(tile, tileEnd, end, bareDigits, true)
    rewrite(stop, src, dst, segments, minDigits)
  }
  store<u64>(RESULT, translated, RESULT_TRANSLATED)
  store<u64>(RESULT, missed, RESULT_MISSED)
  store<u32>(RESULT, <u32>(end - src), RESULT_CONSUMED)
  if (!out) {
    store<u32>(RESULT, <u32>(end - src), RESULT_PRODUCED)
    return src
  }
  copyGap(end)
  store<u32>(RESULT, <u32>(out - dst), RESULT_PRODUCED)
  return dst
}

/** The end of what can be decided now: before the last word when it may be a token's beginning. */
export function safeEnd(src: usize, length: u32): usize {
  const end = src + length
  const limit = length > LONGEST ? end - LONGEST : src
  let at = end
  while (at > limit && isWord(load<u8>(at - 1))) at--
  // All of the last eighteen bytes are of one word: with one more in front it is too long to be a token.
  if (at == limit && limit > src && isWord(load<u8>(at - 1))) return end
  return at
}

/** Bits of 64 bytes: bit i set when byte i is a hex digit. */
// @ts-ignore: decorator
@inline
function hexBits(at: usize): u64 {
  const a = <u64>i8x16.bitmask(isHex(v128.load(at)))
  const b = <u64>i8x16.bitmask(isHex(v128.load(at, 16)))
  const c = <u64>i8x16.bitmask(isHex(v128.load(at, 32)))
  const d = <u64>i8x16.bitmask(isHex(v128.load(at, 48)))
  return a | (b << 16) | (c << 32) | (d << 48)
}

// @ts-ignore: decorator
@inline
function isX(at: usize): v128 {
  return i8x16.eq(v128.or(v128.load(at), i8x16.splat(0x20)), i8x16.splat(0x78))
}

/** Bit i set when byte i - 1 is x or X. */
// @ts-ignore: decorator
@inline
function behindX(at: usize): u64 {
  const a = <u64>i8x16.bitmask(isX(at - 1))
  const b = <u64>i8x16.bitmask(isX(at + 15))
  const c = <u64>i8x16.bitmask(isX(at + 31))
  const d = <u64>i8x16.bitmask(isX(at + 47))
  return a | (b << 16) | (c << 32) | (d << 48)
}

/**
 * Collects where in [tile, tileEnd) maximal runs of at least `digits` hex digits begin, and with `prefixed` all those
 * behind an x as well. Bytes from `end` on count as no digits.
 * @param digits 9 … 16
 * @returns where the list in CANDIDATES ends
 */
// @ts-ignore: decorator
@inline
export function collect(tile: usize, tileEnd: usize, end: usize, digits: u32, prefixed: bool): usize {
  let list = CANDIDATES
  // Bit 63 of the block before: whether a run comes in from there.
  let before = hexBits(tile - 64)
  let hex = masked(hexBits(tile), tile, end)
  const rest = <u64>(digits - 8)
  for (let at = tile; at < tileEnd; at += 64) {
    const next = masked(hexBits(at + 64), at + 64, end)
    // run8: eight digits from here on. A run may go on in the next block.
    const run2 = hex & ((hex >> 1) | (next << 63))
    const next2 = next & (next >> 1)
    const run4 = run2 & ((run2 >> 2) | (next2 << 62))
    const next4 = next2 & (next2 >> 2)
    const run8 = run4 & ((run4 >> 4) | (next4 << 60))
    const next8 = next4 & (next4 >> 4)
    let starts = run8 & ((run8 >> rest) | (next8 << (64 - rest)))
    if (prefixed) starts |= hex & behindX(at)
    starts &= ~((hex << 1) | (before >> 63))
    while (starts) {
      store<u32>(list, <u32>(at + <usize>ctz(starts)))
      list += 4
      starts &= starts - 1
    }
    before = hex
    hex = next
  }
  return list
}

/** Drops the bits of bytes at and behind `end`. */
// @ts-ignore: decorator
@inline
function masked(bits: u64, at: usize, end: usize): u64 {
  return at + 64 <= end ? bits : at >= end ? 0 : bits & ((<u64>1 << <u64>(end - at)) - 1)
}

/**
 * How many digits the run of hex digits at `at` has when it is a token of at least `minDigits`, else 0. Where no word goes on
 * in front of it, or exactly 0x, and none behind it, it is one.
 */
// @ts-ignore: decorator
@inline
export function tokenDigits(at: usize, minDigits: u32): u32 {
  const front = <u32>load<u8>(at - 1)
  let fewest = BARE_DIGITS
  if (isWord(front)) {
    if ((front | 0x20) != 0x78 || load<u8>(at - 2) != 0x30 || isWord(load<u8>(at - 3))) return 0
    fewest = 1
  }
  const n = <u32>ctz(~i8x16.bitmask(isHex(v128.load(at))) | 0x10000)
  return n < fewest || n < minDigits || isWord(load<u8>(at + n)) ? 0 : n
}

/** Where the token whose digits begin at `at` begins: at its 0x, if it has one. */
// @ts-ignore: decorator
@inline
export function tokenStart(at: usize): usize {
  return isWord(load<u8>(at - 1)) ? at - 2 : at
}

/** Goes through the candidates of a tile, in order. */
function rewrite(stop: usize, src: usize, dst: usize, segments: u32, minDigits: u32): void {
  for (let list = CANDIDATES; list < stop; list += 4) {
    const at = <usize>load<u32>(list)

    const n = tokenDigits(at, minDigits)
    if (!n) continue
    const text = v128.load(at)
    const x = parseHex(text, n)
    let y: u64
    if (segments == <u32>-1) {
      y = (x & load<u64>(MACRO)) + load<u64>(MACRO, 8)
    } else {
      const segment = findSegment(x, segments)
      if (!segment) {
        if (!missed) store<u64>(RESULT, <u64>(tokenStart(at) - src), RESULT_FIRST_MISS)
        missed++
        continue
      }
      y = x + load<u64>(segment, 16)
    }
    translated++

    const written = formatHex(y, letterCase(text, n))
    if (n == 16 && !out) {
      v128.store(at, written)
      continue
    }
    // Sixteen digits stay sixteen; a shorter token gets no leading zeros.
    const m = n == 16 ? 16 : max<u32>(1, 16 - (<u32>clz(y) >> 2))
    const digits = i8x16.swizzle(written, alignLeft(m))
    if (!out) {
      if (m == n) {
        const keep = i8x16.ge_u(alignLeft(16), i8x16.splat(<i8>n))
        v128.store(at, v128.bitselect(text, digits, keep))
        continue
      }
      out = dst
    }
    copyGap(at)
    v128.store(out, digits)
    out += m
    copied = at + n
  }
}

/** LOWER unless the n digits have A-F and no a-f. Bit 5 is what tells upper-case letters from all other digits. */
// @ts-ignore: decorator
@inline
export function letterCase(text: v128, n: u32): u32 {
  const all = ((1 << n) - 1)
  const bit5 = i8x16.bitmask(i16x8.shl(text, 2)) & all
  if (bit5 == all) return LOWER
  const bit6 = i8x16.bitmask(i16x8.shl(text, 1))
  return bit5 & bit6 ? LOWER : UPPER
}

/** Copies the text from where copying stands up to `to`, in whole vectors: both sides have slack. */
// @ts-ignore: decorator
@inline
function copyGap(to: usize): void {
  let from = copied
  let dst = out
  out += to - from
  while (from < to) {
    v128.store(dst, v128.load(from))
    from += 16
    dst += 16
  }
  copied = to
}
