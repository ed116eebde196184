import { joinSymbols } from '../symbols/join.js'
import { type Printed, placeAtLink } from '../symbols/place.js'
import type { SymbolTable } from '../symbols/table.js'
import type { AddressFacts } from './addresses.js'

/** Tables of the kernel that panicked, for all panics of a log: joined once for each way in which they have to be moved. */
export class PanicSymbols {
  private readonly tables: readonly SymbolTable[]
  private readonly joined = new Map<string, SymbolTable>()

  constructor(tables: readonly SymbolTable[]) {
    this.tables = tables.filter(({ modules, names }) =>
      modules.some((module, i) => module === undefined && names[i] !== ''),
    )
  }

  /**
   * The tables as one, at link-time addresses; adds a note for each that is of another boot.
   * @throws HypvaError `HYPVA_SYMBOLS` for a table of another kernel, with what gave it away
   */
  tableFor(facts: AddressFacts, printed: readonly Printed[], notes: string[]): SymbolTable | undefined {
    if (this.tables.length === 0) return undefined
    const placed = this.tables.map((table) => ({ table, ...placeAtLink(table, facts, printed) }))
    notes.push(...placed.flatMap(({ note }) => note ?? []))
    const key = placed.map(({ shift }) => shift).join()
    const table = this.joined.get(key) ?? joinSymbols(placed)
    this.joined.set(key, table)
    return table
  }
}
