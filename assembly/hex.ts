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

/**
 * 0xff in each byte of x that is one of 0-9 a-f A-F. Each range is moved to the top of the signed bytes, where one compare
 * tells it from all else: '0' … '9' to 0x76 … 0x7f, 'a' … 'f' to 0x7a … 0x7f.
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
  return load<u8>(WORD + <usize>load<u8>(at)) != 0
}

/** The sixteen digits, lower-case and behind them upper-case. */
// @ts-ignore: decorator
@lazy
const DIGITS: usize = memory.data<u8>([
  0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x30, 0x31, 0x32,
  0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46,
])

// The vectors that the next two functions work with. They are loaded, not spelled out: a compiler of WebAssembly builds a
// constant anew at each use, but keeps what a loop has loaded in front of it.
// @ts-ignore: decorator
@lazy
const VECTORS: usize = memory.data<u8>([
  0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39, 0x39,
  0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09,
  0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f,
  14, 12, 10, 8, 6, 4, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
  7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0,
  0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00,
  0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f, 0x00, 0x0f,
])
// @ts-ignore: decorator
@inline
export function vector(index: usize): v128 {
  return v128.load(VECTORS + (index << 4))
}
/** '9', 9, 0x0f in all bytes; then the shuffle that reverses the even bytes. */
export const NINE_DIGIT: usize = 0
export const NINE: usize = 1
export const LOW_NIBBLE: usize = 2
export const REVERSE_EVEN: usize = 3
/** The shuffle that gives each of eight bytes twice, the last first; the low nibble of even, of odd bytes. */
export const TWICE_REVERSED: usize = 4
export const EVEN_NIBBLE: usize = 5
export const ODD_NIBBLE: usize = 6

/**
 * The value of the first n bytes (1 … 16), all hex digits, most significant first. What follows them does not matter.
 * The last four arguments are the vectors of their names.
 */
// @ts-ignore: decorator
@inline
export function parseHex(text: v128, n: u32, nineDigit: v128, nine: v128, lowNibble: v128, reverseEven: v128): u64 {
  // '0' … '9' are 0x30 … 0x39, letters end in 1 … 6.
  const nibbles = i8x16.add(v128.and(text, lowNibble), v128.and(i8x16.gt_s(text, nineDigit), nine))
  const aligned = i8x16.swizzle(nibbles, alignRight(n))
  // In each 16-bit lane: low byte the high nibble, high byte the low nibble.
  const bytes = v128.or(i16x8.shl(aligned, 4), i16x8.shr_u(aligned, 8))
  return <u64>i64x2.extract_lane(i8x16.swizzle(bytes, reverseEven), 0)
}

/**
 * Sixteen digits of x, most significant first, lower-case or upper-case. The last three arguments are the vectors of their
 * names.
 */
// @ts-ignore: decorator
@inline
export function formatHex(x: u64, upper: bool, twiceReversed: v128, evenNibble: v128, oddNibble: v128): v128 {
  const twice = i8x16.swizzle(i64x2.splat(x), twiceReversed)
  const nibbles = v128.or(v128.and(i16x8.shr_u(twice, 4), evenNibble), v128.and(twice, oddNibble))
  return i8x16.swizzle(v128.load(DIGITS + (<usize>upper << 4)), nibbles)
}
