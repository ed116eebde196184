import { recognise } from '../content.js'
import { HypvaError } from '../errors.js'
import { bytesSource, forEachLine } from '../source.js'
import { elfSymbols } from './elf-symbols.js'
import { aliasRank, isIgnored } from './kernel-order.js'
import { parseSymbolLine, type SymbolLine } from './line.js'
import { LANDMARKS, SymbolTable } from './table.js'

/** Bytes. The last symbol of a module has no successor: it ends where its page ends. */
const PAGE = 4096n
const KERNEL_HALF = 1n << 63n
const EXPECTED = 'expected /proc/kallsyms, System.map, nm output or an ELF vmlinux'

/**
 * Reads a symbol table: /proc/kallsyms, System.map, `nm` output, or an ELF vmlinux with its symbol table, told by content.
 * Sizes and the choice among several names of an address are the kernel's own.
 * @param data decompressed
 * @param source what messages call it
 * @throws HypvaError `HYPVA_SYMBOLS` for what is none of these, or has no addresses (a kallsyms read without privilege)
 * @example
 * parseSymbols(kallsyms).hasName('__kvm_nvhe___host_hvc') // true
 */
export function parseSymbols(data: Uint8Array | string, source = 'symbols'): SymbolTable {
  const lines = readLines(data, source)
  const landmarks = new Map<string, bigint>()
  const wanted: ReadonlySet<string> = new Set(LANDMARKS)
  const kernel: SymbolLine[] = []
  const modules: SymbolLine[] = []
  for (const line of lines) {
    if (line.address < KERNEL_HALF || isIgnored(line.name, line.type)) continue
    if (line.module !== undefined) {
      modules.push(line)
      continue
    }
    kernel.push(line)
    if (wanted.has(line.name) && !landmarks.has(line.name)) landmarks.set(line.name, line.address)
  }
  if (kernel.length + modules.length === 0) {
    throw new HypvaError(
      'HYPVA_SYMBOLS',
      lines.length > 0 && lines.every(({ address }) => address === 0n)
        ? `${source}: all ${lines.length} symbols are at address 0: /proc/kallsyms hides addresses from this reader; read it as root, with kernel.kptr_restrict at 0 or 1`
        : `${source}: no symbols of a kernel (addresses in the upper half) in it`,
    )
  }
  return build(source, kernel, modules, landmarks)
}

function readLines(data: Uint8Array | string, source: string): SymbolLine[] {
  const content = typeof data === 'string' ? undefined : recognise(data)
  if (content === undefined) return textSymbols(data, source)
  const { kind, name, remedy } = content
  if (kind === 'elf') return elfSymbols(data as Uint8Array, source)
  const what = kind === 'binary' ? EXPECTED : remedy
  throw new HypvaError('HYPVA_SYMBOLS', `${source}: ${name}, no symbol table: ${what}`)
}

function textSymbols(data: Uint8Array | string, source: string): SymbolLine[] {
  const lines: SymbolLine[] = []
  let others = 0
  forEachLine(bytesSource(source, data), (text) => {
    const line = parseSymbolLine(text)
    if (line !== undefined) lines.push(line)
    // `nm` lists undefined symbols without an address, and headings of archives.
    else if (text !== '' && !/^ +[Uuvw] |:$/.test(text)) others++
  })
  if (lines.length === 0 || others > lines.length) {
    throw new HypvaError('HYPVA_SYMBOLS', `${source}: no symbol table: ${EXPECTED}`)
  }
  return lines
}

function build(
  source: string,
  kernel: SymbolLine[],
  modules: SymbolLine[],
  landmarks: ReadonlyMap<string, bigint>,
): SymbolTable {
  const columns = new Columns()
  sortKernel(kernel)
  const end = landmarks.get('_end')
  // A kernel without CONFIG_KALLSYMS_ALL has only the symbols of its text, and names nothing outside of it.
  const textOnly = end === undefined && landmarks.has('_etext') && landmarks.has('_stext')
  const holes = textOnly ? ['_etext', '_einittext'] : ['_end']
  for (const { address, name } of kernel) columns.add(address, name, undefined)
  for (const name of holes) {
    const at = kernel.find((symbol) => symbol.name === name)?.address
    if (at !== undefined) columns.hole(at)
  }
  // The last symbol has no successor; nothing follows the end of the image.
  const last = kernel.at(-1)
  if (last !== undefined)
    columns.hole(last.name === '_end' || last.address === end ? last.address : pageEnd(last.address))

  // The build does not sort symbols of modules: of one address the first in the file counts (find_kallsyms_symbol).
  modules.sort(byAddress)
  modules.forEach(({ address, name, module }, i) => {
    columns.add(address, name, module)
    const next = modules[i + 1]
    if (next?.module === module) return
    const end = pageEnd(address)
    if (next === undefined || next.address > end) columns.hole(end)
  })
  return columns.table(source, landmarks)
}

function pageEnd(address: bigint): bigint {
  return (address | (PAGE - 1n)) + 1n
}

function byAddress(a: SymbolLine, b: SymbolLine): number {
  return a.address < b.address ? -1 : a.address > b.address ? 1 : 0
}

/** Sorts by address, and symbols of one address in the order of the kernel's own table. */
function sortKernel(lines: SymbolLine[]): void {
  lines.sort(byAddress)
  for (let from = 0, to: number; from < lines.length; from = to) {
    const { address } = lines[from]!
    for (to = from + 1; lines[to]?.address === address; ) to++
    if (to - from === 1) continue
    const alike = lines.slice(from, to).map((line) => ({ line, rank: aliasRank(line.name, line.type) }))
    alike.sort((a, b) => a.rank - b.rank)
    for (const [i, { line }] of alike.entries()) lines[from + i] = line
  }
}

/** Entries in the making: the first of an address stays, a hole replaces what begins where it does. */
class Columns {
  private readonly entries: { start: bigint; name: string; module: string | undefined; order: number }[] = []

  add(start: bigint, name: string, module: string | undefined): void {
    this.entries.push({ start, name, module, order: 1 })
  }

  hole(start: bigint): void {
    this.entries.push({ start, name: '', module: undefined, order: 0 })
  }

  table(source: string, landmarks: ReadonlyMap<string, bigint>): SymbolTable {
    const { entries } = this
    entries.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : a.order - b.order))
    const aliases = new Map<bigint, string[]>()
    const kept = entries.filter(({ start, name }, i) => {
      if (i === 0 || start !== entries[i - 1]!.start) return true
      const others = aliases.get(start)
      if (others === undefined) aliases.set(start, [name])
      else others.push(name)
      return false
    })
    return new SymbolTable(
      source,
      BigUint64Array.from(kept, ({ start }) => start),
      kept.map(({ name }) => name),
      kept.map(({ module }) => module),
      landmarks,
      aliases,
    )
  }
}
