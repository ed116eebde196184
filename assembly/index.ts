// The ABI: everything a host may call, and nothing else. Pointers and counts are u32; see memory.ts for the blocks a host
// fills (MACRO, SEGMENTS) and reads (RESULT).

import {
  HEAP,
  MACRO,
  NAME_SEGMENT_CAPACITY,
  NAME_SEGMENTS,
  NAMES,
  RESULT,
  SEGMENT_CAPACITY,
  SEGMENTS,
  WATCH,
} from './memory'

export { maskTag, swapBytes } from './mask-tag'
export { countText, hexLines, nameBatch, nameText, tally, tokenValues } from './names'
export { scanPatch } from './patch-scan'
export { translateBatch, watchBatch } from './segments'
export { rewriteText } from './text'

/** Where the result block is: u64 missed, u64 translated, u64 first miss, u32 consumed, u32 produced, u64 watched, twice. */
export function resultAt(): usize {
  return RESULT
}
/** Where the host puts mask and tag (two u64) of the unchecked macro. */
export function macroAt(): usize {
  return MACRO
}
/** Where the host puts the two ranges to watch: u64 start + 2^63, twice, and u64 size ^ 2^63, twice. */
export function watchAt(): usize {
  return WATCH
}
/** Where the host puts its segments: {u64 start, u64 size, u64 delta}, ascending, disjoint. */
export function segmentsAt(): usize {
  return SEGMENTS
}
export function segmentCapacity(): u32 {
  return SEGMENT_CAPACITY
}
/** Where the host says where its symbol table is: see NAMES of memory.ts. */
export function namesAt(): usize {
  return NAMES
}
/** Where the host puts the segments that lead to the symbol table's addresses, in the form of its other segments. */
export function nameSegmentsAt(): usize {
  return NAME_SEGMENTS
}
export function nameSegmentCapacity(): u32 {
  return NAME_SEGMENT_CAPACITY
}
/** First byte that belongs to the host. */
export function heapAt(): usize {
  return HEAP
}
