import { groupBy } from '../group-by.js'
import { wrap64 } from '../u64.js'

/** The prefix that the build gives to every symbol of the nVHE hypervisor's object. */
const NVHE_PREFIX = '__kvm_nvhe_'

/** A symbol, as the kernel's table has it. */
export interface SymbolEntry {
  /** Its name there, `__kvm_nvhe_` prefix and all. */
  readonly name: string
  /** The module it belongs to (`[kvm_intel]` in /proc/kallsyms), also `bpf` and the like; absent for the kernel's own. */
  readonly module?: string
  readonly start: bigint
  /** Bytes to the next symbol at another address: what the kernel prints behind the slash. */
  readonly size: bigint
}

/** A symbol, and how far behind its start an address lies. */
export interface Located {
  readonly symbol: SymbolEntry
  readonly offset: bigint
}

/** Symbols whose addresses show which kernel and which boot a table belongs to. */
export const LANDMARKS = [
  '_text',
  '_stext',
  '_etext',
  '_sinittext',
  '_end',
  '__hyp_text_start',
  '__hyp_text_end',
  '__hyp_idmap_text_start',
  '__hyp_idmap_text_end',
] as const

/** How names are written. */
export interface NameOptions {
  /** Keep the nVHE object's prefix instead of marking its symbols `[nVHE]`. */
  readonly rawNames?: boolean
}

/**
 * Symbols by address, sorted. Columns, not objects: a kernel has a quarter of a million. Entry i covers the addresses up to
 * the start of entry i + 1; an entry without a name is a hole.
 * @example
 * const table = parseSymbols('ffff800008000000 T _text\nffff800008001000 T _stext\n')
 * table.locate(0xffff800008000010n).offset // 0x10n
 */
export class SymbolTable {
  /** The file, for messages. */
  readonly source: string
  readonly starts: BigUint64Array
  readonly names: readonly string[]
  /** The module of each entry, undefined for the kernel's own. */
  readonly modules: readonly (string | undefined)[]
  /** Addresses of those landmarks that the table has. */
  readonly landmarks: ReadonlyMap<string, bigint>
  /** The other names of addresses that have several. */
  private readonly aliases: ReadonlyMap<bigint, readonly string[]>
  /** The entries of each name, once they are asked for. */
  private byName: Map<string, number[]> | undefined
  private readonly aliasSets = new Map<bigint, ReadonlySet<string>>()

  /** @internal use parseSymbols */
  constructor(
    source: string,
    starts: BigUint64Array,
    names: readonly string[],
    modules: readonly (string | undefined)[],
    landmarks: ReadonlyMap<string, bigint>,
    aliases: ReadonlyMap<bigint, readonly string[]>,
  ) {
    this.source = source
    this.starts = starts
    this.names = names
    this.modules = modules
    this.landmarks = landmarks
    this.aliases = aliases
  }

  /** Names in it, holes not counted. */
  get size(): number {
    return this.names.reduce((count, name) => (name === '' ? count : count + 1), 0)
  }

  /** The entry that covers an address, or -1; a hole is an entry. */
  indexOf(address: bigint): number {
    const { starts } = this
    let low = 0
    let high = starts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (starts[middle]! <= address) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  /** Entry i as a symbol; undefined for a hole. */
  at(index: number): SymbolEntry | undefined {
    const name = this.names[index]
    if (name === undefined || name === '') return undefined
    const module = this.modules[index]
    const start = this.starts[index]!
    const size = (this.starts[index + 1] ?? start) - start
    return { name, ...(module !== undefined && { module }), start, size }
  }

  /** The symbol that covers an address: the one the kernel's own lookup finds. */
  locate(address: bigint): Located | undefined {
    const symbol = this.at(this.indexOf(address))
    return symbol && { symbol, offset: address - symbol.start }
  }

  /**
   * The symbol that the kernel prints for a return address (`%pB`): that of the address before it, since a call that does not
   * return may be a function's last instruction. The offset counts to the address itself, so it may be the size.
   */
  locateReturn(address: bigint): Located | undefined {
    const found = this.locate(wrap64(address - 1n))
    return found && { symbol: found.symbol, offset: found.offset + 1n }
  }

  /** All names of a symbol's address, the one that is shown first. */
  namesAt({ name, start }: SymbolEntry): string[] {
    return [name, ...(this.aliases.get(start) ?? [])]
  }

  /** @internal whether a symbol's address has this name, as the first or another one */
  hasName({ name, start }: SymbolEntry, wanted: string): boolean {
    if (name === wanted) return true
    let names = this.aliasSets.get(start)
    if (names === undefined) {
      names = new Set(this.aliases.get(start))
      this.aliasSets.set(start, names)
    }
    return names.has(wanted)
  }

  /** @internal */
  movedAliases(shift: bigint): [bigint, readonly string[]][] {
    return [...this.aliases].map(([start, names]) => [wrap64(start + shift), names])
  }

  /** The addresses of all symbols of a name, ascending. */
  addressesOf(name: string): bigint[] {
    this.byName ??= groupBy(this.names.keys(), (i) => this.names[i]!)
    return (this.byName.get(name) ?? []).map((i) => this.starts[i]!)
  }
}

/** What stands before and behind the digits of the offset in a symbol's text. */
export function nameParts(symbol: SymbolEntry, { rawNames = false }: NameOptions = {}): readonly [string, string] {
  const { name, module, size } = symbol
  const nvhe = !rawNames && isNvhe(name)
  const mark = nvhe ? ' [nVHE]' : ''
  const from = module === undefined ? '' : ` [${module}]`
  return [`${nvhe ? name.slice(NVHE_PREFIX.length) : name}+0x`, `/0x${size.toString(16)}${from}${mark}`]
}

/**
 * `handle_trap+0x8c/0x180 [nVHE]`: as the kernel prints it, but for the nVHE object's prefix, which becomes a mark.
 * @example
 * const symbol = { name: '__kvm_nvhe_handle_trap', start: 0xffff800008001000n, size: 0x180n }
 * formatName({ symbol, offset: 0x8cn }) // 'handle_trap+0x8c/0x180 [nVHE]'
 */
export function formatName({ symbol, offset }: Located, options: NameOptions = {}): string {
  const [front, behind] = nameParts(symbol, options)
  return `${front}${offset.toString(16)}${behind}`
}

/** A name as the kernel printed it, with the nVHE mark in place of the prefix. */
export function markNvhe(printed: string, { rawNames = false }: NameOptions): string {
  return rawNames || !isNvhe(printed) ? printed : `${printed.slice(NVHE_PREFIX.length)} [nVHE]`
}

/** Whether a symbol is of the nVHE hypervisor's object. */
export function isNvhe(name: string): boolean {
  return name.startsWith(NVHE_PREFIX) && name.length > NVHE_PREFIX.length
}

/** Whether a located symbol, by any of its names, is what the kernel printed. */
export function isPrinted(table: SymbolTable, found: Located, printed: string): boolean {
  const behind = formatName({ ...found, symbol: { ...found.symbol, name: '' } }, { rawNames: true })
  return printed.endsWith(behind) && table.hasName(found.symbol, printed.slice(0, printed.length - behind.length))
}
