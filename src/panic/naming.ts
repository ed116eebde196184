import type { PrintedAddress } from '../evidence/kinds/panic.js'
import { joinSymbols } from '../symbols/join.js'
import { type Printed, placeAtLink } from '../symbols/place.js'
import { formatName, isNvhe, isPrinted, type Located, type NameOptions, type SymbolTable } from '../symbols/table.js'
import type { AddressFacts } from './addresses.js'
import type { DecodedPanic, DecodeOptions, NamedPlace } from './decoded.js'

/** The parts of a symbol that a log prints. */
interface PrintedSymbol {
  /** With the prefix of the nVHE object, if it has one. */
  readonly name: string
  readonly offset: bigint
  readonly size: bigint
}

/** Takes `NAME+0xOFFSET/0xSIZE` apart; undefined for anything else. */
export function printedSymbol(text: string): PrintedSymbol | undefined {
  const [, name, offset, size] = /^(\S+)\+0x([0-9a-f]{1,16})\/0x([0-9a-f]{1,16})/.exec(text) ?? []
  return name === undefined ? undefined : { name, offset: BigInt(`0x${offset}`), size: BigInt(`0x${size}`) }
}

/** Whether a symbol is the function of this name, in the nVHE object or outside of it. */
export function isFunction(symbol: PrintedSymbol | undefined, name: string): boolean {
  return symbol?.name === name || symbol?.name === `__kvm_nvhe_${name}`
}

/** Whose code an address is: the hypervisor's, or the host kernel's. */
export type Owner = 'hyp' | 'host'

/** The function that PC is in. */
export interface Running extends PrintedSymbol {
  /** As the log prints it, by the address before PC; else as the tables name PC itself. */
  readonly printed: boolean
}

/** Names link-time addresses by the tables. */
export class Names {
  readonly table: SymbolTable | undefined
  /** Why the tables name nothing of EL2; undefined when they do, or there are none. */
  readonly withoutHyp: string | undefined
  /** Whether tables were given, whatever is in them. */
  readonly given: boolean
  private readonly options: NameOptions

  constructor(table: SymbolTable | undefined, withoutHyp: string | undefined, options: DecodeOptions) {
    this.table = table
    this.withoutHyp = withoutHyp
    this.given = options.symbols !== undefined && options.symbols.length > 0
    this.options = options
  }

  /** The symbol at a link-time address. */
  at(link: bigint | undefined, of: Owner): string | undefined {
    return this.format(this.locate(link, of))
  }

  /** The symbol of a return address, as `%pB` names it. */
  before(link: bigint | undefined, of: Owner): string | undefined {
    return this.format(this.locateReturn(link, of))
  }

  /** A return address, or what was printed like one. */
  printed({ address, symbol }: PrintedAddress, of: Owner): NamedPlace {
    const found = this.locateReturn(address, of)
    const name = this.format(found)
    return {
      ...(symbol !== undefined && { printed: symbol }),
      ...(name !== undefined && { name }),
      ...(found !== undefined && symbol !== undefined && { agrees: isPrinted(this.table!, found, symbol) }),
    }
  }

  /** The function that PC is in, by the tables or, where they do not tell, by the log. */
  running(pc: DecodedPanic['pc']): Running | undefined {
    if (pc === undefined) return undefined
    const found = this.locate(pc.link, pc.of === 'hyp' ? 'hyp' : 'host')
    if (found !== undefined) {
      const { symbol, offset } = found
      return { name: symbol.name, offset, size: symbol.size, printed: false }
    }
    const printed = pc.printed === undefined ? undefined : printedSymbol(pc.printed)
    return printed && { ...printed, printed: true }
  }

  private locate(link: bigint | undefined, of: Owner): Located | undefined {
    return link === undefined || !this.can(link, of) ? undefined : this.table?.locate(link)
  }

  private locateReturn(link: bigint | undefined, of: Owner): Located | undefined {
    return link === undefined || !this.can(link, of) ? undefined : this.table?.locateReturn(link)
  }

  /**
   * Whether the tables can be believed about an address. Those without the hypervisor's symbols know nothing of its text, but may
   * name a function outside of it that EL2 has called; without landmarks they do not tell where it is.
   */
  private can(link: bigint, of: Owner): boolean {
    if (this.withoutHyp === undefined) return true
    const { landmarks } = this.table!
    const start = landmarks.get('__hyp_idmap_text_start') ?? landmarks.get('__hyp_text_start')
    if (start === undefined) return of === 'host'
    const end = landmarks.get('__hyp_text_end') ?? landmarks.get('_etext')
    return link < start || (end !== undefined && link >= end)
  }

  private format(found: Located | undefined): string | undefined {
    return found && formatName(found, this.options)
  }
}

/** The tables that have symbols of the kernel itself, for all panics of a log. Joins them once for each set of shifts. */
export class PanicSymbols {
  /** `nvhe`: the table has the hypervisor's symbols. */
  private readonly tables: readonly { readonly table: SymbolTable; readonly nvhe: boolean }[]
  private readonly joined = new Map<string, SymbolTable>()

  constructor(tables: readonly SymbolTable[]) {
    this.tables = tables
      .filter(({ modules, names }) => modules.some((module, i) => module === undefined && names[i] !== ''))
      .map((table) => ({ table, nvhe: table.names.some(isNvhe) }))
  }

  /**
   * Joins the tables at link-time addresses; adds a note for each that is of another boot.
   * @throws HypvaError `HYPVA_SYMBOLS` for a table of another kernel, with what gave it away
   */
  tableFor(facts: AddressFacts, printed: readonly Printed[], notes: string[]): SymbolTable | undefined {
    if (this.tables.length === 0) return undefined
    const placed = this.tables.map(({ table, nvhe }) => ({
      table,
      ...placeAtLink(table, nvhe, facts.linkBase, facts.offsets.kaslrOffset, printed),
    }))
    notes.push(...placed.flatMap(({ note }) => note ?? []))
    const key = placed.map(({ shift }) => shift).join()
    const table = this.joined.get(key) ?? joinSymbols(placed)
    this.joined.set(key, table)
    return table
  }
}
