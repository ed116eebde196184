import { type ByteSource, readFully } from '../source.js'

// The headers of ELF-64 files, as the System V ABI and elf(5) describe them. Nothing they say is checked here.

export const EM_AARCH64 = 183

const HEADER = 64
const SECTION_HEADER = 64
const BATCH = 1 << 20
/** The largest offset that is exact in a double and that a file can have. */
export const MOST_OFFSET = BigInt(Number.MAX_SAFE_INTEGER)

/** Where a table of headers is in the file. */
interface ElfTable {
  readonly offset: bigint
  readonly entrySize: number
  readonly count: number
}

export interface ElfHeader {
  readonly is64: boolean
  readonly littleEndian: boolean
  readonly type: number
  readonly machine: number
  readonly programs: ElfTable
  readonly sections: ElfTable
}

interface ElfSection {
  readonly type: number
  readonly flags: bigint
  readonly offset: number
  readonly size: number
  readonly link: number
  readonly info: number
}

export interface ElfProgram {
  readonly type: number
  readonly offset: bigint
  readonly virtual: bigint
  readonly physical: bigint
  readonly fileSize: bigint
  readonly memorySize: bigint
}

/** Reads the header of an ELF file; undefined when the file ends inside it. */
export function readElfHeader(source: ByteSource): ElfHeader | undefined {
  const head = new Uint8Array(HEADER)
  if (readFully(source, 0, head) < HEADER) return undefined
  const little = head[5] !== 2
  const view = new DataView(head.buffer)
  const table = (offset: number, sizes: number): ElfTable => ({
    offset: view.getBigUint64(offset, little),
    entrySize: view.getUint16(sizes, little),
    count: view.getUint16(sizes + 2, little),
  })
  return {
    is64: head[4] === 2,
    littleEndian: little,
    type: view.getUint16(16, little),
    machine: view.getUint16(18, little),
    programs: table(32, 54),
    sections: table(40, 58),
  }
}

/**
 * The first section header, whose `size` and `info` are the numbers of sections and of program headers that do not fit into 16
 * bits. Undefined when there is none.
 */
export function readFirstSection(source: ByteSource, header: ElfHeader): ElfSection | undefined {
  const { offset } = header.sections
  if (offset === 0n || offset > MOST_OFFSET) return undefined
  return readTable(source, { offset, entrySize: SECTION_HEADER, count: 1 }, sectionReader(header))[0]
}

/** Reads `count` section headers; fewer when the file ends before. */
export function readSections(source: ByteSource, header: ElfHeader, count: number): ElfSection[] {
  return readTable(source, { ...header.sections, count }, sectionReader(header))
}

/** Reads `count` program headers; fewer when the file ends before. */
export function readPrograms(source: ByteSource, header: ElfHeader, count: number): ElfProgram[] {
  const little = header.littleEndian
  return readTable(source, { ...header.programs, count }, (view, at) => ({
    type: view.getUint32(at, little),
    offset: view.getBigUint64(at + 8, little),
    virtual: view.getBigUint64(at + 16, little),
    physical: view.getBigUint64(at + 24, little),
    fileSize: view.getBigUint64(at + 32, little),
    memorySize: view.getBigUint64(at + 40, little),
  }))
}

function sectionReader({ littleEndian: little }: ElfHeader): (view: DataView, at: number) => ElfSection {
  return (view, at) => ({
    type: view.getUint32(at + 4, little),
    flags: view.getBigUint64(at + 8, little),
    offset: Number(view.getBigUint64(at + 0x18, little)),
    size: Number(view.getBigUint64(at + 0x20, little)),
    link: view.getUint32(at + 0x28, little),
    info: view.getUint32(at + 0x2c, little),
  })
}

function readTable<T>(
  source: ByteSource,
  { offset, entrySize, count }: ElfTable,
  entryAt: (view: DataView, at: number) => T,
): T[] {
  const entries: T[] = []
  const batch = new Uint8Array(entrySize * Math.min(count, Math.max(1, Math.floor(BATCH / entrySize))))
  const view = new DataView(batch.buffer)
  while (entries.length < count) {
    const want = Math.min(batch.length, (count - entries.length) * entrySize)
    const got = readFully(source, Number(offset) + entries.length * entrySize, batch.subarray(0, want))
    for (let at = 0; at + entrySize <= got; at += entrySize) entries.push(entryAt(view, at))
    if (got < want) break
  }
  return entries
}
