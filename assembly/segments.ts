// Checked translation: find the range, add a constant. The table (memory.ts) is ascending and disjoint, so at most one
// segment holds an address. An address in none is left as it is, counted, and the first one's index kept.

import {
  NO_MISS,
  RESULT,
  RESULT_FIRST_MISS,
  RESULT_MISSED,
  RESULT_TRANSLATED,
  SEGMENT_BYTES,
  SEGMENTS,
} from './memory'

/** Up to this many segments every one is tried; beyond, a binary search is cheaper. */
export const TRY_ALL: u32 = 16

const SIGN: u64 = 0x8000_0000_0000_0000

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

/** Translates `count` u64 from `src` to `dst` (the same address, or not overlapping) through `segments` entries. */
export function translateBatch(src: usize, dst: usize, count: u32, segments: u32): void {
  store<u64>(RESULT, NO_MISS, RESULT_FIRST_MISS)
  let hits: u64 = 0
  let done: u32 = 0
  if (segments <= TRY_ALL) {
    done = count & ~7
    hits = translateBlocks(src, dst, done, segments)
  }
  for (let i = done; i < count; i++) {
    const x = load<u64>(src + (<usize>i << 3))
    const at = findSegment(x, segments)
    if (at) {
      hits++
      store<u64>(dst + (<usize>i << 3), x + load<u64>(at, 16))
    } else {
      if (load<u64>(RESULT, RESULT_FIRST_MISS) == NO_MISS) store<u64>(RESULT, i, RESULT_FIRST_MISS)
      store<u64>(dst + (<usize>i << 3), x)
    }
  }
  store<u64>(RESULT, hits, RESULT_TRANSLATED)
  store<u64>(RESULT, <u64>count - hits, RESULT_MISSED)
}

/**
 * Eight addresses a turn, two a vector. Traces stay in one segment for a while: when all eight lie in the one that was last
 * looked up, that is all there is to do; it is looked up anew in one of eight turns that were not so easy. There is no unsigned 64-bit vector compare: flipping the sign bit of both sides
 * makes the signed one do, and subtracting (start + 2^63) subtracts and flips at once.
 * `count` is a multiple of 8. Returns how many translated.
 */
function translateBlocks(src: usize, dst: usize, count: u32, segments: u32): u64 {
  let hits = i64x2.splat(0)
  let first = NO_MISS
  const end = SEGMENTS + <usize>segments * SEGMENT_BYTES
  let hereStart = i64x2.splat(load<u64>(SEGMENTS) + SIGN)
  let hereSize = i64x2.splat(load<u64>(SEGMENTS, 8) ^ SIGN)
  let hereDelta = v128.load64_splat(SEGMENTS, 16)
  let easy: u64 = 0
  for (let i: u32 = 0; i < count; i += 8) {
    const a = v128.load(src)
    const b = v128.load(src, 16)
    const c = v128.load(src, 32)
    const d = v128.load(src, 48)
    const all = v128.and(
      v128.and(i64x2.gt_s(hereSize, i64x2.sub(a, hereStart)), i64x2.gt_s(hereSize, i64x2.sub(b, hereStart))),
      v128.and(i64x2.gt_s(hereSize, i64x2.sub(c, hereStart)), i64x2.gt_s(hereSize, i64x2.sub(d, hereStart))),
    )
    if (i64x2.bitmask(all) == 3) {
      v128.store(dst, i64x2.add(a, hereDelta))
      v128.store(dst, i64x2.add(b, hereDelta), 16)
      v128.store(dst, i64x2.add(c, hereDelta), 32)
      v128.store(dst, i64x2.add(d, hereDelta), 48)
      easy += 8
      src += 64
      dst += 64
      continue
    }
    let deltaA = i64x2.splat(0)
    let deltaB = deltaA
    let deltaC = deltaA
    let deltaD = deltaA
    let hitA = deltaA
    let hitB = deltaA
    let hitC = deltaA
    let hitD = deltaA
    for (let at = SEGMENTS; at < end; at += SEGMENT_BYTES) {
      const start = i64x2.splat(load<u64>(at) + SIGN)
      const size = i64x2.splat(load<u64>(at, 8) ^ SIGN)
      const delta = v128.load64_splat(at, 16)
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
    if (first == NO_MISS && !i64x2.all_true(v128.and(v128.and(hitA, hitB), v128.and(hitC, hitD)))) {
      const mask =
        i64x2.bitmask(hitA) | (i64x2.bitmask(hitB) << 2) | (i64x2.bitmask(hitC) << 4) | (i64x2.bitmask(hitD) << 6)
      first = <u64>i + <u64>ctz(~mask)
    }
    if ((i & 63) == 0) {
      const at = findSegment(<u64>i64x2.extract_lane(d, 1), segments)
      if (at) {
        hereStart = i64x2.splat(load<u64>(at) + SIGN)
        hereSize = i64x2.splat(load<u64>(at, 8) ^ SIGN)
        hereDelta = v128.load64_splat(at, 16)
      }
    }
    src += 64
    dst += 64
  }
  store<u64>(RESULT, first, RESULT_FIRST_MISS)
  return easy + i64x2.extract_lane(hits, 0) + i64x2.extract_lane(hits, 1)
}
