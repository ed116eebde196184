// Finds the five instructions that KVM patches in place of kern_hyp_va (docs/kernel-facts.md, 2) in raw memory.
//
//   i0  AND Xr,Xr,#2^L-1     92400000 | (L-1)<<10 | r<<5 | r
//   i1  ROR Xr,Xr,#L         93c00000 | r<<16 | L<<10 | r<<5 | r
//   i2  ADD Xr,Xr,#lo        91000000 | lo<<10 | r<<5 | r
//   i3  ADD Xr,Xr,#hi,lsl 12 91400000 | hi<<10 | r<<5 | r, and without the shift bit when hi is 0
//   i4  ROR Xr,Xr,#(64-L)    93c00000 | r<<16 | (64-L)<<10 | r<<5 | r
//
// A64 instructions are little-endian in memory whatever the data is; a dump whose words were swapped on the way shows them
// byte-reversed, which the scan recognises too.

import { HIT_BYTES, RESULT, RESULT_CONSUMED } from './memory'

const NOP: u32 = 0xd503201f
const SEQUENCE_BYTES: usize = 20

/** Kinds of a hit: see scanPatch. */
const NONE: u32 = 0
const PATCHED: u32 = 1
const MASK_ONLY: u32 = 2
const UNPATCHED: u32 = 3
const SWAPPED: u32 = 4

/** Word `i` of a would-be sequence, in the machine's order. */
// @ts-ignore: decorator
@inline
function word(at: usize, swapped: bool): u32 {
  const w = load<u32>(at)
  return swapped ? bswap(w) : w
}

let foundLsb: u32 = 0
let foundRegister: u32 = 0
let foundTag: u32 = 0

/** What stands at `at`, whose first word already looks like i0; sets the found… variables. */
function classify(at: usize, swapped: bool): u32 {
  const w0 = word(at, swapped)
  const r = w0 & 31
  // Register 31 is the stack pointer here: no compiler puts an operand of kern_hyp_va there.
  if (r == 31 || (w0 >> 5 & 31) != r) return NONE
  const lsb = (w0 >> 10 & 63) + 1
  if (lsb == 64) return NONE
  const rr = r << 5 | r
  foundLsb = lsb
  foundRegister = r
  foundTag = 0
  const w1 = word(at + 4, swapped)
  const w2 = word(at + 8, swapped)
  const w3 = word(at + 12, swapped)
  const w4 = word(at + 16, swapped)
  if (w1 == NOP) return w2 == NOP && w3 == NOP && w4 == NOP ? MASK_ONLY : NONE
  const ror: u32 = 0x93c00000 | r << 16 | rr
  if (w1 != (ror | lsb << 10)) return NONE
  if (w4 != (ror | (64 - lsb) << 10)) return NONE
  if ((w2 & 0xffc003ff) != (0x91000000 | rr)) return NONE
  const lo = w2 >> 10 & 0xfff
  const hi = w3 >> 10 & 0xfff
  if (w3 == (0x91000000 | rr)) {
    foundTag = lo
    return PATCHED
  }
  if ((w3 & 0xffc003ff) != (0x91400000 | rr)) return NONE
  if (hi == 0) return lsb == 1 && lo == 0 ? UNPATCHED : NONE
  foundTag = hi << 12 | lo
  return PATCHED
}

/**
 * Looks at every 4-byte aligned place in [start, end) where a whole sequence fits and writes one entry for each hit to `hits`:
 * {u32 offset from start, u32 kind, u32 tag_lsb | register << 8, u32 tag_val}. Kind 1: patched. 2: the mask and four NOPs, as
 * patched when the tag is zero. 3: the words before patching. Plus 4 when the bytes of each word are reversed. Returns how many;
 * stops at `capacity`. RESULT_CONSUMED is the offset of the first place not looked at.
 */
export function scanPatch(start: usize, end: usize, hits: usize, capacity: u32): u32 {
  // The upper half of i0 is 9240; with reversed bytes the lower half is 4092. Comparing all halves with both also finds
  // halves in the wrong place, which look() rejects.
  const and = i16x8.splat(<i16>0x9240)
  const andSwapped = i16x8.splat(0x4092)
  let count: u32 = 0
  let at = start
  while (at + 64 <= end) {
    const a = v128.load(at)
    const b = v128.load(at, 16)
    const c = v128.load(at, 32)
    const d = v128.load(at, 48)
    const inA = v128.or(i16x8.eq(a, and), i16x8.eq(a, andSwapped))
    const inB = v128.or(i16x8.eq(b, and), i16x8.eq(b, andSwapped))
    const inC = v128.or(i16x8.eq(c, and), i16x8.eq(c, andSwapped))
    const inD = v128.or(i16x8.eq(d, and), i16x8.eq(d, andSwapped))
    if (v128.any_true(v128.or(v128.or(inA, inB), v128.or(inC, inD)))) {
      // One bit a word: set when either of its halves matched.
      let places =
        wordsOf(inA) | (wordsOf(inB) << 4) | (wordsOf(inC) << 8) | (wordsOf(inD) << 12)
      while (places != 0) {
        const place = at + (<usize>ctz(places) << 2)
        if (place + SEQUENCE_BYTES > end || count == capacity) return stop(place - start, count)
        count += look(place, start, hits, count)
        places &= places - 1
      }
    }
    at += 64
  }
  while (at + SEQUENCE_BYTES <= end) {
    if (count == capacity) break
    count += look(at, start, hits, count)
    at += 4
  }
  return stop(at - start, count)
}

// @ts-ignore: decorator
@inline
function wordsOf(halves: v128): i32 {
  return i32x4.bitmask(i32x4.ne(halves, i32x4.splat(0)))
}

function stop(consumed: usize, count: u32): u32 {
  store<u32>(RESULT, <u32>consumed, RESULT_CONSUMED)
  return count
}

/** Writes the hit at `at`, if there is one, as entry `index`; how many. */
function look(at: usize, start: usize, hits: usize, index: u32): u32 {
  const w = load<u32>(at)
  let kind: u32 = NONE
  if ((w & 0xffff0000) == 0x92400000) kind = classify(at, false)
  // The bytes of a word may read as i0 either way round.
  if (kind == NONE && (w & 0x0000ffff) == 0x00004092) {
    kind = classify(at, true)
    if (kind != NONE) kind += SWAPPED
  }
  if (kind == NONE) return 0
  const entry = hits + <usize>index * <usize>HIT_BYTES
  store<u32>(entry, <u32>(at - start))
  store<u32>(entry, kind, 4)
  store<u32>(entry, foundLsb | foundRegister << 8, 8)
  store<u32>(entry, foundTag, 12)
  return 1
}
