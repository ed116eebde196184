import type { PrintedAddress } from '../evidence/kinds/panic.js'
import { formatName, isPrinted, type Located, type NameOptions, type SymbolTable } from '../symbols/table.js'
import type { DecodedPanic, NamedPlace } from './decoded.js'
import { type PrintedSymbol, printedSymbol } from './printed-symbol.js'

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

  constructor(
    table: SymbolTable | undefined,
    withoutHyp: string | undefined,
    options: NameOptions & { readonly symbols?: readonly SymbolTable[] },
  ) {
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
