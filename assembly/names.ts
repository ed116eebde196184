// Addresses to symbols. The host has put a sorted table into its heap (NAMES of memory.ts says where):
//
//   starts   u64 each, ascending, no two equal. Entry i covers [start i, start i+1); the last one covers nothing.
//   texts    u32 each: where the entry's text stands; 0 for a hole (behind the image, between modules), which has no name.
//            A text is {u16 length, u16 length, bytes, bytes}: what stands in front of the offset's digits and behind them,
//            as in "vectors+0x" and "/0x800". Only nameText reads it.
//   buckets  u32 each: for the addresses [base + b << shift, base + (b + 1) << shift) the entry that holds the first of
//            them, and one more at the end. So a lookup is one load and a search among the few entries of a bucket.
//
// The table speaks of one address space; NAME_SEGMENTS lead there from all the others.

import { digitsOf, digitTable, LOW_NIBBLE, reversal, vector } from './hex'
import {
  BY_MACRO, BY_NAME, LINE_BYTES, MACRO, NAME_SEGMENTS, NAMES, NAMES_BASE, NAMES_BUCKETS, NAMES_SHIFT, NAMES_SPAN,
  NAMES_STARTS, NAMES_TEXTS, NO_ENTRY, RESULT, RESULT_CONSUMED, RESULT_FIRST_MISS, RESULT_MISSED, RESULT_PRODUCED,
  RESULT_TRANSLATED, RESULT_WATCHED, SEGMENT_BYTES, SEGMENTS, WATCH,
} from './memory'
import { NO_MISS, TEXT_TILE, TOKENS, VALUES } from './scratch'
import { findSegment, isWatched } from './segments'
import { copyText } from './text'
import { decidedEnd, DIGIT_BITS, findTokens, PREFIXED_BIT, TOKEN_DIGITS, UPPER_BIT } from './tokens'

/** The entry that covers y, hole or not, or NO_ENTRY. */
// @ts-ignore: decorator
@inline
function findEntry(y: u64): u32 {
  const at = y - load<u64>(NAMES, NAMES_BASE)
  if (at >= load<u64>(NAMES, NAMES_SPAN)) return NO_ENTRY
  const starts = <usize>load<u32>(NAMES, NAMES_STARTS)
  const bucket = <usize>load<u32>(NAMES, NAMES_BUCKETS) + (<usize>(at >> <u64>load<u32>(NAMES, NAMES_SHIFT)) << 2)
  let low = load<u32>(bucket)
  let size = load<u32>(bucket, 4) - low + 1
  // Without a branch on what was found: which half it is cannot be guessed.
  while (size > 1) {
    const half = size >> 1
    low = select<u32>(low + half, low, load<u64>(starts + (<usize>(low + half) << 3)) <= y)
    size -= half
  }
  return low
}

/** Where the text of the entry stands, 0 for a hole or none. */
// @ts-ignore: decorator
@inline
function textOf(entry: u32): usize {
  return entry == NO_ENTRY ? 0 : <usize>load<u32>(<usize>load<u32>(NAMES, NAMES_TEXTS) + (<usize>entry << 2))
}

/**
 * Looks up `count` u64 at `src`: writes to `entries` the entry (u32) that each lies in, or NO_ENTRY, and to `offsets` how
 * far behind its start (u32). Outside NAME_SEGMENTS and in a hole there is none.
 * @param before 1: of each address less one, the offset counted from the address itself, as %pB does for return
 * addresses; else 0
 */
export function nameBatch(src: usize, entries: usize, offsets: usize, count: u32, segments: u32, before: u32): void {
  store<u64>(RESULT, NO_MISS, RESULT_FIRST_MISS)
  const starts = <usize>load<u32>(NAMES, NAMES_STARTS)
  let hits: u64 = 0
  for (let i: u32 = 0; i < count; i++) {
    const x = load<u64>(src + (<usize>i << 3)) - <u64>before
    const segment = findSegment(x, segments, NAME_SEGMENTS)
    let entry = NO_ENTRY
    let offset: u64 = 0
    if (segment) {
      const y = x + load<u64>(segment, 16)
      entry = findEntry(y)
      if (textOf(entry)) {
        offset = y - load<u64>(starts + (<usize>entry << 3)) + <u64>before
        hits++
      } else {
        entry = NO_ENTRY
      }
    }
    if (entry == NO_ENTRY && load<u64>(RESULT, RESULT_FIRST_MISS) == NO_MISS) store<u64>(RESULT, i, RESULT_FIRST_MISS)
    store<u32>(entries + (<usize>i << 2), entry)
    store<u32>(offsets + (<usize>i << 2), <u32>offset)
  }
  store<u64>(RESULT, hits, RESULT_TRANSLATED)
  store<u64>(RESULT, <u64>count - hits, RESULT_MISSED)
}

/** Where the next byte to be copied stands in the chunk. */
let copied: usize = 0
/** Where it goes. */
let out: usize = 0

/**
 * Names the address tokens of the chunk [src, src + length) and writes all of it to `dst`; what a token is and what a chunk
 * needs around it is as in rewriteText.
 * @param segments entries of NAME_SEGMENTS, which lead to the table
 * @param minDigits tokens with fewer digits than this lie in no segment, and are not looked at or counted
 * @param translate BY_NAME: the name takes the token's place. Otherwise the name is written behind the token as ` <name>`,
 * and the token itself is translated through so many entries of SEGMENTS, or with BY_MACRO by MACRO
 * @param before as in nameBatch
 * RESULT has the length of what was written. A token counts as translated when it got a name or was translated; those in the
 * ranges of WATCH are counted.
 */
export function nameText(
  src: usize,
  length: u32,
  dst: usize,
  last: bool,
  segments: u32,
  minDigits: u32,
  translate: u32,
  before: u32,
): void {
  const end = decidedEnd(src, length, last)
  const starts = <usize>load<u32>(NAMES, NAMES_STARTS)
  let hits: u64 = 0
  let missed: u64 = 0
  const watchStarts = v128.load(WATCH)
  const watchSizes = v128.load(WATCH, 16)
  let watched = i64x2.splat(0)
  copied = src
  out = dst

  for (let tile = src; tile < end; tile += TEXT_TILE) {
    const tokens = findTokens(tile, end, minDigits)
    for (let i: u32 = 0; i < tokens; i++) {
      const x = load<u64>(VALUES + (<usize>i << 3))
      const token = load<u32>(TOKENS + (<usize>i << 2))
      const at = tile + <usize>(token >> DIGIT_BITS)
      const start = at - (((token >> PREFIXED_BIT) & 1) << 1)
      const n = token & TOKEN_DIGITS
      watched = i64x2.sub(watched, isWatched(i64x2.splat(x), watchStarts, watchSizes))

      const y = x - <u64>before
      const segment = findSegment(y, segments, NAME_SEGMENTS)
      const named = segment ? y + load<u64>(segment, 16) : 0
      const entry = segment ? findEntry(named) : NO_ENTRY
      const name = textOf(entry)
      const offset = name ? named - load<u64>(starts + (<usize>entry << 3)) + <u64>before : 0

      let known = name != 0
      if (translate == BY_NAME) {
        if (name) {
          copyTo(start)
          writeName(name, offset)
          copied = at + n
        }
      } else {
        const way: usize = translate == BY_MACRO ? 0 : findSegment(x, translate)
        if (way || translate == BY_MACRO) {
          const z = way ? x + load<u64>(way, 16) : (x & load<u64>(MACRO)) + load<u64>(MACRO, 8)
          copyTo(at)
          writeNumber(z, n, <bool>((token >> UPPER_BIT) & 1))
          copied = at + n
          known = true
        }
        if (name) {
          copyTo(at + n)
          store<u16>(out, 0x3c20) // " <"
          out += 2
          writeName(name, offset)
          store<u8>(out, 0x3e) // ">"
          out += 1
        }
      }
      if (known) {
        hits++
      } else {
        missed++
      }
    }
  }
  copyTo(end)
  store<u64>(RESULT, hits, RESULT_TRANSLATED)
  store<u64>(RESULT, missed, RESULT_MISSED)
  v128.store(RESULT, watched, RESULT_WATCHED)
  store<u32>(RESULT, <u32>(end - src), RESULT_CONSUMED)
  store<u32>(RESULT, <u32>(out - dst), RESULT_PRODUCED)
}

/**
 * Counts `count` u64 at `src` by the segment of SEGMENTS they lie in: adds one to the u64 of that segment at `counters`.
 * RESULT has how many lay in none.
 */
export function tally(src: usize, count: u32, segments: u32, counters: usize): void {
  let missed: u64 = 0
  for (let i: u32 = 0; i < count; i++) {
    const segment = findSegment(load<u64>(src + (<usize>i << 3)), segments)
    if (segment) {
      const counter = counters + (segment - SEGMENTS) / SEGMENT_BYTES * 8
      store<u64>(counter, load<u64>(counter) + 1)
    } else {
      missed++
    }
  }
  store<u64>(RESULT, missed, RESULT_MISSED)
}

/** Writes `count` u64 as lines of 16 digits, LINE_BYTES each, to `dst`, which has 16 bytes of slack. */
export function hexLines(src: usize, dst: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i++) {
    v128.store(dst, digitsFrom(load<u64>(src + (<usize>i << 3)), 16, false))
    store<u8>(dst, 0x0a, 16)
    dst += LINE_BYTES
  }
}

/** Copies the chunk from where copying stands up to `to`. */
// @ts-ignore: decorator
@inline
function copyTo(to: usize): void {
  copyText(copied, to, out)
  out += to - copied
  copied = to
}

/** An entry's text with the digits of the offset between its two halves. */
function writeName(text: usize, offset: u64): void {
  const front = <usize>load<u16>(text)
  const behind = <usize>load<u16>(text, 2)
  copyText(text + 4, text + 4 + front, out)
  out += front
  writeDigits(offset, false)
  copyText(text + 4 + front, text + 4 + front + behind, out)
  out += behind
}

/** A translated token: sixteen digits stay sixteen, a shorter one gets no leading zeros. */
// @ts-ignore: decorator
@inline
function writeNumber(value: u64, digits: u32, upper: bool): void {
  writeText(value, digits == 16 ? 16 : lengthOf(value), upper)
}

// @ts-ignore: decorator
@inline
function writeDigits(value: u64, upper: bool): void {
  writeText(value, lengthOf(value), upper)
}

/** Digits of a number without leading zeros. */
// @ts-ignore: decorator
@inline
function lengthOf(value: u64): u32 {
  return max<u32>(1, 16 - (<u32>clz(value) >> 2))
}

// @ts-ignore: decorator
@inline
function writeText(value: u64, length: u32, upper: bool): void {
  v128.store(out, digitsFrom(value, length, upper))
  out += length
}

/** The last `length` digits of a number, as text. */
// @ts-ignore: decorator
@inline
function digitsFrom(value: u64, length: u32, upper: bool): v128 {
  return i8x16.swizzle(digitsOf(i64x2.splat(value), digitTable(upper), vector(LOW_NIBBLE)), reversal(length))
}
