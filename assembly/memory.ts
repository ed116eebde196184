// The map of the module's linear memory, as a host sees it. index.ts exports all of this file, so that no host types an
// address or a size again. Everything below HEAP is fixed; memory from HEAP on belongs to the host, which grows it as it
// needs and passes pointers in.
//
//   0x0000  constant tables (data segments placed by the compiler, see hex.ts)
//   0x1000  RESULT      what the last call found
//   0x1080  MACRO       mask and tag of the unchecked macro
//   0x10a0  WATCH       two ranges whose addresses are counted whether they translate or not
//   0x10c0  NAMES       where the host has put its symbol table (large, hence in the heap)
//   0x1100  NAME_SEGMENTS  the segment table that leads to the symbol table's addresses
//   0x2000  SEGMENTS    the segment table of the checked kernels
//   0x8000  what the kernels keep for themselves, see scratch.ts
//  0x20000  HEAP

/** Result block, little-endian: see the offsets below. */
export const RESULT: usize = 0x1000
/** u64: addresses (batch) or tokens (text) that did not translate. */
export const RESULT_MISSED: usize = 0
/** u64: addresses or tokens that did. */
export const RESULT_TRANSLATED: usize = 8
/** u64: index of the first address, or byte offset in the chunk of the first token, that did not; 2^64 - 1 when none. */
export const RESULT_FIRST_MISS: usize = 16
/** u32: bytes of the text chunk that were dealt with; the rest belongs in front of the next chunk. */
export const RESULT_CONSUMED: usize = 24
/** u32: bytes of text that came out. */
export const RESULT_PRODUCED: usize = 28

/** u64, twice: addresses in each of the two ranges of WATCH, for the kernels that look at them. */
export const RESULT_WATCHED: usize = 32

/** In place of a number of segments: translate every address with MACRO. */
export const BY_MACRO: u32 = 0xffff_ffff
/** In place of a number of segments: translate nothing, write the name instead of the address. */
export const BY_NAME: u32 = 0xffff_fffe
/** In place of an entry of the symbol table: no symbol covers the address. */
export const NO_ENTRY: u32 = 0xffff_ffff

/** u64 mask, u64 tag. */
export const MACRO: usize = 0x1080

/**
 * Two ranges as vectors: both starts + 2^63, then both sizes ^ 2^63. There is no unsigned 64-bit vector compare; with the
 * sign bit of both sides flipped the signed one does.
 */
export const WATCH: usize = 0x10a0

/**
 * The symbol table's places: u32 entries, u32 starts, u32 texts, u32 buckets, u64 base, u64 span, u32 shift. See names.ts.
 */
export const NAMES: usize = 0x10c0
export const NAMES_STARTS: usize = 4
export const NAMES_TEXTS: usize = 8
export const NAMES_BUCKETS: usize = 12
export const NAMES_BASE: usize = 16
export const NAMES_SPAN: usize = 24
export const NAMES_SHIFT: usize = 32

/** Table of up to NAME_SEGMENT_CAPACITY entries like those of SEGMENTS. */
export const NAME_SEGMENTS: usize = 0x1100
export const NAME_SEGMENT_CAPACITY: u32 = 160

/** Table of up to SEGMENT_CAPACITY entries {u64 start, u64 size (1 … 2^64 - 1), u64 delta}, ascending and disjoint. */
export const SEGMENTS: usize = 0x2000
export const SEGMENT_BYTES: usize = 24
export const SEGMENT_CAPACITY: u32 = 1024

export const HEAP: usize = 0x20000

/** Bytes that a host leaves readable and writable in front of and behind a text chunk, and behind what comes out of it. */
export const TEXT_SLACK: u32 = 128
/** Of the bytes in front of a text chunk, those that must be the text's previous ones (0 at its beginning). */
export const TEXT_CONTEXT: u32 = 3
/** Bytes of the longest token: 0x and sixteen digits. A longer word is none, wherever the text is cut. */
export const LONGEST_TOKEN: u32 = 18

/** Bytes of a line that hexLines writes: sixteen digits and a line feed. */
export const LINE_BYTES: u32 = 17
/** Bytes of an entry that scanPatch writes. */
export const HIT_BYTES: u32 = 16
