// The ABI: all that a host calls and reads, and nothing else. Pointers and counts are u32; an exported constant is a global.
//
// A host fills the blocks at MACRO, SEGMENTS, WATCH, NAMES and NAME_SEGMENTS, puts its data at HEAP or behind it (growing
// the memory as it needs), calls, and reads the block at RESULT. memory.ts describes each block and each constant; what a
// function expects and leaves stands beside the function.

export {
  BY_MACRO,
  BY_NAME,
  HEAP,
  HIT_BYTES,
  LINE_BYTES,
  LONGEST_TOKEN,
  MACRO,
  NAME_SEGMENT_CAPACITY,
  NAME_SEGMENTS,
  NAMES,
  NAMES_BASE,
  NAMES_BUCKETS,
  NAMES_SHIFT,
  NAMES_SPAN,
  NAMES_STARTS,
  NAMES_TEXTS,
  NO_ENTRY,
  RESULT,
  RESULT_CONSUMED,
  RESULT_FIRST_MISS,
  RESULT_MISSED,
  RESULT_PRODUCED,
  RESULT_TRANSLATED,
  RESULT_WATCHED,
  SEGMENT_BYTES,
  SEGMENT_CAPACITY,
  SEGMENTS,
  TEXT_CONTEXT,
  TEXT_SLACK,
  WATCH,
} from './memory'
export { maskTag, swapBytes } from './mask-tag'
export { hexLines, nameBatch, nameText, tally } from './names'
export { scanPatch } from './patch-scan'
export { translateBatch, watchBatch } from './segments'
export { rewriteText } from './text'
export { countText, tokenValues } from './tokens'
