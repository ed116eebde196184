import { tagSpace, userRanges } from '../layout/hyp-ranges.js'
import { inOrder, subtract, united } from '../layout/ranges.js'
import { hypRegions, kernelRegions, type Region, type RegionKind } from '../layout/regions.js'
import { linkedImage, type Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import type { Range } from '../u64.js'

/**
 * Where addresses of the source spaces lie by the layout, and yet nothing translates them: holes of DRAM, memory without an
 * address in the target space, tags of other boots. Ascending and disjoint.
 * @param covered the ranges that translate
 */
export function gapsOf(layout: HypLayout, sources: readonly Space[], covered: readonly Range[]): Range[] {
  return subtract(disjoint(sources.flatMap((space) => regionsOf(layout, space))), disjoint(covered))
}

/** All addresses that do not translate: every raw word is an address. */
export function complementOf(covered: readonly Range[]): Range[] {
  return subtract([{ start: 0n, end: 1n << 64n }], disjoint(covered))
}

/** Where a layout expects addresses of a space. */
function regionsOf(layout: HypLayout, space: Space): Range[] {
  const { dram = [] } = layout
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
      return [linkedImage(layout) ?? []].flat()
    case 'phys':
      return dram.length === 0 ? [] : [{ start: dram[0]!.start, end: dram.at(-1)!.end }]
    case 'hyp':
      return layout.mode === 'vhe' ? regionsOf(layout, 'kernel') : hypLinear(layout)
  }
}

/**
 * The block of the layout's tag with its holes, and those of all other tags, without the addresses of programs, which many
 * traces contain.
 */
function hypLinear(layout: HypLayout): Range[] {
  const regions = hypRegions(layout)
  const isLinear = ({ kind }: Region) => kind === 'hyp-linear' || kind === 'hyp-linear-hole'
  const linear = regions.filter(isLinear).map(({ range }) => range)
  const mapped = regions.filter((region) => !isLinear(region)).map(({ range }) => range)
  const tags = tagSpace(layout)
  const others = tags === undefined ? [] : subtract([tags.region], [...userRanges(layout, 'most')])
  return subtract(disjoint([...linear, ...others]), disjoint(mapped))
}

/** Ascending, overlaps and neighbours joined. */
function disjoint(ranges: readonly Range[]): Range[] {
  return united(inOrder(ranges))
}
