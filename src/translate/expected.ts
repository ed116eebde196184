import { subtract } from '../layout/ranges.js'
import { hypRegions, kernelRegions, type RegionKind } from '../layout/regions.js'
import { tagSpace, userRanges } from '../layout/tag-space.js'
import type { HypLayout } from '../layout/types.js'
import { type Range, wrap64 } from '../u64.js'
import type { Space } from './directions.js'

/**
 * Where addresses of the source spaces lie by the layout, and yet nothing translates them: holes of DRAM, memory without an
 * address in the target space, tags of other boots. Ascending and disjoint.
 * @param covered what does translate
 */
export function gapsOf(layout: HypLayout, sources: readonly Space[], covered: readonly Range[]): Range[] {
  return subtract(inOrder(sources.flatMap((space) => regionsOf(layout, space))), inOrder(covered))
}

/** Where nothing is translated, of all there is: in raw words every one is an address. */
export function complementOf(covered: readonly Range[]): Range[] {
  return subtract([{ start: 0n, end: 1n << 64n }], inOrder(covered))
}

/** Where a layout expects addresses of a space. */
function regionsOf(layout: HypLayout, space: Space): Range[] {
  const { dram = [], image, kaslrOffset } = layout
  const kernel = (...kinds: RegionKind[]) =>
    kernelRegions(layout)
      .filter(({ kind }) => kinds.includes(kind))
      .map(({ range }) => range)
  switch (space) {
    case 'kernel':
      return kernel('linear', 'linear-hole', 'image')
    case 'linear':
      return kernel('linear', 'linear-hole')
    case 'image':
      return kernel('image')
    case 'link':
      if (image === undefined || kaslrOffset === undefined) return []
      return [{ start: wrap64(image.start - kaslrOffset), end: wrap64(image.end - kaslrOffset) }]
    case 'phys':
      return dram.length === 0 ? [] : [{ start: dram[0]!.start, end: dram.at(-1)!.end }]
    case 'hyp':
      return layout.mode === 'vhe' ? regionsOf(layout, 'kernel') : hypLinear(layout)
  }
}

/**
 * The block of the layout's tag with its holes, and those of all other tags, but for addresses that programs have: these are in
 * many traces.
 */
function hypLinear(layout: HypLayout): Range[] {
  const regions = hypRegions(layout)
  const linear = regions.filter(({ kind }) => kind.startsWith('hyp-linear')).map(({ range }) => range)
  const mapped = regions.filter(({ kind }) => !kind.startsWith('hyp-linear')).map(({ range }) => range)
  const tags = tagSpace(layout)
  const others = tags === undefined ? [] : subtract([tags.region], [...userRanges(layout, 'most')])
  return subtract(inOrder([...linear, ...others]), inOrder(mapped))
}

/** Ascending, overlaps and neighbours joined. */
function inOrder(ranges: readonly Range[]): Range[] {
  const disjoint: Range[] = []
  for (const range of ranges.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))) {
    const last = disjoint.at(-1)
    if (last === undefined || range.start > last.end) disjoint.push(range)
    else if (range.end > last.end) disjoint[disjoint.length - 1] = { start: last.start, end: range.end }
  }
  return disjoint
}
