import { HypvaError } from '../errors.js'
import { KSYM_NAME_LEN } from './kernel-order.js'
import { isNameCharacter, type SymbolLine } from './line.js'

// ELF-64 as the System V ABI and elf(5) name it; only what a symbol table needs.
const EI_CLASS = 4
const EI_DATA = 5
const E_MACHINE = 18
const E_SHOFF = 0x28
const E_SHENTSIZE = 0x3a
const E_SHNUM = 0x3c
const SHT_SYMTAB = 2
const SHN_UNDEF = 0
const SHN_ABS = 0xfff1
const STT_SECTION = 3
const STT_FILE = 4
const SHT_NOBITS = 8
const STB_WEAK = 2
const EM_AARCH64 = 183
const SHF_WRITE = 1n
const SHF_EXECINSTR = 4n

/**
 * The symbols of an ELF file's .symtab (vmlinux), in its order, as `nm` would list them.
 * @throws HypvaError `HYPVA_SYMBOLS` for another machine, another class, a cut file, or a stripped one
 */
export function elfSymbols(bytes: Uint8Array, name: string): SymbolLine[] {
  const bad = (what: string) => new HypvaError('HYPVA_SYMBOLS', `${name}: ${what}`)
  if (bytes.length < 64) throw bad('ELF header cut short')
  if (bytes[EI_CLASS] !== 2) throw bad('a 32-bit ELF file; an arm64 kernel is a 64-bit one')
  const little = bytes[EI_DATA] === 1
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const machine = view.getUint16(E_MACHINE, little)
  if (machine !== EM_AARCH64) throw bad(`an ELF file of machine ${machine}; arm64 is ${EM_AARCH64}`)
  const tableAt = Number(view.getBigUint64(E_SHOFF, little))
  const entry = view.getUint16(E_SHENTSIZE, little)
  let count = view.getUint16(E_SHNUM, little)
  const headerAt = (index: number) => tableAt + index * entry
  const inside = (at: number, size: number) => at >= 0 && size >= 0 && at + size <= bytes.length
  if (tableAt === 0 || entry < 64)
    throw bad('an ELF file without sections: it has no symbol table (a core, or stripped)')
  if (!inside(tableAt, entry)) throw bad('ELF section headers lie behind the end of the file: it is cut short')
  // More sections than 16 bits count: section 0's size says how many.
  if (count === 0) count = Number(view.getBigUint64(headerAt(0) + 0x20, little))
  if (!inside(tableAt, count * entry)) {
    throw bad('ELF section headers lie behind the end of the file: it is cut short')
  }
  const section = (index: number) => {
    const at = headerAt(index)
    return {
      type: view.getUint32(at + 4, little),
      flags: view.getBigUint64(at + 8, little),
      offset: Number(view.getBigUint64(at + 0x18, little)),
      size: Number(view.getBigUint64(at + 0x20, little)),
      link: view.getUint32(at + 0x28, little),
    }
  }
  for (let i = 0; i < count; i++) {
    const table = section(i)
    if (table.type !== SHT_SYMTAB) continue
    if (table.link >= count) throw bad('ELF symbol table without names')
    const strings = section(table.link)
    if (!inside(table.offset, table.size) || !inside(strings.offset, strings.size)) {
      throw bad('ELF symbol table lies behind the end of the file: it is cut short')
    }
    return readTable(table, strings, section, count)
  }
  throw bad('no symbol table in this ELF file: it is stripped; use the vmlinux of the build, or System.map')

  function readTable(
    table: { offset: number; size: number },
    strings: { offset: number; size: number },
    sectionOf: typeof section,
    sections: number,
  ): SymbolLine[] {
    const decoder = new TextDecoder('latin1')
    const names = decoder.decode(bytes.subarray(strings.offset, strings.offset + strings.size))
    const letters = Array.from({ length: sections }, (_, i) => letterOf(sectionOf(i)))
    const symbols: SymbolLine[] = []
    for (let at = table.offset; at + 24 <= table.offset + table.size; at += 24) {
      const info = bytes[at + 4]!
      const kind = info & 0xf
      const shndx = view.getUint16(at + 6, little)
      if (shndx === SHN_UNDEF || kind === STT_SECTION || kind === STT_FILE) continue
      const begin = view.getUint32(at, little)
      // Names may share their ends, so that any number of them leads through the same bytes: none is followed further than it may
      // be long.
      let end = begin
      while (end < begin + KSYM_NAME_LEN && isNameCharacter(names.charCodeAt(end))) end++
      if (begin === 0 || end === begin || names.charCodeAt(end) !== 0) continue
      const letter = shndx === SHN_ABS ? 'a' : info >> 4 === STB_WEAK ? 'w' : (letters[shndx] ?? 'd')
      symbols.push({
        address: view.getBigUint64(at + 8, little),
        type: info >> 4 === 0 ? letter : letter.toUpperCase(),
        name: names.slice(begin, end),
        module: undefined,
      })
    }
    return symbols
  }
}

/** nm's letter for what lies in a section. */
function letterOf({ type, flags }: { type: number; flags: bigint }): string {
  if (flags & SHF_EXECINSTR) return 't'
  if (type === SHT_NOBITS) return 'b'
  return flags & SHF_WRITE ? 'd' : 'r'
}
