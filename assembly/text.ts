// Addresses in bytes: find the tokens of a chunk, rewrite those that translate, leave every other byte as it was.
//
// Two steps over a tile that stays in the first-level cache: collect where runs of enough digits begin (runs.ts); then for
// each of them decide whether it is a token (tokens.ts), take its value, translate it and write digits over digits. Neither
// has a branch that depends on the addresses. Tokens mostly keep their length (sixteen digits stay sixteen) and are overwritten where
// they stand; from the first one that does not, the chunk is copied to `dst`.

import { digitsOf, digitTable, JOIN, lettersOf, LOW_NIBBLE, NINE, NINE_DIGIT, reversal, valueOf, vector } from './hex'
import {
  BY_MACRO, MACRO, RESULT, RESULT_CONSUMED, RESULT_MISSED, RESULT_PRODUCED, RESULT_TRANSLATED, RESULT_WATCHED,
  SEGMENT_BYTES, SEGMENTS, WATCH,
} from './memory'
import { CANDIDATES, NOWHERE, PAIR_BYTES, PAIRS, TEXT_TILE } from './scratch'
import { BARE_DIGITS, CANDIDATE_BYTES, collectorOf, restOf } from './runs'
import { findSegment, isWatched, SIGN, TRY_ALL } from './segments'
import { ANY, decidedEnd, digitsAt, isToken, isUpper, LONG, SIXTEEN } from './tokens'

// State of a chunk between its tiles.
/** Where the next byte to be copied stands in the chunk, once copying has begun. */
let copied: usize = 0
/** Where it goes; 0 while everything could be done in place. */
let out: usize = 0
let translated: u64 = 0
let missed: u64 = 0
/** Tokens in each of the ranges of WATCH. */
let watched: v128 = i64x2.splat(0)
/** Where PAIRS ends. */
let pairsEnd: usize = 0

/**
 * Rewrites the tokens of the chunk [src, src + length) and stores the outcome in RESULT.
 *
 * TEXT_SLACK bytes in front of and behind the chunk are readable and writable; the last three in front are the text's
 * previous bytes (0 at its beginning). Not `last`: bytes at the end that may belong to a token going on in the next chunk
 * are not consumed. `dst` has room for 5 * length + TEXT_SLACK bytes.
 * @param segments entries of SEGMENTS to use, or BY_MACRO: apply MACRO to every token
 * @param minDigits tokens with fewer digits than this (1 … 16) are known not to translate, and are not looked at or counted;
 * with MACRO all translate, and it is 1. Tokens in the ranges of WATCH are counted unless it is MACRO or minDigits is 16
 * @returns where the text that came out stands: src or dst. RESULT has its length and what was counted.
 */
export function rewriteText(src: usize, length: u32, dst: usize, last: bool, segments: u32, minDigits: u32): usize {
  const end = decidedEnd(src, length, last)
  copied = src
  out = 0
  translated = 0
  missed = 0
  watched = i64x2.splat(0)
  const collect = collectorOf(minDigits)
  const rest = restOf(minDigits)
  choosePasses(segments, minDigits)
  for (let tile = src; tile < end; tile += TEXT_TILE) {
    const stop = collect(tile, min(tile + TEXT_TILE, end), rest)
    let list = CANDIDATES
    if (!out) {
      list = overwriteTokens(list, stop, minDigits, segments)
      if (list == stop) continue
      out = dst
    }
    moveTokens(list, stop, minDigits, segments)
  }
  store<u64>(RESULT, translated, RESULT_TRANSLATED)
  store<u64>(RESULT, missed, RESULT_MISSED)
  v128.store(RESULT, watched, RESULT_WATCHED)
  store<u32>(RESULT, <u32>(end - src), RESULT_CONSUMED)
  if (!out) {
    store<u32>(RESULT, <u32>(end - src), RESULT_PRODUCED)
    return src
  }
  copyText(copied, end, out)
  store<u32>(RESULT, <u32>(out + (end - copied) - dst), RESULT_PRODUCED)
  return dst
}

/** Rewrites tokens of a tile, see rewriteTokens. */
type Pass = (list: usize, stop: usize, minDigits: u32, segments: u32) => usize

// How an address is translated: by MACRO, by the one pair of segments there is, by PAIRS up to `pairsEnd`, by a search in
// SEGMENTS.
const MACRO_FOR_ALL: u32 = 0
const ONE_PAIR: u32 = 1
const ALL_PAIRS: u32 = 2
const SEARCH: u32 = 3

/** The passes of this chunk: for tokens where they stand, and for all from the first one on that changes in length. */
let overwriteTokens: Pass = overwriteByPair
let moveTokens: Pass = moveByPairs

/** @param segments as for rewriteText */
function choosePasses(segments: u32, minDigits: u32): void {
  if (segments == BY_MACRO) {
    overwriteTokens = overwriteByMacro
    moveTokens = moveByMacro
  } else if (segments > TRY_ALL) {
    overwriteTokens = minDigits == 16 ? overwriteSixteenBySearch : overwriteBySearch
    moveTokens = moveBySearch
  } else {
    fillPairs(segments)
    if (minDigits == 16) overwriteTokens = segments <= 2 ? overwriteSixteenByPair : overwriteSixteenByPairs
    else if (minDigits >= BARE_DIGITS) overwriteTokens = segments <= 2 ? overwriteLongByPair : overwriteLongByPairs
    else overwriteTokens = segments <= 2 ? overwriteByPair : overwriteByPairs
    moveTokens = segments <= 2 ? minDigits >= BARE_DIGITS ? moveLongByPair : moveByPair : moveByPairs
  }
}

function overwriteByMacro(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, MACRO_FOR_ALL, segments, ANY, false)
}
function overwriteByPair(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ONE_PAIR, segments, ANY, false)
}
function overwriteLongByPair(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ONE_PAIR, segments, LONG, false)
}
function overwriteSixteenByPair(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ONE_PAIR, segments, SIXTEEN, false)
}
function overwriteByPairs(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ALL_PAIRS, segments, ANY, false)
}
function overwriteLongByPairs(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ALL_PAIRS, segments, LONG, false)
}
function overwriteSixteenByPairs(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ALL_PAIRS, segments, SIXTEEN, false)
}
function overwriteBySearch(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, SEARCH, segments, ANY, false)
}
function overwriteSixteenBySearch(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, SEARCH, segments, SIXTEEN, false)
}
function moveByMacro(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, MACRO_FOR_ALL, segments, ANY, true)
}
function moveByPair(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ONE_PAIR, segments, ANY, true)
}
function moveLongByPair(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ONE_PAIR, segments, LONG, true)
}
function moveByPairs(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, ALL_PAIRS, segments, ANY, true)
}
function moveBySearch(list: usize, stop: usize, minDigits: u32, segments: u32): usize {
  return rewriteTokens(list, stop, minDigits, SEARCH, segments, ANY, true)
}

/**
 * Writes SEGMENTS to PAIRS, two in three vectors: start + 2^63, size - 2^63, delta. There is no unsigned 64-bit vector
 * compare; flipping the sign bit of both sides makes the signed one do.
 */
function fillPairs(segments: u32): void {
  pairsEnd = PAIRS
  // One pair at least is looked at.
  for (let i: u32 = 0; i < max<u32>(segments, 1); i += 2) {
    fillLane(pairsEnd, SEGMENTS + <usize>i * SEGMENT_BYTES, i < segments)
    fillLane(pairsEnd + 8, SEGMENTS + <usize>(i + 1) * SEGMENT_BYTES, i + 1 < segments)
    pairsEnd += PAIR_BYTES
  }
}

function fillLane(lane: usize, segment: usize, there: bool): void {
  store<u64>(lane, load<u64>(segment) + SIGN)
  store<u64>(lane, there ? load<u64>(segment, 8) ^ SIGN : SIGN, 16)
  store<u64>(lane, load<u64>(segment, 16), 32)
}

/**
 * Rewrites the tokens among the candidates in [list, stop): where they stand, up to the first one whose digits change in
 * number; or `moving`, with the text between them, to `out`.
 * @param how MACRO_FOR_ALL, ONE_PAIR, ALL_PAIRS or SEARCH
 * @param sizes ANY, LONG or SIXTEEN
 * @returns the candidate it stopped at
 */
// @ts-ignore: decorator
@inline
function rewriteTokens(
  list: usize,
  stop: usize,
  minDigits: u32,
  how: u32,
  segments: u32,
  sizes: u32,
  moving: bool,
): usize {
  const starts = v128.load(PAIRS)
  const lengths = v128.load(PAIRS, 16)
  const deltas = v128.load(PAIRS, 32)
  const mask = v128.load64_splat(MACRO)
  const tag = v128.load64_splat(MACRO, 8)
  const nineDigit = vector(NINE_DIGIT)
  const nine = vector(NINE)
  const lowNibble = vector(LOW_NIBBLE)
  const join = vector(JOIN)
  const lowerCase = digitTable(false)
  const reverse = reversal(16)
  const fewestBare = max(minDigits, BARE_DIGITS)
  let tokens: u32 = 0
  // At most one segment holds an address: each lane counts its own.
  let hits = i64x2.splat(0)
  const watch = how != MACRO_FOR_ALL && sizes != SIXTEEN
  const watchStarts = v128.load(WATCH)
  const watchSizes = v128.load(WATCH, 16)
  let seen = watched
  let from = copied
  let to = out
  for (; list < stop; list += CANDIDATE_BYTES) {
    const at = <usize>load<u32>(list)
    const n = digitsAt(list, sizes)
    if (!isToken(at, n, minDigits, fewestBare, sizes)) continue
    const backwards = sizes == SIXTEEN ? reverse : reversal(n)
    const digits = i8x16.swizzle(v128.load(at), backwards)
    const letters = lettersOf(digits, nineDigit)
    const x = valueOf(digits, letters, nine, lowNibble, join)
    let y = x
    let hit: u32 = 1
    let within = i64x2.splat(0)
    if (how == MACRO_FOR_ALL) {
      y = i64x2.add(v128.and(x, mask), tag)
    } else if (how == SEARCH) {
      const segment = findSegment(<u64>i64x2.extract_lane(x, 0), segments)
      y = i64x2.add(x, v128.load64_splat(segment, 16))
      hit = <u32>segment
      within = i64x2.replace_lane(within, 0, -<i64>(segment != 0))
    } else {
      within = i64x2.gt_s(lengths, i64x2.sub(x, starts))
      let delta = v128.and(within, deltas)
      if (how == ALL_PAIRS) {
        for (let pair = PAIRS + PAIR_BYTES; pair < pairsEnd; pair += PAIR_BYTES) {
          const here = i64x2.gt_s(v128.load(pair, 16), i64x2.sub(x, v128.load(pair)))
          delta = v128.or(delta, v128.and(here, v128.load(pair, 32)))
          within = v128.or(within, here)
        }
      }
      y = i64x2.add(x, v128.or(delta, i64x2.shuffle(delta, delta, 1, 0)))
      hit = <u32>i64x2.bitmask(within)
    }
    let table = lowerCase
    if (isUpper(digits, letters)) table = digitTable(true)
    const written = digitsOf(y, table, lowNibble)
    if (moving) {
      if (hit) {
        copyText(from, at, to)
        to += at - from
        from = at + n
        // Sixteen digits stay sixteen; a shorter token gets no leading zeros.
        const m: u32 = n == 16 ? 16 : max<u32>(1, 16 - leadingZeros(y))
        v128.store(to, i8x16.swizzle(written, reversal(m)))
        to += m
      }
    } else {
      // What did not translate is written where nobody looks: that costs less than a guess at a branch.
      const there = select<usize>(at, NOWHERE, hit)
      if (n == 16) {
        v128.store(there, i8x16.swizzle(written, reverse))
      } else {
        if (select<u32>(leadingZeros(y) + n, 16, hit) != 16) break
        overwrite(there, n, i8x16.swizzle(written, backwards), i8x16.swizzle(written, reverse), sizes != ANY)
      }
    }
    tokens++
    hits = i64x2.sub(hits, within)
    if (watch) seen = i64x2.sub(seen, isWatched(x, watchStarts, watchSizes))
  }
  const sum: u64 = how == MACRO_FOR_ALL ? tokens : i64x2.extract_lane(hits, 0) + i64x2.extract_lane(hits, 1)
  translated += sum
  missed += <u64>tokens - sum
  watched = seen
  if (moving) {
    copied = from
    out = to
  }
  return list
}

/** Of the sixteen digits of the lower lane. */
// @ts-ignore: decorator
@inline
function leadingZeros(y: v128): u32 {
  return <u32>clz(i64x2.extract_lane(y, 0)) >> 2
}

/**
 * Puts n digits (1 … 15) over those at `at`, touching nothing behind them: what follows is about to be loaded, and a load
 * that meets a store half-way waits for it.
 * @param first the digits from the front on
 * @param last the same at the end of the vector
 * @param long whether there are known to be eight or more
 */
// @ts-ignore: decorator
@inline
function overwrite(at: usize, n: u32, first: v128, last: v128, long: bool): void {
  if (long || n >= 8) {
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
