import { Engine } from '../engine/engine.js'
import { findSegment, type Segment } from '../engine/segments.js'
import { HypvaError } from '../errors.js'
import { MissingFieldError } from '../layout/fields.js'
import { subtract } from '../layout/ranges.js'
import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { cannotNameHyp } from '../symbols/hyp-names.js'
import { joinSymbols } from '../symbols/join.js'
import { placeSymbols } from '../symbols/place.js'
import { formatName, type Located, type NameOptions, type SymbolTable } from '../symbols/table.js'
import { assertU64, type Range, wrap64 } from '../u64.js'
import { assertBatch } from './batch.js'
import { compileSegments } from './directions.js'
import { NameTable } from './name-table.js'

/** Options of `createNamer`. */
export interface NamerOptions extends NameOptions {
  /**
   * What the addresses are. Absent: kernel and hyp addresses together, which no bit pattern confuses. Link-time addresses have to
   * be asked for: under KASLR they are run-time addresses of vmalloc, of stacks for one.
   */
  readonly from?: Space
  /** The addresses are return addresses, as in a backtrace: look up the one before, as the kernel's `%pB` does. */
  readonly returnAddresses?: boolean
}

/** The symbols of a batch of addresses. */
export interface NameBatch {
  /** For each address the entry of `symbols` that covers it, or 0xffffffff. */
  readonly entries: Uint32Array
  /** For each address how far behind the start of its symbol it lies. */
  readonly offsets: Uint32Array
  /** The table that entries count in, at run-time addresses. */
  readonly symbols: SymbolTable
  readonly named: number
  /** Addresses without a name. */
  readonly missed: number
  /** Index of the first of these; -1 when there is none. */
  readonly firstMiss: number
  /** The name of one of them, formatted as everywhere; undefined when it has none. */
  nameAt(index: number): string | undefined
}

/** Addresses a turn: their tile, and what comes out of it, stay in the first-level cache. */
const TILE = 1024

/**
 * Names addresses of one layout by the symbols of its kernel.
 * @example
 * createNamer(layout, symbols).locate(0x89b380ef1138n).symbol.name // '__kvm_nvhe___host_hvc'
 */
export class Namer {
  /** All tables as one, at run-time addresses. */
  readonly symbols: SymbolTable
  /** From the addresses to run-time ones of the image and of modules. */
  readonly segments: readonly Segment[]
  readonly options: NamerOptions
  private engine: Engine | undefined
  private texts: NameTable | undefined

  /** @internal use createNamer */
  constructor(layout: HypLayout, tables: readonly SymbolTable[], options: NamerOptions) {
    if (tables.length === 0) throw new HypvaError('HYPVA_SYMBOLS', 'symbols: no table given')
    this.symbols = joinSymbols(tables.map((table) => ({ table, shift: placeSymbols(table, layout) })))
    const { from } = options
    const unable = from === undefined || from === 'hyp' ? cannotNameHyp(tables, layout) : undefined
    if (unable !== undefined) {
      throw new HypvaError(
        'HYPVA_SYMBOLS',
        from === undefined ? `${unable}; to name kernel addresses only, translate from kernel` : unable,
      )
    }
    this.segments = nameSegments(layout, this.symbols, from)
    this.options = options
  }

  /**
   * The symbol of one address, or undefined.
   * @throws HypvaTypeError, HypvaRangeError when it is no 64-bit bigint
   */
  locate(address: bigint): Located | undefined {
    assertU64(address, 'address')
    const before = this.options.returnAddresses ? 1n : 0n
    const looked = wrap64(address - before)
    const segment = findSegment(this.segments, looked)
    if (segment === undefined) return undefined
    const image = wrap64(looked + segment.delta)
    return before === 0n ? this.symbols.locate(image) : this.symbols.locateReturn(wrap64(image + 1n))
  }

  /** The name of one address as the kernel prints it, `handle_trap+0x8c/0x180 [nVHE]`; undefined when it has none. */
  name(address: bigint): string | undefined {
    const found = this.locate(address)
    return found && formatName(found, this.options)
  }

  /**
   * The symbols of many addresses.
   * @throws HypvaTypeError (`HYPVA_ARGUMENT`) for other arrays
   */
  nameBatch(input: BigUint64Array): NameBatch {
    assertBatch(input, 'input')
    const { symbols, options } = this
    const engine = this.batchEngine()
    const { heap } = engine
    const { buffer } = engine.exports.memory
    const tile = new BigUint64Array(buffer, heap, TILE)
    const entriesAt = heap + TILE * 8
    const found = new Uint32Array(buffer, entriesAt, TILE * 2)
    const entries = new Uint32Array(input.length)
    const offsets = new Uint32Array(input.length)
    const before = options.returnAddresses ? 1 : 0
    let missed = 0
    let firstMiss = -1
    for (let at = 0; at < input.length; at += TILE) {
      const count = Math.min(TILE, input.length - at)
      tile.set(input.subarray(at, at + count))
      engine.exports.nameBatch(heap, entriesAt, entriesAt + TILE * 4, count, this.segments.length, before)
      entries.set(found.subarray(0, count), at)
      offsets.set(found.subarray(TILE, TILE + count), at)
      const counts = engine.counts()
      if (counts.missed > 0 && firstMiss < 0) firstMiss = at + counts.firstMiss
      missed += counts.missed
    }
    return {
      entries,
      offsets,
      symbols,
      named: input.length - missed,
      missed,
      firstMiss,
      nameAt(index) {
        const symbol = symbols.at(entries[index] ?? -1)
        return symbol && formatName({ symbol, offset: BigInt(offsets[index]!) }, options)
      },
    }
  }

  private batchEngine(): Engine {
    if (this.engine === undefined) {
      const table = new NameTable(this.symbols, this.segments, undefined)
      const scratch = TILE * 16
      this.engine = new Engine(scratch + table.bytes)
      table.load(this.engine, this.engine.heap + scratch)
    }
    return this.engine
  }

  /**
   * The table with the texts of names: made once, loaded into the engine of each rewriter.
   * @internal
   */
  textTable(): NameTable {
    this.texts ??= new NameTable(this.symbols, this.segments, this.options)
    return this.texts
  }
}

/**
 * A namer for the addresses of one layout. Link-time tables (System.map, vmlinux) are moved by the KASLR offset.
 * @param symbols one table, or several that complement each other; where two name an address the earlier one counts
 * @throws HypvaError `HYPVA_SYMBOLS` for a table that belongs to another kernel or boot, and when hyp addresses are to be named
 *   and no table has symbols of the hypervisor; MissingFieldError when the layout does not tell where the image is
 * @example
 * createNamer(layout, symbols).name(0x89b380ef1138n) // '__host_hvc+0x0/0x6c8 [nVHE]'
 */
export function createNamer(
  layout: HypLayout,
  symbols: SymbolTable | readonly SymbolTable[],
  options: NamerOptions = {},
): Namer {
  return new Namer(layout, 'starts' in symbols ? [symbols] : symbols, options)
}

/** The segments from the addresses of a space, or of all that are named together, to those of the table. */
function nameSegments(layout: HypLayout, symbols: SymbolTable, from: Space | undefined): Segment[] {
  const groups: Segment[][] = []
  let refusal: MissingFieldError | undefined
  for (const space of from === undefined ? (['kernel', 'hyp'] as const) : [from]) {
    try {
      groups.push(compileSegments(layout, space, 'image'))
      if (space === 'hyp') groups.push(idmapSegments(layout))
    } catch (error) {
      if (!(error instanceof MissingFieldError)) throw error
      refusal ??= error
    }
    if (space === 'kernel' || space === 'image') groups.push(moduleSegments(symbols))
  }
  if (!groups.some((group) => group.length > 0)) throw refusal ?? new MissingFieldError('naming addresses', ['image'])
  const taken: Segment[] = []
  for (const segment of groups.flat()) {
    const parts: Range[] = subtract([segment], taken)
    taken.push(...parts.map(({ start, end }) => ({ start, end, delta: segment.delta })))
    taken.sort((a, b) => (a.start < b.start ? -1 : 1))
  }
  return taken
}

/** EL2 maps the idmap page at its physical address; it is a page of the image. */
function idmapSegments({ mode, idmap, pageSize = 4096, image, kimageVoffset }: HypLayout): Segment[] {
  if (mode === 'vhe' || idmap === undefined || image === undefined || kimageVoffset === undefined) return []
  const end = idmap + BigInt(pageSize)
  if (wrap64(idmap + kimageVoffset) < image.start || wrap64(end + kimageVoffset) > image.end) return []
  return [{ start: idmap, end, delta: kimageVoffset }]
}

/** Modules are named where they are: one range below the image, one above it. */
function moduleSegments({ starts, modules, landmarks }: SymbolTable): Segment[] {
  const image = landmarks.get('_stext') ?? landmarks.get('_text') ?? 0n
  const ranges = new Map<boolean, { start: bigint; end: bigint; delta: bigint }>()
  modules.forEach((module, i) => {
    if (module === undefined) return
    const start = starts[i]!
    const end = starts[i + 1] ?? start
    const range = ranges.get(start < image)
    if (range === undefined) ranges.set(start < image, { start, end, delta: 0n })
    else range.end = end
  })
  return [...ranges.values()]
}
