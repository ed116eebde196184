// The ABI: all that a host calls and reads, and nothing else. Pointers and counts are u32; an exported constant is a global.
//
// A host fills the blocks at MACRO, SEGMENTS, WATCH, NAMES and NAME_SEGMENTS, puts its data at HEAP or behind it (growing
// the memory as it needs), calls, and reads the block at RESULT. memory.ts describes each block and each constant; the
// comment of a function says what it expects and leaves.

export * from './memory'
export { maskTag, swapBytes } from './mask-tag'
export { hexLines, nameBatch, nameText, tally } from './names'
export { scanPatch } from './patch-scan'
export { translateBatch, watchBatch } from './segments'
export { rewriteText } from './text'
export { countText, tokenValues } from './tokens'
