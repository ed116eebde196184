import { wrap64 } from '../u64.js'
import { SymbolTable } from './table.js'

/** Joins tables, each moved by its shift. Of several names of an address, that of the first table counts. */
export function joinSymbols(tables: readonly { readonly table: SymbolTable; readonly shift: bigint }[]): SymbolTable {
  const [only] = tables
  if (tables.length === 1 && only!.shift === 0n) return only!.table
  const entries: { start: bigint; name: string; module: string | undefined }[] = []
  const landmarks = new Map<string, bigint>()
  const aliases = new Map<bigint, readonly string[]>()
  for (const { table, shift } of tables) {
    for (const [start, names] of table.movedAliases(shift)) aliases.set(start, names)
    const { starts, names, modules } = table
    for (let i = 0; i < starts.length; i++) {
      const module = modules[i]
      // A table moved to another boot says nothing of where modules were in this one.
      if (shift !== 0n && module !== undefined) continue
      entries.push({ start: wrap64(starts[i]! + shift), name: names[i]!, module })
    }
    for (const [name, address] of table.landmarks) {
      if (!landmarks.has(name)) landmarks.set(name, wrap64(address + shift))
    }
  }
  entries.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
  const kept: typeof entries = []
  for (const entry of entries) {
    const last = kept.at(-1)
    if (last?.start !== entry.start) kept.push(entry)
    // Where one table ends another may go on.
    else if (last.name === '') kept[kept.length - 1] = entry
  }
  return new SymbolTable(
    tables.map(({ table }) => table.source).join(', '),
    BigUint64Array.from(kept, ({ start }) => start),
    kept.map(({ name }) => name),
    kept.map(({ module }) => module),
    landmarks,
    aliases,
  )
}
