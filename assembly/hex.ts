// Hex digits to and from u64, sixteen bytes at a time, and what a byte is.

/** 0x00 … 0x0f behind sixteen 0xff: read at offset n it moves the first n bytes of a vector to its end. */
// @ts-ignore: decorator
@lazy
const ALIGN_RIGHT: usize = memory.data<u8>([
  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 5, 6,
  7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
  0xff, 0xff,
])

/** The vector shuffle that moves the first n bytes (0 … 16) to the end; the others select nothing. */
// @ts-ignore: decorator
@inline
export function alignRight(n: u32): v128 {
  return v128.load(ALIGN_RIGHT + n)
}

/** The vector shuffle that moves the last n bytes (0 … 16) to the front; the others select nothing. */
// @ts-ignore: decorator
@inline
export function alignLeft(n: u32): v128 {
  return v128.load(ALIGN_RIGHT + 32 - n)
}

/** 0xff in each byte of x that is one of 0-9 a-f A-F. A range test is one subtract and one unsigned compare. */
// @ts-ignore: decorator
@inline
export function isHex(x: v128): v128 {
  const digit = i8x16.le_u(i8x16.sub(x, i8x16.splat(0x30)), i8x16.splat(9))
  const letter = i8x16.le_u(i8x16.sub(v128.or(x, i8x16.splat(0x20)), i8x16.splat(0x61)), i8x16.splat(5))
  return v128.or(digit, letter)
}

/** True for 0-9 A-Z a-z and underscore, the bytes that may not touch a token. */
// @ts-ignore: decorator
@inline
export function isWord(byte: u32): bool {
  const letter = (byte | 0x20) - 0x61
  // Bits of '0' … '_' above '0': ten digits and the underscore.
  return letter < 26 || byte - 0x30 < 10 || byte == 0x5f
}

/**
 * The value of the first n bytes (1 … 16), all hex digits, most significant first. What follows them does not matter.
 */
// @ts-ignore: decorator
@inline
export function parseHex(text: v128, n: u32): u64 {
  // '0' … '9' are 0x30 … 0x39, letters end in 1 … 6.
  const nibbles = i8x16.add(
    v128.and(text, i8x16.splat(0x0f)),
    v128.and(i8x16.gt_s(text, i8x16.splat(0x39)), i8x16.splat(9)),
  )
  const aligned = i8x16.swizzle(nibbles, alignRight(n))
  // In each 16-bit lane: low byte the high nibble, high byte the low nibble.
  const bytes = v128.or(i16x8.shl(aligned, 4), i16x8.shr_u(aligned, 8))
  return <u64>i64x2.extract_lane(i8x16.shuffle(bytes, bytes, 14, 12, 10, 8, 6, 4, 2, 0, 14, 12, 10, 8, 6, 4, 2, 0), 0)
}

/** Sixteen digits of x, most significant first; `letters` is 39 for lower-case, 7 for upper-case ones. */
// @ts-ignore: decorator
@inline
export function formatHex(x: u64, letters: u32): v128 {
  const v = i64x2.splat(x)
  const twice = i8x16.shuffle(v, v, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0)
  const nibbles = v128.or(
    v128.and(i16x8.shr_u(twice, 4), i16x8.splat(0x000f)),
    v128.and(twice, i16x8.splat(0x0f00)),
  )
  const letter = v128.and(i8x16.gt_s(nibbles, i8x16.splat(9)), i8x16.splat(<i8>letters))
  return i8x16.add(i8x16.add(nibbles, i8x16.splat(0x30)), letter)
}
