import { HypvaError } from '../errors.js'
import { bytesSource } from '../source.js'
import { EM_AARCH64, readElfHeader, readFirstSection, readSections } from './elf.js'
import { KSYM_NAME_LEN } from './kernel-order.js'
import { isNameCharacter, type SymbolLine } from './line.js'

const SHT_SYMTAB = 2
const SHN_UNDEF = 0
const SHN_ABS = 0xfff1
const STT_SECTION = 3
const STT_FILE = 4
const SHT_NOBITS = 8
const STB_WEAK = 2
const SHF_WRITE = 1n
const SHF_EXECINSTR = 4n

/**
 * The symbols of an ELF file's .symtab (vmlinux), in its order, as `nm` would list them.
 * @throws HypvaError `HYPVA_SYMBOLS` for another machine, another class, a cut file, or a stripped one
 */
export function elfSymbols(bytes: Uint8Array, name: string): SymbolLine[] {
  const bad = (what: string) => new HypvaError('HYPVA_SYMBOLS', `${name}: ${what}`)
  const cut = 'ELF section headers lie behind the end of the file: it is cut short'
  const source = bytesSource(name, bytes)
  const header = readElfHeader(source)
  if (header === undefined) throw bad('ELF header cut short')
  if (!header.is64) throw bad('a 32-bit ELF file; an arm64 kernel is a 64-bit one')
  if (header.machine !== EM_AARCH64) throw bad(`an ELF file of machine ${header.machine}; arm64 is ${EM_AARCH64}`)
  const { offset, entrySize } = header.sections
  if (offset === 0n || entrySize < 64) {
    throw bad('an ELF file without sections: it has no symbol table (a core, or stripped)')
  }
  const first = readFirstSection(source, header)
  if (first === undefined) throw bad(cut)
  const count = header.sections.count === 0 ? first.size : header.sections.count
  const sections = readSections(source, header, count)
  if (sections.length < count) throw bad(cut)
  const table = sections.find(({ type }) => type === SHT_SYMTAB)
  if (table === undefined) {
    throw bad('no symbol table in this ELF file: it is stripped; use the vmlinux of the build, or System.map')
  }
  const strings = sections[table.link]
  if (strings === undefined) throw bad('ELF symbol table without names')
  const inside = (section: { offset: number; size: number }) => section.offset + section.size <= bytes.length
  if (!inside(table) || !inside(strings)) {
    throw bad('ELF symbol table lies behind the end of the file: it is cut short')
  }
  const names = new TextDecoder('latin1').decode(bytes.subarray(strings.offset, strings.offset + strings.size))
  const letters = sections.map(letterOf)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const little = header.littleEndian
  const symbols: SymbolLine[] = []
  for (let at = table.offset; at + 24 <= table.offset + table.size; at += 24) {
    const info = bytes[at + 4]!
    const kind = info & 0xf
    const shndx = view.getUint16(at + 6, little)
    if (shndx === SHN_UNDEF || kind === STT_SECTION || kind === STT_FILE) continue
    const begin = view.getUint32(at, little)
    // Names may share their ends, so that any number of them leads through the same bytes: none is followed further than a name
    // may be long.
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

/** nm's letter for what lies in a section. */
function letterOf({ type, flags }: { type: number; flags: bigint }): string {
  if (flags & SHF_EXECINSTR) return 't'
  if (type === SHT_NOBITS) return 'b'
  return flags & SHF_WRITE ? 'd' : 'r'
}
