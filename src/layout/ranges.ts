import { formatU64, type Range } from '../u64.js'

/** First and last address, for a message: `0x40000000–0xbfffffff`. */
export function rangeText({ start, end }: Range): string {
  return `${formatU64(start)}–${formatU64(end - 1n)}`
}

/** By their starts, ascending. */
export function inOrder<T extends { readonly start: bigint }>(ranges: readonly T[]): T[] {
  return ranges.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
}

/** A comparison that sorts regions, boxes and the like by the starts of their ranges, ascending. */
export function byStart({ range: a }: { readonly range: Range }, { range: b }: { readonly range: Range }): number {
  return a.start < b.start ? -1 : a.start > b.start ? 1 : 0
}

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

/** `clip` for ranges that ascend and do not overlap: looks at those only that reach into [start, end). */
export function within(ranges: readonly Range[], start: bigint, end: bigint): Range[] {
  let first = 0
  for (let last = ranges.length; first < last; ) {
    const middle = (first + last) >> 1
    if (ranges[middle]!.end <= start) first = middle + 1
    else last = middle
  }
  let behind = first
  while (behind < ranges.length && ranges[behind]!.start < end) behind++
  return clip(ranges.slice(first, behind), start, end)
}

/** The parts of `ranges` in none of `removed`; each ascending by start. */
export function subtract(ranges: readonly Range[], removed: readonly Range[]): Range[] {
  const holes = ranges.length > 1 ? united(removed) : undefined
  return ranges.flatMap((range) => {
    const rest: Range[] = []
    let start = range.start
    for (const hole of holes ? within(holes, range.start, range.end) : clip(removed, range.start, range.end)) {
      if (start < hole.start) rest.push({ start, end: hole.start })
      if (hole.end > start) start = hole.end
    }
    if (start < range.end) rest.push({ start, end: range.end })
    return rest
  })
}

/** Ranges that ascend by start, as ranges that do not overlap either. */
export function united(ranges: readonly Range[]): Range[] {
  const result: Range[] = []
  for (const { start, end } of ranges) {
    const last = result.at(-1)
    if (last !== undefined && start <= last.end) {
      if (end > last.end) result[result.length - 1] = { start: last.start, end }
    } else result.push({ start, end })
  }
  return result
}

/** Bytes in ranges that do not overlap. */
export function sizeOf(ranges: readonly Range[]): bigint {
  return ranges.reduce((sum, { start, end }) => sum + (end - start), 0n)
}
