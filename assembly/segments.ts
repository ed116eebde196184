// Checked translation: find the range, add a constant. The table (memory.ts) is ascending and disjoint, so at most one
// segment holds an address. An address in none is left as it is, counted, and the first one's index kept.

import {
  RESULT, RESULT_FIRST_MISS, RESULT_MISSED, RESULT_TRANSLATED, RESULT_WATCHED, SEGMENT_BYTES, SEGMENTS, WATCH,
} from './memory'
import { NO_MISS, SPLATS } from './scratch'

/** Up to this many segments every one is tried; beyond, a binary search is cheaper. */
export const TRY_ALL: u32 = 16

const SPLAT_BYTES: usize = 48
/** Flipped on both sides, it makes the signed comparison of vectors compare unsigned numbers. */
export const SIGN: u64 = 0x8000_0000_0000_0000

/** The entry of the table whose segment holds x, or 0. */
// @ts-ignore: decorator
@inline
export function findSegment(x: u64, segments: u32, table: usize = SEGMENTS): usize {
  return segments <= TRY_ALL ? tryAll(x, segments, table) : search(x, segments, table)
}

// Without a branch that depends on x: traces mix address spaces, and a wrong guess costs more than a few subtractions.
// @ts-ignore: decorator
@inline
function tryAll(x: u64, segments: u32, table: usize): usize {
  let found: usize = 0
  let at = table
  for (let i: u32 = 0; i < segments; i++) {
    found = select<usize>(at, found, x - load<u64>(at) < load<u64>(at, 8))
    at += SEGMENT_BYTES
  }
  return found
}

function search(x: u64, segments: u32, table: usize): usize {
  let low: u32 = 0
  let size = segments
  while (size > 1) {
    const half = size >> 1
    low = select<u32>(low + half, low, load<u64>(table + <usize>(low + half) * SEGMENT_BYTES) <= x)
    size -= half
  }
  const at = table + <usize>low * SEGMENT_BYTES
  return x - load<u64>(at) < load<u64>(at, 8) ? at : 0
}

/** Addresses per turn of the batch kernel: few enough that they stay in registers. */
const BLOCK: u32 = 16
/** The most addresses that are translated one by one before it is tried again whether they stay in one segment. */
const LONGEST_MIXED: u32 = 1024

/**
 * Translates `count` u64 from `src` to `dst` (the same address, or not overlapping) through `segments` entries.
 *
 * Addresses of a trace mostly stay in one segment for a while. Sixteen at a time are compared with the segment last seen; only
 * when they do not all lie there each is looked up, for longer and longer stretches while that goes on.
 */
export function translateBatch(src: usize, dst: usize, count: u32, segments: u32): void {
  store<u64>(RESULT, NO_MISS, RESULT_FIRST_MISS)
  const base = src
  const end = src + (<usize>count << 3)
  const blocks = segments ? src + ((<usize>count & ~(BLOCK - 1)) << 3) : src
  let missed: u64 = 0
  // The segment last seen: its start, its last address and what translates, the latter two counted from its start, and all
  // with the sign bit flipped, see fillSplats.
  let start = i64x2.splat(load<u64>(SEGMENTS) + SIGN)
  let last = i64x2.splat((load<u64>(SEGMENTS, 8) - 1) ^ SIGN)
  let target = i64x2.splat(load<u64>(SEGMENTS) + load<u64>(SEGMENTS, 16) + SIGN)
  let tried: usize = 0
  let stretch = BLOCK
  while (src < blocks) {
    const a = i64x2.sub(v128.load(src), start)
    const b = i64x2.sub(v128.load(src, 16), start)
    const c = i64x2.sub(v128.load(src, 32), start)
    const d = i64x2.sub(v128.load(src, 48), start)
    const e = i64x2.sub(v128.load(src, 64), start)
    const f = i64x2.sub(v128.load(src, 80), start)
    const g = i64x2.sub(v128.load(src, 96), start)
    const h = i64x2.sub(v128.load(src, 112), start)
    const outside = v128.or(
      v128.or(v128.or(i64x2.gt_s(a, last), i64x2.gt_s(b, last)), v128.or(i64x2.gt_s(c, last), i64x2.gt_s(d, last))),
      v128.or(v128.or(i64x2.gt_s(e, last), i64x2.gt_s(f, last)), v128.or(i64x2.gt_s(g, last), i64x2.gt_s(h, last))),
    )
    if (!i64x2.bitmask(outside)) {
      v128.store(dst, i64x2.add(a, target))
      v128.store(dst, i64x2.add(b, target), 16)
      v128.store(dst, i64x2.add(c, target), 32)
      v128.store(dst, i64x2.add(d, target), 48)
      v128.store(dst, i64x2.add(e, target), 64)
      v128.store(dst, i64x2.add(f, target), 80)
      v128.store(dst, i64x2.add(g, target), 96)
      v128.store(dst, i64x2.add(h, target), 112)
      src += BLOCK << 3
      dst += BLOCK << 3
      stretch = BLOCK
      continue
    }
    if (tried != src) {
      tried = src
      // That of the last one: where the following ones will be.
      const segment = findSegment(load<u64>(src, 120), segments)
      if (segment) {
        start = i64x2.splat(load<u64>(segment) + SIGN)
        last = i64x2.splat((load<u64>(segment, 8) - 1) ^ SIGN)
        target = i64x2.splat(load<u64>(segment) + load<u64>(segment, 16) + SIGN)
        continue
      }
    }
    const stop = min(src + (<usize>stretch << 3), blocks)
    missed += translateMixed(src, dst, <u32>(stop - src) >> 3, segments, <u32>(src - base) >> 3)
    dst += stop - src
    src = stop
    stretch = min(4 * stretch, LONGEST_MIXED)
  }
  missed += translateEach(src, dst, <u32>(end - src) >> 3, segments, <u32>(src - base) >> 3)
  store<u64>(RESULT, <u64>count - missed, RESULT_TRANSLATED)
  store<u64>(RESULT, missed, RESULT_MISSED)
}

/** All bits set in the lanes where a range holds the address; starts and sizes as in WATCH. */
// @ts-ignore: decorator
@inline
export function isWatched(x: v128, starts: v128, sizes: v128): v128 {
  return i64x2.gt_s(sizes, i64x2.sub(x, starts))
}

/** Counts how many of `count` u64 at `src` lie in the ranges of WATCH. */
export function watchBatch(src: usize, count: u32): void {
  const starts = v128.load(WATCH)
  const sizes = v128.load(WATCH, 16)
  const end = src + (<usize>count << 3)
  const endPairs = src + ((<usize>count & ~1) << 3)
  // Two addresses a turn, each range for itself.
  const starts0 = i64x2.shuffle(starts, starts, 0, 0)
  const starts1 = i64x2.shuffle(starts, starts, 1, 1)
  const sizes0 = i64x2.shuffle(sizes, sizes, 0, 0)
  const sizes1 = i64x2.shuffle(sizes, sizes, 1, 1)
  let hits0 = i64x2.splat(0)
  let hits1 = hits0
  for (; src < endPairs; src += 16) {
    const x = v128.load(src)
    hits0 = i64x2.sub(hits0, isWatched(x, starts0, sizes0))
    hits1 = i64x2.sub(hits1, isWatched(x, starts1, sizes1))
  }
  let watched = i64x2.add(i64x2.shuffle(hits0, hits1, 0, 2), i64x2.shuffle(hits0, hits1, 1, 3))
  if (src < end) watched = i64x2.sub(watched, isWatched(v128.load64_splat(src), starts, sizes))
  v128.store(RESULT, watched, RESULT_WATCHED)
}

/** Keeps the index of the batch's first miss. */
function noteMiss(index: u32): void {
  if (load<u64>(RESULT, RESULT_FIRST_MISS) == NO_MISS) store<u64>(RESULT, index, RESULT_FIRST_MISS)
}

/** Looks each address up. `index` is that of the first in the batch. Returns how many did not translate. */
function translateEach(src: usize, dst: usize, count: u32, segments: u32, index: u32): u32 {
  let missed: u32 = 0
  for (let i: u32 = 0; i < count; i++) {
    const x = load<u64>(src + (<usize>i << 3))
    const at = findSegment(x, segments)
    if (!at) {
      missed++
      noteMiss(index + i)
    }
    store<u64>(dst + (<usize>i << 3), at ? x + load<u64>(at, 16) : x)
  }
  return missed
}

/** The same for a multiple of 16. */
function translateMixed(src: usize, dst: usize, count: u32, segments: u32, index: u32): u32 {
  if (segments > TRY_ALL) return translateEach(src, dst, count, segments, index)
  fillSplats(segments)
  return segments <= 3 ? translateByThree(src, dst, count, index) : translateByAll(src, dst, count, segments, index)
}

/**
 * Writes SEGMENTS to SPLATS, at least three, and as vectors: start + 2^63, size - 2^63, delta. There is no unsigned 64-bit
 * vector compare; flipping the sign bit of both sides makes the signed one do. In memory, since a compiler of WebAssembly
 * would build vectors made of scalars anew at each use.
 */
function fillSplats(segments: u32): void {
  for (let i: u32 = 0; i < max(segments, 3); i++) {
    const from = SEGMENTS + <usize>i * SEGMENT_BYTES
    const to = SPLATS + <usize>i * SPLAT_BYTES
    v128.store(to, i64x2.splat(load<u64>(from) + SIGN))
    // Behind the last segment one of no addresses.
    v128.store(to, i64x2.splat(i < segments ? load<u64>(from, 8) ^ SIGN : SIGN), 16)
    v128.store(to, v128.load64_splat(from, 16), 32)
  }
}

/** Up to three segments; a vector a turn, since then all stays in registers. */
function translateByThree(src: usize, dst: usize, count: u32, index: u32): u32 {
  const start0 = v128.load(SPLATS)
  const size0 = v128.load(SPLATS, 16)
  const delta0 = v128.load(SPLATS, 32)
  const start1 = v128.load(SPLATS, 48)
  const size1 = v128.load(SPLATS, 64)
  const delta1 = v128.load(SPLATS, 80)
  const start2 = v128.load(SPLATS, 96)
  const size2 = v128.load(SPLATS, 112)
  const delta2 = v128.load(SPLATS, 128)
  let hits = i64x2.splat(0)
  const begin = src
  const end = src + (<usize>count << 3)
  while (src < end) {
    const x = v128.load(src)
    const in0 = i64x2.gt_s(size0, i64x2.sub(x, start0))
    const in1 = i64x2.gt_s(size1, i64x2.sub(x, start1))
    const in2 = i64x2.gt_s(size2, i64x2.sub(x, start2))
    const delta = v128.or(v128.or(v128.and(in0, delta0), v128.and(in1, delta1)), v128.and(in2, delta2))
    v128.store(dst, i64x2.add(x, delta))
    const hit = v128.or(v128.or(in0, in1), in2)
    hits = i64x2.sub(hits, hit)
    const both = i64x2.bitmask(hit)
    if (both != 3) noteMiss(index + (<u32>(src - begin) >> 3) + (both & 1))
    src += 16
    dst += 16
  }
  return count - <u32>(i64x2.extract_lane(hits, 0) + i64x2.extract_lane(hits, 1))
}

/** Up to TRY_ALL segments, one after the other; eight addresses a turn. */
function translateByAll(src: usize, dst: usize, count: u32, segments: u32, index: u32): u32 {
  let hits = i64x2.splat(0)
  const begin = src
  const end = src + (<usize>count << 3)
  const stop = SPLATS + <usize>segments * SPLAT_BYTES
  while (src < end) {
    const a = v128.load(src)
    const b = v128.load(src, 16)
    const c = v128.load(src, 32)
    const d = v128.load(src, 48)
    let deltaA = i64x2.splat(0)
    let deltaB = deltaA
    let deltaC = deltaA
    let deltaD = deltaA
    let hitA = deltaA
    let hitB = deltaA
    let hitC = deltaA
    let hitD = deltaA
    for (let at = SPLATS; at < stop; at += SPLAT_BYTES) {
      const start = v128.load(at)
      const size = v128.load(at, 16)
      const delta = v128.load(at, 32)
      const inA = i64x2.gt_s(size, i64x2.sub(a, start))
      const inB = i64x2.gt_s(size, i64x2.sub(b, start))
      const inC = i64x2.gt_s(size, i64x2.sub(c, start))
      const inD = i64x2.gt_s(size, i64x2.sub(d, start))
      hitA = v128.or(hitA, inA)
      hitB = v128.or(hitB, inB)
      hitC = v128.or(hitC, inC)
      hitD = v128.or(hitD, inD)
      deltaA = v128.or(deltaA, v128.and(inA, delta))
      deltaB = v128.or(deltaB, v128.and(inB, delta))
      deltaC = v128.or(deltaC, v128.and(inC, delta))
      deltaD = v128.or(deltaD, v128.and(inD, delta))
    }
    v128.store(dst, i64x2.add(a, deltaA))
    v128.store(dst, i64x2.add(b, deltaB), 16)
    v128.store(dst, i64x2.add(c, deltaC), 32)
    v128.store(dst, i64x2.add(d, deltaD), 48)
    hits = i64x2.sub(hits, i64x2.add(i64x2.add(hitA, hitB), i64x2.add(hitC, hitD)))
    if (i64x2.bitmask(v128.and(v128.and(hitA, hitB), v128.and(hitC, hitD))) != 3) {
      const mask =
        i64x2.bitmask(hitA) | (i64x2.bitmask(hitB) << 2) | (i64x2.bitmask(hitC) << 4) | (i64x2.bitmask(hitD) << 6)
      noteMiss(index + (<u32>(src - begin) >> 3) + <u32>ctz(~mask))
    }
    src += 64
    dst += 64
  }
  return count - <u32>(i64x2.extract_lane(hits, 0) + i64x2.extract_lane(hits, 1))
}
