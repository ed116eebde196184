// Tokens: which runs of digits are addresses in text, and their values. All kernels that look at text go by this.
//
// A token is a maximal run of hex digits, optionally behind 0x or 0X, that no other letter, digit or underscore touches;
// 9 to 16 digits when bare, 1 to 16 behind the prefix. That is: a whole "word" of at most 18 bytes, which is why the three
// bytes in front of a chunk are all the context that a cut needs.

import {
  anyLower, anyUpper, isWordAt, JOIN, lettersOf, LOW_NIBBLE, NINE, NINE_DIGIT, reversal, valueOf, vector,
} from './hex'
import { LONGEST_TOKEN, RESULT, RESULT_CONSUMED, RESULT_FIRST_MISS, RESULT_MISSED } from './memory'
import { CANDIDATES, NO_MISS, TEXT_TILE, TOKENS, VALUES } from './scratch'
import { BARE_DIGITS, CANDIDATE_BYTES, CANDIDATE_DIGITS, collectorOf, restOf } from './runs'
import { findSegment } from './segments'

// What is known of the candidates' digits: nothing, that there are nine or more, that there are sixteen or more. With the
// last their number has not even been written.
export const ANY: u32 = 0
export const LONG: u32 = 1
export const SIXTEEN: u32 = 2

/** How many digits a candidate has: 17 or more for too many. */
// @ts-ignore: decorator
@inline
export function digitsAt(candidate: usize, sizes: u32): u32 {
  return sizes == SIXTEEN ? 16 : load<u32>(candidate, CANDIDATE_DIGITS)
}

/**
 * Whether the n digits at `at`, a maximal run, are a token.
 * @param minDigits tokens with fewer digits do not count
 * @param fewestBare the larger of minDigits and BARE_DIGITS
 * @param sizes ANY, LONG or SIXTEEN: with the latter two, n is known to reach both
 */
// @ts-ignore: decorator
@inline
export function isToken(at: usize, n: u32, minDigits: u32, fewestBare: u32, sizes: u32): bool {
  if (n > 16) return false
  if (<u32>isWordAt(at - 1) | <u32>isWordAt(at + n)) {
    return !isWordAt(at + n) && (sizes != ANY || n >= minDigits) && isPrefixed(at)
  }
  return sizes != ANY || n >= fewestBare
}

/**
 * Whether the digits at `at` stand behind 0x or 0X and nothing of a word in front of that. Only asked when a word goes on
 * in front of the digits: two bytes further there may be a token that was just written, and its store would be waited for.
 */
// @ts-ignore: decorator
@inline
function isPrefixed(at: usize): bool {
  return (load<u8>(at - 1) | 0x20) == 0x78 && load<u8>(at - 2) == 0x30 && !isWordAt(at - 3)
}

/** Whether a token's digits are written in upper case: it has upper-case letters and no lower-case ones. */
// @ts-ignore: decorator
@inline
export function isUpper(digits: v128, letters: v128): bool {
  return anyUpper(digits, letters) && !anyLower(digits, letters)
}

/**
 * Where the part of a chunk ends that can be decided now: the `last` chunk's own end, otherwise in front of the last word when
 * that may be the beginning of a token. Ends the last chunk with a byte of no word.
 */
export function decidedEnd(src: usize, length: u32, last: bool): usize {
  const end = src + length
  if (last) {
    store<u8>(end, 0)
    return end
  }
  const limit = length > LONGEST_TOKEN ? end - LONGEST_TOKEN : src
  let at = end
  while (at > limit && isWordAt(at - 1)) at--
  // The bytes of a longest token are all of one word: with one more in front it is too long to be a token.
  if (at == limit && limit > src && isWordAt(at - 1)) return end
  return at
}

// A token in TOKENS: digits (1 … 16), two flags, and above these seven bits the offset of the first digit in the tile.
export const DIGIT_BITS: u32 = 7
export const TOKEN_DIGITS: u32 = 31
export const UPPER_BIT: u32 = 5
export const PREFIXED_BIT: u32 = 6

/** The tokens of a tile of the text that ends at `end`, in VALUES and TOKENS; how many. */
export function findTokens(tile: usize, end: usize, minDigits: u32): u32 {
  const stop = collectorOf(minDigits)(tile, min(tile + TEXT_TILE, end), restOf(minDigits))
  const fewestBare = max(minDigits, BARE_DIGITS)
  const nineDigit = vector(NINE_DIGIT)
  const nine = vector(NINE)
  const lowNibble = vector(LOW_NIBBLE)
  const join = vector(JOIN)
  const sizes = minDigits == 16 ? SIXTEEN : ANY
  let tokens: u32 = 0
  for (let list = CANDIDATES; list < stop; list += CANDIDATE_BYTES) {
    const at = <usize>load<u32>(list)
    const n = digitsAt(list, sizes)
    if (!isToken(at, n, minDigits, fewestBare, sizes)) continue
    const digits = i8x16.swizzle(v128.load(at), reversal(n))
    const letters = lettersOf(digits, nineDigit)
    // Of a word's bytes only an x can stand in front of a token's digits.
    const flags = (<u32>isUpper(digits, letters) << UPPER_BIT) | (<u32>isWordAt(at - 1) << PREFIXED_BIT)
    v128.store64_lane(VALUES + (<usize>tokens << 3), valueOf(digits, letters, nine, lowNibble, join), 0)
    store<u32>(TOKENS + (<usize>tokens << 2), (<u32>(at - tile) << DIGIT_BITS) | flags | n)
    tokens++
  }
  return tokens
}

/**
 * Writes the values of all tokens of the chunk to `dst`, u64 each, in order; what a chunk is, is as in rewriteText.
 * @returns how many. RESULT has how many bytes were dealt with.
 */
export function tokenValues(src: usize, length: u32, dst: usize, last: bool): u32 {
  const end = decidedEnd(src, length, last)
  let total: u32 = 0
  for (let tile = src; tile < end; tile += TEXT_TILE) {
    const tokens = findTokens(tile, end, 1)
    memory.copy(dst + (<usize>total << 3), VALUES, <usize>tokens << 3)
    total += tokens
  }
  store<u32>(RESULT, <u32>(end - src), RESULT_CONSUMED)
  return total
}

/**
 * Counts the tokens of the chunk whose values lie in a table of `ranges` entries like those of SEGMENTS; what a chunk is, is
 * as in rewriteText. RESULT has how many there are (as missed) and where the first one begins.
 * @param minDigits tokens with fewer digits than this are known to lie in none
 */
export function countText(src: usize, length: u32, last: bool, table: usize, ranges: u32, minDigits: u32): void {
  const end = decidedEnd(src, length, last)
  let found: u64 = 0
  store<u64>(RESULT, NO_MISS, RESULT_FIRST_MISS)
  for (let tile = src; tile < end; tile += TEXT_TILE) {
    const tokens = findTokens(tile, end, minDigits)
    for (let i: u32 = 0; i < tokens; i++) {
      if (!findSegment(load<u64>(VALUES + (<usize>i << 3)), ranges, table)) continue
      if (!found) {
        const token = load<u32>(TOKENS + (<usize>i << 2))
        const prefix = ((token >> PREFIXED_BIT) & 1) << 1
        store<u64>(RESULT, <u64>(tile - src) + <u64>((token >> DIGIT_BITS) - prefix), RESULT_FIRST_MISS)
      }
      found++
    }
  }
  store<u64>(RESULT, found, RESULT_MISSED)
}
