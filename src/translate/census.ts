import { roundUp } from '../engine/engine.js'
import { ABI } from '../engine/wasm.generated.js'
import { subtract, united, within } from '../layout/ranges.js'
import { hypRegions, kernelRegions, type LocatedRegion, type RegionKind } from '../layout/regions.js'
import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { formatName, type SymbolEntry } from '../symbols/table.js'
import type { Range } from '../u64.js'
import type { ByteOrder } from './binary.js'
import { Chunks } from './chunks.js'
import type { Namer } from './namer.js'
import type { TagWatch } from './tag-watch.js'

/** How often addresses of a region were seen. */
export interface RegionCount {
  readonly kind: RegionKind
  readonly range: Range
  readonly text: string
  readonly count: number
}

/** How often addresses of a symbol were seen. */
export interface SymbolCount {
  readonly symbol: SymbolEntry
  /** As names are written, without an offset. */
  readonly name: string
  readonly count: number
}

/** What a trace is made of. */
export interface CensusResult {
  /** All addresses: tokens of text, or raw words. */
  readonly addresses: number
  /** Most frequent first. */
  readonly regions: readonly RegionCount[]
  /** Addresses in no region that the layout tells. */
  readonly elsewhere: number
  /** Most frequent first; none without symbols. */
  readonly symbols: readonly SymbolCount[]
  /** Addresses that have a name. */
  readonly named: number
}

const KERNEL_HALF = 1n << 63n

/**
 * Counts the addresses of a stream by region and by symbol. What it "rewrites" is nothing: `commit` returns no bytes.
 * @example
 * const census = new Census(layout)
 * const text = new TextEncoder().encode('pc 0x89b380ef1c00\n')
 * census.space().set(text)
 * census.commit(text.length, true)
 * census.result().addresses // 1
 */
export class Census extends Chunks {
  private readonly namer: Namer | undefined
  private readonly regions: readonly LocatedRegion[]
  private readonly order: ByteOrder | undefined
  private readonly watch: TagWatch | undefined
  private readonly values: number
  private readonly counters: number
  private readonly perEntry: Float64Array
  private elsewhere = 0
  private named = 0
  private addresses = 0

  /**
   * @param from what the addresses are; absent: kernel addresses in the upper half, hyp addresses in the lower
   * @param order of raw words; absent: text
   */
  constructor(
    layout: HypLayout,
    options: {
      readonly from?: Space
      readonly namer?: Namer
      readonly order?: ByteOrder
      readonly chunk?: number
      /** @internal told of all addresses, to notice a layout of another boot */
      readonly watch?: TagWatch
    } = {},
  ) {
    const { from, namer, order, chunk = 65536, watch } = options
    const pieces = regionPieces(layout, from)
    const values = valueBytes(chunk + ABI.LONGEST_TOKEN)
    super(chunk, values + pieces.length * 8)
    this.namer = namer
    this.watch = watch
    this.order = order
    this.regions = pieces
    this.values = this.extra
    this.counters = this.values + values
    this.engine.setSegments(pieces.map(({ range }) => ({ ...range, delta: 0n })))
    if (watch !== undefined) this.engine.setWatch(...watch.ranges)
    this.perEntry = new Float64Array(namer?.symbols.starts.length ?? 0)
  }

  protected process(last: boolean, added: number): Uint8Array {
    const { engine, base, counts, values } = this
    const count = this.order === undefined ? this.tokens(last) : this.words(this.order)
    this.addresses += count
    engine.exports.tally(values, count, this.regions.length, this.counters)
    const { missed } = engine.counts()
    this.elsewhere += missed
    counts.translated += count - missed
    counts.missed += missed
    this.watch?.see(engine, values, count, added)
    if (this.namer !== undefined && count > 0) this.name(this.namer, count)
    // The next input begins anew: its first token does not touch the last bytes of this one.
    if (last && this.consumed === this.length) this.begin(0, new Uint8Array())
    return engine.bytes.subarray(base, base)
  }

  /** What was seen so far. */
  result(): CensusResult {
    const { engine, counters, perEntry, namer } = this
    const counted = new BigUint64Array(engine.exports.memory.buffer, counters, this.regions.length)
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
      addresses: this.addresses,
      regions: [...regions.values()].sort(often),
      elsewhere: this.elsewhere,
      symbols: symbols.sort(often),
      named: this.named,
    }
  }

  private tokens(last: boolean): number {
    const { engine } = this
    const count = engine.exports.tokenValues(this.base, this.length, this.values, last ? 1 : 0)
    this.consumed = engine.consumed
    return count
  }

  private words(order: ByteOrder): number {
    const { engine, base, values } = this
    const count = this.wholeWords()
    engine.bytes.copyWithin(values, base, base + count * 8)
    if (order === 'be') engine.exports.swapBytes(values, count)
    return count
  }

  private name(namer: Namer, count: number): void {
    const { entries, named } = namer.nameBatch(
      new BigUint64Array(this.engine.exports.memory.buffer, this.values, count),
    )
    const { perEntry } = this
    for (let i = 0; i < count; i++) {
      const entry = entries[i]!
      if (entry !== ABI.NO_ENTRY) perEntry[entry]!++
    }
    this.named += named
  }
}

/**
 * Room for the values of the tokens in so much text, or of so many raw words; a multiple of 8. The shortest token, 0x0 and what
 * separates it from the next, takes four bytes and gives eight.
 */
export function valueBytes(length: number): number {
  return roundUp(2 * length) + 8
}

/** The known regions, disjoint and ascending; where two overlap, what EL2 is known to map comes before a tag's whole block. */
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
  const rankOf = ({ kind }: LocatedRegion) => (kind === 'idmap' ? 0 : kind.endsWith('-hole') ? 2 : 1)
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

function byStart(a: LocatedRegion, b: LocatedRegion): number {
  return a.range.start < b.range.start ? -1 : a.range.start > b.range.start ? 1 : 0
}

function linked({ image, kaslrOffset }: HypLayout): LocatedRegion[] {
  if (image === undefined || kaslrOffset === undefined) return []
  const range = { start: image.start - kaslrOffset, end: image.end - kaslrOffset }
  return [{ kind: 'image', range, text: 'kernel image where it is linked' }]
}
