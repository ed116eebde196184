// Addresses in bytes: find the tokens of a chunk, rewrite those that translate, leave every other byte as it was.
//
// A token is a maximal run of hex digits, optionally behind 0x or 0X, that no other letter, digit or underscore touches;
// 9 to 16 digits when bare, 1 to 16 behind the prefix. That is: a whole "word" of at most 18 bytes, which is why the three
// bytes in front of a chunk are all the context that a cut needs.
//
// Four steps over a tile that stays in the first-level cache, none with a branch that depends on the addresses:
//   collect    where runs of enough digits begin, and how long they are
//   parse      which of them are tokens, and their values
//   translate  the values, dropping what does not
//   write      digits over digits
// Tokens mostly keep their length (sixteen digits stay sixteen) and are overwritten where they stand; from the first one that
// does not, the chunk is copied to `dst`.

import {
  alignLeft,
  EVEN_NIBBLE,
  formatHex,
  isHex,
  isWordAt,
  LOW_NIBBLE,
  NINE,
  NINE_DIGIT,
  ODD_NIBBLE,
  parseHex,
  REVERSE_EVEN,
  TWICE_REVERSED,
  vector,
} from './hex'
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
  SEGMENTS,
  TEXT_TILE,
  VALUES,
} from './memory'
import { findSegment } from './segments'

// What a candidate says: digits that follow (up to 127) when collected; as a token digits (1 … 16) and two flags. Above
// these seven bits the offset of the first digit in the tile.
export const DIGIT_BITS: u32 = 7
export const TOKEN_DIGITS: u32 = 31
export const UPPER_BIT: u32 = 5
export const PREFIXED_BIT: u32 = 6

/** The longest token: 0x and sixteen digits. A longer word is none, wherever it is cut. */
const LONGEST: u32 = 18
export const BARE_DIGITS: u32 = 9

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
    const found = minDigits >= BARE_DIGITS
      ? collect(tile, tileEnd, end, bareDigits, false)
      : collect(tile, tileEnd, end, bareDigits, true)
    const tokens = parse(tile, found, minDigits)
    const hits = segments == <u32>-1 ? applyMacro(tokens) : translate(tokens, segments, tile - src)
    translated += hits
    missed += tokens - hits
    write(tile, hits, dst)
  }
  store<u64>(RESULT, translated, RESULT_TRANSLATED)
  store<u64>(RESULT, missed, RESULT_MISSED)
  store<u32>(RESULT, <u32>(end - src), RESULT_CONSUMED)
  if (!out) {
    store<u32>(RESULT, <u32>(end - src), RESULT_PRODUCED)
    return src
  }
  copyText(copied, end, out)
  store<u32>(RESULT, <u32>(out + (end - copied) - dst), RESULT_PRODUCED)
  return dst
}

/** The end of what can be decided now: before the last word when it may be a token's beginning. */
export function safeEnd(src: usize, length: u32): usize {
  const end = src + length
  const limit = length > LONGEST ? end - LONGEST : src
  let at = end
  while (at > limit && isWordAt(at - 1)) at--
  // All of the last eighteen bytes are of one word: with one more in front it is too long to be a token.
  if (at == limit && limit > src && isWordAt(at - 1)) return end
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
 * @returns how many are in CANDIDATES
 */
// @ts-ignore: decorator
@inline
export function collect(tile: usize, tileEnd: usize, end: usize, digits: u32, prefixed: bool): u32 {
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
    const offset = <u32>(at - tile)
    while (starts) {
      const start = ctz(starts)
      // The digits from there on; a run that reaches past the next block is longer than any token all the same.
      const digits = ctz(~((hex >> start) | ((next << 1) << (63 - start))))
      store<u32>(list, ((offset + <u32>start) << DIGIT_BITS) + <u32>digits)
      list += 4
      starts &= starts - 1
    }
    before = hex
    hex = next
  }
  return <u32>(list - CANDIDATES) >> 2
}

/** Drops the bits of bytes at and behind `end`. */
// @ts-ignore: decorator
@inline
function masked(bits: u64, at: usize, end: usize): u64 {
  return at + 64 <= end ? bits : at >= end ? 0 : bits & ((<u64>1 << <u64>(end - at)) - 1)
}

/** Whether the digits at `at` stand behind 0x or 0X and nothing of a word in front of that. */
// @ts-ignore: decorator
@inline
function isPrefixed(at: usize): bool {
  return (load<u8>(at - 1) | 0x20) == 0x78 && load<u8>(at - 2) == 0x30 && !isWordAt(at - 3)
}

/** Keeps the candidates that are tokens, with flags, and puts their values into VALUES. Returns how many. */
export function parse(tile: usize, found: u32, minDigits: u32): u32 {
  const nineDigit = vector(NINE_DIGIT)
  const nine = vector(NINE)
  const lowNibble = vector(LOW_NIBBLE)
  const reverseEven = vector(REVERSE_EVEN)
  const fewestBare = max(minDigits, BARE_DIGITS)
  const stop = CANDIDATES + (<usize>found << 2)
  let tokens: u32 = 0
  for (let list = CANDIDATES; list < stop; list += 4) {
    const candidate = load<u32>(list)
    const at = tile + <usize>(candidate >> DIGIT_BITS)
    const n = candidate & ((1 << DIGIT_BITS) - 1)
    if (n > 16 || isWordAt(at + n)) continue
    // At most sixteen digits: the bits of the flags are free.
    let token = candidate
    if (isWordAt(at - 1)) {
      if (!isPrefixed(at) || n < minDigits) continue
      token |= 1 << PREFIXED_BIT
    } else if (n < fewestBare) {
      continue
    }
    const text = v128.load(at)
    const all = (1 << n) - 1
    // Bit 5 is what tells upper-case letters from all other digits.
    if ((i8x16.bitmask(i16x8.shl(text, 2)) & all) != all && !hasLower(text, all)) token |= 1 << UPPER_BIT
    store<u64>(VALUES + (<usize>tokens << 3), parseHex(text, n, nineDigit, nine, lowNibble, reverseEven))
    store<u32>(CANDIDATES + (<usize>tokens << 2), token)
    tokens++
  }
  return tokens
}

/** Whether one of the digits that `all` has a bit for is one of a-f: bits 5 and 6 are set. */
// @ts-ignore: decorator
@inline
function hasLower(text: v128, all: i32): bool {
  return (i8x16.bitmask(v128.and(i16x8.shl(text, 1), i16x8.shl(text, 2))) & all) != 0
}

/** The macro for all values. */
function applyMacro(tokens: u32): u32 {
  const mask = load<u64>(MACRO)
  const tag = load<u64>(MACRO, 8)
  for (let i: u32 = 0; i < tokens; i++) {
    const at = VALUES + (<usize>i << 3)
    store<u64>(at, (load<u64>(at) & mask) + tag)
  }
  return tokens
}

/** Translates the values and keeps those in a segment, with their tokens. `offset` is the tile's in the chunk. */
function translate(tokens: u32, segments: u32, offset: usize): u32 {
  if (segments <= 2) return translateByTwo(tokens, segments, offset)
  let hits: u32 = 0
  let firstMiss = u32.MAX_VALUE
  for (let i: u32 = 0; i < tokens; i++) {
    const x = load<u64>(VALUES + (<usize>i << 3))
    const token = load<u32>(CANDIDATES + (<usize>i << 2))
    const segment = findSegment(x, segments)
    store<u64>(VALUES + (<usize>hits << 3), x + load<u64>(segment, 16))
    store<u32>(CANDIDATES + (<usize>hits << 2), token)
    firstMiss = min(firstMiss, segment ? u32.MAX_VALUE : token)
    hits += <u32>(segment != 0)
  }
  if (hits < tokens) noteMiss(firstMiss, offset)
  return hits
}

/** The same for one or two segments, the usual number: what is looked at stays in registers. */
function translateByTwo(tokens: u32, segments: u32, offset: usize): u32 {
  const start0 = load<u64>(SEGMENTS)
  const size0 = load<u64>(SEGMENTS, 8)
  const delta0 = load<u64>(SEGMENTS, 16)
  const start1 = load<u64>(SEGMENTS, 24)
  const size1 = segments < 2 ? 0 : load<u64>(SEGMENTS, 32)
  const delta1 = load<u64>(SEGMENTS, 40)
  let hits: u32 = 0
  // Tokens come in the order of the text, and a token's offset makes the larger part of it.
  let firstMiss = u32.MAX_VALUE
  for (let i: u32 = 0; i < tokens; i++) {
    const x = load<u64>(VALUES + (<usize>i << 3))
    const token = load<u32>(CANDIDATES + (<usize>i << 2))
    const in0 = x - start0 < size0
    const hit = <u32>in0 | <u32>(x - start1 < size1)
    store<u64>(VALUES + (<usize>hits << 3), x + select(delta0, delta1, in0))
    store<u32>(CANDIDATES + (<usize>hits << 2), token)
    firstMiss = min(firstMiss, select<u32>(u32.MAX_VALUE, token, hit))
    hits += hit
  }
  if (hits < tokens) noteMiss(firstMiss, offset)
  return hits
}

/** Keeps where the chunk's first miss stands: `token` is the first of a tile. */
function noteMiss(token: u32, offset: usize): void {
  if (load<u64>(RESULT, RESULT_FIRST_MISS) != NO_MISS) return
  const at = offset + <usize>(token >> DIGIT_BITS) - <usize>(((token >> PREFIXED_BIT) & 1) << 1)
  store<u64>(RESULT, <u64>at, RESULT_FIRST_MISS)
}

/** Writes the values over their tokens, or copies the text with them. */
function write(tile: usize, hits: u32, dst: usize): void {
  const done: u32 = out ? 0 : writeInPlace(tile, hits)
  if (done == hits) return
  if (!out) out = dst
  const twiceReversed = vector(TWICE_REVERSED)
  const evenNibble = vector(EVEN_NIBBLE)
  const oddNibble = vector(ODD_NIBBLE)
  let from = copied
  let to = out
  for (let i = done; i < hits; i++) {
    const token = load<u32>(CANDIDATES + (<usize>i << 2))
    const y = load<u64>(VALUES + (<usize>i << 3))
    const at = tile + <usize>(token >> DIGIT_BITS)
    const n = token & TOKEN_DIGITS
    copyText(from, at, to)
    to += at - from
    // Sixteen digits stay sixteen; a shorter token gets no leading zeros.
    const m = n == 16 ? 16 : max<u32>(1, 16 - (<u32>clz(y) >> 2))
    const written = formatHex(y, <bool>((token >> UPPER_BIT) & 1), twiceReversed, evenNibble, oddNibble)
    v128.store(to, i8x16.swizzle(written, alignLeft(m)))
    to += m
    from = at + n
  }
  copied = from
  out = to
}

/** Writes values that have as many digits as their tokens, up to the first that has not. Returns how many. */
function writeInPlace(tile: usize, hits: u32): u32 {
  const twiceReversed = vector(TWICE_REVERSED)
  const evenNibble = vector(EVEN_NIBBLE)
  const oddNibble = vector(ODD_NIBBLE)
  for (let i: u32 = 0; i < hits; i++) {
    const token = load<u32>(CANDIDATES + (<usize>i << 2))
    const y = load<u64>(VALUES + (<usize>i << 3))
    const at = tile + <usize>(token >> DIGIT_BITS)
    const n = token & TOKEN_DIGITS
    const written = formatHex(y, <bool>((token >> UPPER_BIT) & 1), twiceReversed, evenNibble, oddNibble)
    if (n == 16) {
      v128.store(at, written)
    } else {
      const m = max<u32>(1, 16 - (<u32>clz(y) >> 2))
      if (m != n) return i
      overwrite(at, n, i8x16.swizzle(written, alignLeft(m)), written)
    }
  }
  return hits
}

/**
 * Puts n digits (1 … 15) over those at `at`, touching nothing behind them: what follows is about to be loaded, and a load
 * that meets a store half-way waits for it.
 * @param first the digits from the front on
 * @param last the same at the end of the vector
 */
// @ts-ignore: decorator
@inline
function overwrite(at: usize, n: u32, first: v128, last: v128): void {
  if (n >= 8) {
    v128.store64_lane(at, first, 0)
    v128.store64_lane(at + n - 8, last, 1)
  } else if (n >= 4) {
    v128.store32_lane(at, first, 0)
    v128.store32_lane(at + n - 4, last, 3)
  } else {
    store<u8>(at, i8x16.extract_lane_u(first, 0))
    if (n >= 2) v128.store16_lane(at + n - 2, last, 7)
  }
}

/** Copies [from, end) to `to`, in whole vectors: both sides have slack. */
// @ts-ignore: decorator
@inline
export function copyText(from: usize, end: usize, to: usize): void {
  while (from < end) {
    v128.store(to, v128.load(from))
    from += 16
    to += 16
  }
}
