import { HypvaError } from '../errors.js'
import type { PrintedAddress } from '../evidence/kinds/panic.js'
import { isLinkBase } from '../symbols/line.js'
import { joinSymbols } from '../symbols/place.js'
import { formatName, isNvhe, type Located, type SymbolTable } from '../symbols/table.js'
import { formatU64, wrap64 } from '../u64.js'
import type { AddressFacts } from './addresses.js'
import { printedSymbol } from './printed-symbol.js'

/** _stext lies at most so far behind _text. */
const MOST_HEAD = 0x10000n

/** A table that has symbols of the kernel itself. */
interface KernelTable {
  readonly table: SymbolTable
  /** Whether it has those of the hypervisor. */
  readonly nvhe: boolean
}

/** Tables of the kernel that panicked, for all panics of a log: joined once for each way in which they have to be moved. */
export class PanicSymbols {
  private readonly tables: readonly KernelTable[]
  private readonly joined = new Map<string, SymbolTable>()

  constructor(tables: readonly SymbolTable[]) {
    this.tables = tables
      .filter(({ modules, names }) => modules.some((module, i) => module === undefined && names[i] !== ''))
      .map((table) => ({ table, nvhe: table.names.some(isNvhe) }))
  }

  /**
   * The tables as one, at link-time addresses. The log says where the kernel was linked and moved, and often names some addresses
   * itself: so even a table of another boot of the same kernel can be placed, and one of another kernel is found out.
   * @throws HypvaError `HYPVA_SYMBOLS` for a table of another kernel, with what gave it away
   */
  tableFor(facts: AddressFacts, printed: readonly PrintedAddress[], notes: string[]): SymbolTable | undefined {
    const placed = this.tables.map((known) => ({ table: known.table, shift: place(known, facts, printed, notes) }))
    if (placed.length === 0) return undefined
    const key = placed.map(({ shift }) => shift).join()
    const table = this.joined.get(key) ?? joinSymbols(placed)
    this.joined.set(key, table)
    return table
  }
}

/**
 * What to add to a table's addresses to make them link-time ones. Notes when only the names in the log tell.
 * @throws HypvaError `HYPVA_SYMBOLS` for a table of another kernel
 */
function place(
  { table, nvhe }: KernelTable,
  facts: AddressFacts,
  printed: readonly PrintedAddress[],
  notes: string[],
): bigint {
  const { linkBase, kaslrOffset } = facts
  const text = table.landmarks.get('_text')
  const head = text ?? table.landmarks.get('_stext')
  const slack = text === undefined ? MOST_HEAD : 0n
  const begins = (address: bigint, base: bigint) => address >= base && address - base <= slack
  const named = printed.filter(({ symbol }) => symbol !== undefined)

  let shift: bigint | undefined
  let reason: string
  if (head === undefined) {
    reason = 'it has neither _text nor _stext'
  } else if (linkBase !== undefined) {
    if (begins(head, linkBase)) shift = 0n
    else if (kaslrOffset !== undefined && begins(wrap64(head - kaslrOffset), linkBase)) shift = wrap64(-kaslrOffset)
    reason = `it begins at ${formatU64(head)}; this kernel was linked at ${formatU64(linkBase)}${kaslrOffset === undefined ? '' : ` and ran at ${formatU64(wrap64(linkBase + kaslrOffset))}`}`
  } else {
    if (isLinkBase(head) || isLinkBase(wrap64(head - MOST_HEAD))) shift = 0n
    reason = `it begins at ${formatU64(head)}, which is no link address, and the log has no "Kernel Offset:"`
  }

  if (shift === undefined) {
    // The names that the log prints say how far this table is off.
    const shifts = new Set(named.flatMap((entry) => shiftOf(table, entry)))
    const [only] = shifts
    if (shifts.size === 1 && only !== undefined) {
      shift = only
      notes.push(
        `${table.source}: of another boot (${reason}); moved by ${formatU64(wrap64(-only))} so that the names in the log fit`,
      )
    }
  }
  if (shift === undefined) {
    throw new HypvaError(
      'HYPVA_SYMBOLS',
      `${table.source}: symbols of another kernel or another boot: ${reason}. Wanted: System.map or vmlinux of the kernel that panicked, or its /proc/kallsyms`,
    )
  }
  // One wrong name may be an address that is none; all wrong are another kernel. A table without the hypervisor's symbols has no
  // say in their names.
  const judged = nvhe ? named : named.filter(({ symbol }) => !isNvhe(symbol!))
  const wrong = judged.filter((entry) => !agrees(table, entry, shift))
  if (wrong.length > 0 && wrong.length === judged.length) {
    const [{ address, symbol }] = wrong as [PrintedAddress]
    const found = table.locateReturn(wrap64(address - shift))
    throw new HypvaError(
      'HYPVA_SYMBOLS',
      `${table.source}: symbols of another kernel: ${formatU64(address)} is ${found === undefined ? 'none of them' : formatName(found, { rawNames: true })} there, and ${symbol} in the log`,
    )
  }
  return shift
}

/** What to add to the table's addresses so that the printed one fits, for each symbol of that name. */
function shiftOf(table: SymbolTable, { address, symbol }: PrintedAddress): bigint[] {
  const printed = printedSymbol(symbol!)
  if (printed === undefined) return []
  const base = wrap64(address - printed.offset)
  const found = table.addressesOf(printed.name)
  return found.length === 1 ? [wrap64(base - found[0]!)] : []
}

function agrees(table: SymbolTable, { address, symbol }: PrintedAddress, shift: bigint): boolean {
  const found: Located | undefined = table.locateReturn(wrap64(address - shift))
  if (found === undefined) return false
  return isPrinted(table, found, symbol!)
}

/** Whether a located symbol, by any of its names, is what the kernel printed. */
export function isPrinted(table: SymbolTable, found: Located, printed: string): boolean {
  const behind = formatName({ ...found, symbol: { ...found.symbol, name: '' } }, { rawNames: true })
  return printed.endsWith(behind) && table.hasName(found.symbol, printed.slice(0, printed.length - behind.length))
}
