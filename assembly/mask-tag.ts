// kern_hyp_va itself, unchecked: (x AND mask) + tag over a batch of u64. Mask and tag share no bit in any layout a kernel
// builds, so the sum is the kernel's OR as well; it is an ADD because that is what the patched instructions do.

import { MACRO } from './memory'

/**
 * Transforms `count` u64 from `src` to `dst`. The two are the same address or do not overlap. Two u64 a vector, lane order
 * kept; eight vectors a turn make the loop's own work small beside theirs.
 */
export function maskTag(src: usize, dst: usize, count: u32): void {
  const m = load<u64>(MACRO)
  const t = load<u64>(MACRO, 8)
  const mask = i64x2.splat(m)
  const tag = i64x2.splat(t)
  const end = src + (<usize>count << 3)
  const endBlocks = src + ((<usize>count & ~15) << 3)
  while (src < endBlocks) {
    const a = v128.load(src)
    const b = v128.load(src, 16)
    const c = v128.load(src, 32)
    const d = v128.load(src, 48)
    const e = v128.load(src, 64)
    const f = v128.load(src, 80)
    const g = v128.load(src, 96)
    const h = v128.load(src, 112)
    v128.store(dst, i64x2.add(v128.and(a, mask), tag))
    v128.store(dst, i64x2.add(v128.and(b, mask), tag), 16)
    v128.store(dst, i64x2.add(v128.and(c, mask), tag), 32)
    v128.store(dst, i64x2.add(v128.and(d, mask), tag), 48)
    v128.store(dst, i64x2.add(v128.and(e, mask), tag), 64)
    v128.store(dst, i64x2.add(v128.and(f, mask), tag), 80)
    v128.store(dst, i64x2.add(v128.and(g, mask), tag), 96)
    v128.store(dst, i64x2.add(v128.and(h, mask), tag), 112)
    src += 128
    dst += 128
  }
  while (src < end) {
    store<u64>(dst, (load<u64>(src) & m) + t)
    src += 8
    dst += 8
  }
}

/** Reverses the bytes of each of `count` u64 in place: big-endian streams to and from the machine's order. */
export function swapBytes(at: usize, count: u32): void {
  const end = at + (<usize>count << 3)
  const endPairs = at + ((<usize>count & ~1) << 3)
  while (at < endPairs) {
    const x = v128.load(at)
    v128.store(at, i8x16.shuffle(x, x, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8))
    at += 16
  }
  if (at < end) store<u64>(at, bswap(load<u64>(at)))
}
