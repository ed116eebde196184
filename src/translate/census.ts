import { ABI } from '../engine/wasm.generated.js'
import { byStart, subtract, united, within } from '../layout/ranges.js'
import { hypRegions, kernelRegions, type LocatedRegion, type RegionKind, rankOf } from '../layout/regions.js'
import { linkedImage, type Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { formatName, type SymbolEntry } from '../symbols/table.js'
import type { Range } from '../u64.js'
import type { ByteOrder } from './binary.js'
import type { Namer } from './namer.js'
import { RangeCounter } from './range-counter.js'
import type { TagWatch } from './tag-watch.js'

/** How many addresses of a region a trace has. */
export interface RegionCount {
  readonly kind: RegionKind
  readonly range: Range
  readonly text: string
  readonly count: number
}

/** How many addresses of a symbol a trace has. */
export interface SymbolCount {
  readonly symbol: SymbolEntry
  /** As names are written, without an offset. */
  readonly name: string
  readonly count: number
}

/** The addresses of a trace by region and symbol. */
export interface CensusResult {
  /** All addresses: tokens of text, or raw words. */
  readonly addresses: number
  /** Most frequent first. */
  readonly regions: readonly RegionCount[]
  /** Addresses in no region of the layout. */
  readonly elsewhere: number
  /** Most frequent first; none without symbols. */
  readonly symbols: readonly SymbolCount[]
  /** Addresses that have a name. */
  readonly named: number
}

const KERNEL_HALF = 1n << 63n

/**
 * Counts the addresses of a stream by region and by symbol. It rewrites nothing: `commit` returns no bytes.
 * @example
 * const census = new Census(layout)
 * const text = new TextEncoder().encode('pc 0x89b380ef1c00\n')
 * census.space().set(text)
 * census.commit(text.length, true)
 * census.result().addresses // 1
 */
export class Census extends RangeCounter {
  private readonly namer: Namer | undefined
  private readonly regions: readonly LocatedRegion[]
  private readonly perEntry: Float64Array
  private named = 0

  /**
   * @param from what the addresses are; absent: kernel addresses in the upper half, hyp addresses in the lower
   * @param order of raw words; absent: text
   * @throws HypvaError `HYPVA_LAYOUT` for more regions than the engine has room for
   */
  constructor(
    layout: HypLayout,
    options: {
      readonly from?: Space
      readonly namer?: Namer
      readonly order?: ByteOrder
      readonly chunk?: number
      /** @internal sees all addresses, to notice a layout of another boot */
      readonly watch?: TagWatch
    } = {},
  ) {
    const { from, namer, order, chunk = 65536, watch } = options
    const regions = regionPieces(layout, from)
    const ranges = regions.map(({ range }) => range)
    super(ranges, order, chunk, watch)
    this.namer = namer
    this.regions = regions
    this.perEntry = new Float64Array(namer?.symbols.starts.length ?? 0)
  }

  protected override examine(addresses: BigUint64Array): void {
    const { namer, perEntry } = this
    if (namer === undefined || addresses.length === 0) return
    const { entries, named } = namer.nameBatch(addresses)
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!
      if (entry !== ABI.NO_ENTRY) perEntry[entry]!++
    }
    this.named += named
  }

  /** What was seen so far. */
  result(): CensusResult {
    const { perEntry, namer, counts } = this
    const counted = this.perRange()
    const regions = new Map<string, RegionCount>()
    this.regions.forEach(({ kind, range, text }, i) => {
      const count = Number(counted[i]!)
      if (count === 0) return
      // Pieces of one region count together.
      const before = regions.get(text)
      regions.set(text, { kind, text, range: before?.range ?? range, count: count + (before?.count ?? 0) })
    })
    const symbols: SymbolCount[] = []
    perEntry.forEach((count, i) => {
      const symbol = count > 0 ? namer!.symbols.at(i) : undefined
      if (symbol === undefined) return
      const name = formatName({ symbol, offset: 0n }, namer!.options).replace(/\+0x0\/0x[0-9a-f]+/, '')
      symbols.push({ symbol, name, count })
    })
    const often = (a: { count: number }, b: { count: number }) => b.count - a.count
    return {
      addresses: counts.translated + counts.missed,
      regions: [...regions.values()].sort(often),
      elsewhere: counts.missed,
      symbols: symbols.sort(often),
      named: this.named,
    }
  }
}

/** The known regions, disjoint and ascending; where two overlap, the one of the lower rank keeps the addresses. */
function regionPieces(layout: HypLayout, from: Space | undefined): LocatedRegion[] {
  const kernel = kernelRegions(layout)
  const hyp = layout.mode === 'vhe' ? [] : hypRegions(layout)
  const lists =
    from === undefined
      ? [kernel.filter(({ range }) => range.start >= KERNEL_HALF), hyp]
      : from === 'hyp' && layout.mode !== 'vhe'
        ? [hyp]
        : from === 'phys'
          ? [(layout.dram ?? []).map((range, i): LocatedRegion => ({ kind: 'linear', range, text: `DRAM bank ${i}` }))]
          : from === 'link'
            ? [linked(layout)]
            : [kernel]
  const pieces: LocatedRegion[] = []
  let taken: Range[] = []
  for (const rank of [0, 1, 2]) {
    for (const list of lists) {
      let end = 0n
      // Of regions of one rank, which ascend by start, the one before comes first.
      for (const region of list) {
        if (rankOf(region) !== rank) continue
        const start = region.range.start > end ? region.range.start : end
        if (start >= region.range.end) continue
        end = region.range.end
        for (const range of subtract([{ start, end }], within(taken, start, end))) pieces.push({ ...region, range })
      }
      pieces.sort(byStart)
      taken = united(pieces.map(({ range }) => range))
    }
  }
  return pieces
}

function linked(layout: HypLayout): LocatedRegion[] {
  const range = linkedImage(layout)
  return range === undefined ? [] : [{ kind: 'image', range, text: 'kernel image where it is linked' }]
}
