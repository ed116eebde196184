// Hex digits to and from u64, sixteen bytes at a time, and what a byte is.

/** 15 … 0 and sixteen 0xff: read at offset 16 - n it reverses the first n bytes of a vector. */
// @ts-ignore: decorator
@lazy
const REVERSE: usize = memory.data<u8>([
  15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
  0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
])

/** The shuffle that reverses the first n bytes (0 … 16) of a vector; the others become 0. */
// @ts-ignore: decorator
@inline
export function reversal(n: u32): v128 {
  return v128.load(REVERSE + 16 - n)
}

/**
 * 0xff in each byte of x that is one of 0-9 a-f A-F. Each range is moved to the top of the signed bytes, where one compare
 * separates it from all other bytes: '0' … '9' to 0x76 … 0x7f, 'a' … 'f' to 0x7a … 0x7f.
 */
// @ts-ignore: decorator
@inline
export function isHex(x: v128): v128 {
  const digit = i8x16.gt_s(i8x16.add(x, i8x16.splat(0x46)), i8x16.splat(0x75))
  const letter = i8x16.gt_s(i8x16.add(v128.or(x, i8x16.splat(0x20)), i8x16.splat(0x19)), i8x16.splat(0x79))
  return v128.or(digit, letter)
}

/** 1 for 0-9 A-Z a-z and underscore, by byte. */
// @ts-ignore: decorator
@lazy
const WORD: usize = memory.data<u8>([
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0,
  0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1,
  0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
])

/** Whether the byte at an address is one that may not touch a token. */
// @ts-ignore: decorator
@inline
export function isWordAt(at: usize): bool {
  return load<u8>(<usize>load<u8>(at), WORD) != 0
}

/** The sixteen digits, lower-case and behind them upper-case. */
// @ts-ignore: decorator
@lazy
const DIGITS: usize = memory.data<u8>([
  0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x30, 0x31, 0x32,
  0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46,
])
/** The table of a token whose letters are all in upper case, or of any other. */
// @ts-ignore: decorator
@inline
export function digitTable(upper: bool): v128 {
  return v128.load(DIGITS + (<usize>upper << 4))
}

// Digits in vectors stand least significant first, which is how the bytes of a u64 stand: text is reversed on its way in
// and out.

// Vectors that are needed for every token. They are loaded in front of the loop, not spelled out in it: a compiler of
// WebAssembly may build a constant anew at each use.
// @ts-ignore: decorator
@lazy
const VECTORS: usize = memory.data<u8>([
  0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39,
  0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09,
  0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f,
  0x10, 0x01, 0x10, 0x01, 0x10, 0x01, 0x10, 0x01, 0x10, 0x01, 0x10, 0x01, 0x10, 0x01, 0x10, 0x01,
])
// @ts-ignore: decorator
@inline
export function vector(index: usize): v128 {
  return v128.load(VECTORS + (index << 4))
}
/** '9' in all bytes. */
export const NINE_DIGIT: usize = 0
/** 9 in all bytes. */
export const NINE: usize = 1
/** 0x0f in all bytes. */
export const LOW_NIBBLE: usize = 2
/** 0x110 in all 16-bit lanes. */
export const JOIN: usize = 3

/** 0xff where a digit of text is one of a-f, A-F. */
// @ts-ignore: decorator
@inline
export function lettersOf(digits: v128, nineDigit: v128): v128 {
  return i8x16.gt_s(digits, nineDigit)
}

/**
 * The value, in both lanes, of up to sixteen hex digits of text, the least significant one first, zeros behind the last.
 * The last three arguments are the vectors of their names.
 */
// @ts-ignore: decorator
@inline
export function valueOf(digits: v128, letters: v128, nine: v128, lowNibble: v128, join: v128): v128 {
  // '0' … '9' are 0x30 … 0x39, letters end in 1 … 6.
  const nibbles = v128.and(i8x16.add(digits, v128.and(letters, nine)), lowNibble)
  // In a 16-bit lane low + 256 * high becomes 256 * (low + 16 * high) + 16 * low: the byte is on top.
  const bytes = i16x8.shr_u(i16x8.mul(nibbles, join), 8)
  return i8x16.narrow_i16x8_u(bytes, bytes)
}

/** Sixteen digits of text, the least significant one first, of the lower lane of x. */
// @ts-ignore: decorator
@inline
export function digitsOf(x: v128, table: v128, lowNibble: v128): v128 {
  const high = i64x2.shr_u(x, 4)
  // Byte by byte: its low nibble, its high nibble.
  const nibbles = i8x16.shuffle(x, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
  return i8x16.swizzle(table, v128.and(nibbles, lowNibble))
}

// Upper-case and lower-case letters differ in bit 5.

/** Whether there are letters in upper case. */
// @ts-ignore: decorator
@inline
export function anyUpper(digits: v128, letters: v128): bool {
  return i8x16.bitmask(v128.andnot(letters, i16x8.shl(digits, 2))) != 0
}

/** Whether there are letters in lower case. */
// @ts-ignore: decorator
@inline
export function anyLower(digits: v128, letters: v128): bool {
  return i8x16.bitmask(v128.and(letters, i16x8.shl(digits, 2))) != 0
}
