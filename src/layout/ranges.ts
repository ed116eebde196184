import type { Range } from '../u64.js'

/** Ascending ranges with the touching ones joined, as memblock keeps its banks. */
export function joinTouching(ranges: readonly Range[]): Range[] {
  const joined: Range[] = []
  for (const { start, end } of ranges) {
    const last = joined.at(-1)
    if (last !== undefined && last.end === start) joined[joined.length - 1] = { start: last.start, end }
    else joined.push({ start, end })
  }
  return joined
}

/** The parts of `ranges` inside [start, end); the bounds may be negative. */
export function clip(ranges: readonly Range[], start: bigint, end: bigint): Range[] {
  return ranges
    .map((range) => ({
      start: range.start > start ? range.start : start,
      end: range.end < end ? range.end : end,
    }))
    .filter((range) => range.start < range.end)
}

/** The parts of `ranges` in none of `removed`; each ascending by start. */
export function subtract(ranges: readonly Range[], removed: readonly Range[]): Range[] {
  return ranges.flatMap((range) => {
    const rest: Range[] = []
    let start = range.start
    for (const hole of clip(removed, range.start, range.end)) {
      if (start < hole.start) rest.push({ start, end: hole.start })
      if (hole.end > start) start = hole.end
    }
    if (start < range.end) rest.push({ start, end: range.end })
    return rest
  })
}

/** Bytes in ranges that do not overlap. */
export function sizeOf(ranges: readonly Range[]): bigint {
  return ranges.reduce((sum, { start, end }) => sum + (end - start), 0n)
}
