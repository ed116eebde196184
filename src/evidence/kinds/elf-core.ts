import type { ByteSource } from '../../source.js'
import { readFully, reason } from '../../source.js'
import {
  type ElfHeader,
  type ElfProgram,
  EM_AARCH64,
  MOST_OFFSET,
  readElfHeader,
  readFirstSection,
  readPrograms,
} from '../../symbols/elf.js'

/** One loadable piece of an ELF core. */
export interface CoreSegment {
  /** Where its bytes are in the file. */
  readonly offset: number
  /** Bytes in the file; what the header claims beyond the file's end is cut. */
  readonly fileSize: number
  readonly virtual: bigint
  /** Physical address; undefined where the header says there is none. */
  readonly physical: bigint | undefined
  /** Bytes in memory. */
  readonly memorySize: bigint
}

interface CoreNote {
  readonly name: string
  readonly data: Uint8Array
}

export interface ElfCore {
  readonly segments: readonly CoreSegment[]
  readonly notes: readonly CoreNote[]
  readonly littleEndian: boolean
  /** What was wrong with the headers; the rest of the file is used. */
  readonly warnings: readonly string[]
}

/** Why an ELF file is not a core of an arm64 machine. */
interface ElfRefusal {
  readonly refused: string
  /** Its content may nevertheless be arm64 memory, such as a kernel image. */
  readonly scannable: boolean
}

const PROGRAM_HEADER = 56
const TYPE_CORE = 4
const LOAD = 1
const NOTE = 4
/** No core has more program headers; the limit bounds memory use. */
const MOST_HEADERS = 1 << 16
/** Notes hold registers and VMCOREINFO, a few KiB a CPU. */
const MOST_NOTE_BYTES = 1 << 22
const END = 1n << 64n
/**
 * Reads the headers and notes of an ELF core of an arm64 machine: a kexec vmcore, QEMU's dump-guest-memory, /proc/kcore.
 * Nothing a header says is trusted: what points beyond the file, wraps around 2^64 or overflows is left out with a warning.
 * @throws what the source throws when the headers cannot be read; of notes that cannot, a warning tells
 */
export function readElfCore(source: ByteSource): ElfCore | ElfRefusal {
  const elf = readElfHeader(source)
  if (elf === undefined) return { refused: 'ELF file cut off inside its header', scannable: false }
  if (!elf.is64) return { refused: 'a 32-bit ELF file; an arm64 core is 64-bit', scannable: false }
  const { littleEndian, type, machine } = elf
  if (machine !== EM_AARCH64)
    return { refused: `an ELF file for machine ${machine}, not for AArch64 (${EM_AARCH64})`, scannable: false }
  if (type !== TYPE_CORE) return { refused: `an ELF file of type ${type}, not a core (${TYPE_CORE})`, scannable: true }
  const warnings: string[] = []
  const headers = programHeaders(source, elf, warnings)
  const segments: CoreSegment[] = []
  const notes: CoreNote[] = []
  let noteBytes = 0
  let bad = 0
  for (const header of headers) {
    if (header.type === NOTE) {
      const size = header.fileSize < BigInt(MOST_NOTE_BYTES) ? Number(header.fileSize) : MOST_NOTE_BYTES
      if (header.offset > MOST_OFFSET || noteBytes + size > MOST_NOTE_BYTES) {
        bad++
        continue
      }
      noteBytes += size
      const at = Number(header.offset)
      try {
        readNotes(source, at, size, littleEndian, notes)
      } catch (error) {
        // The segments can be read all the same; what the note would have said is missing, and that must be known.
        warnings.push(`the NOTE segment at offset 0x${at.toString(16)} could not be read (${reason(source, error)})`)
      }
    } else if (header.type === LOAD) {
      const segment = loadSegment(header, source.size)
      if (segment === undefined) bad++
      else segments.push(segment)
    }
  }
  if (bad > 0) {
    warnings.push(
      `${bad} program header${bad === 1 ? '' : 's'} left out: beyond the end of the file or of the address space`,
    )
  }
  return { segments, notes, littleEndian, warnings }
}

function programHeaders(source: ByteSource, elf: ElfHeader, warnings: string[]): ElfProgram[] {
  const { offset, entrySize } = elf.programs
  let { count } = elf.programs
  if (count === 0xffff) count = readFirstSection(source, elf)?.info ?? count
  if (count === 0) {
    warnings.push('no program headers')
    return []
  }
  if (entrySize < PROGRAM_HEADER || offset > MOST_OFFSET) {
    warnings.push(`program headers of ${entrySize} bytes at 0x${offset.toString(16)} cannot be read`)
    return []
  }
  if (count > MOST_HEADERS) {
    warnings.push(`${count} program headers; the first ${MOST_HEADERS} are used`)
    count = MOST_HEADERS
  }
  const headers = readPrograms(source, elf, count)
  if (headers.length < count) warnings.push(`cut off after ${headers.length} of ${count} program headers`)
  return headers
}

function loadSegment(header: ElfProgram, size: number | undefined): CoreSegment | undefined {
  const { offset, virtual, physical, memorySize } = header
  let { fileSize } = header
  if (memorySize === 0n && fileSize === 0n) return undefined
  if (virtual + memorySize > END || offset > MOST_OFFSET) return undefined
  // /proc/kcore has no size of its own; a file's is the limit.
  if (size !== undefined && size > 0) {
    const end = BigInt(size)
    if (offset >= end && fileSize > 0n) return undefined
    if (offset + fileSize > end) fileSize = end - offset
  }
  if (offset + fileSize > MOST_OFFSET) return undefined
  // /proc/kcore: -1 for what is no memory (vmalloc, modules, vmemmap); older kernels wrote 0 in all.
  const known = physical < 1n << 52n && physical + memorySize <= END
  return {
    offset: Number(offset),
    fileSize: Number(fileSize),
    virtual,
    physical: known ? physical : undefined,
    memorySize,
  }
}

function readNotes(source: ByteSource, at: number, size: number, little: boolean, notes: CoreNote[]): void {
  const bytes = new Uint8Array(size)
  const have = readFully(source, at, bytes)
  const view = new DataView(bytes.buffer)
  for (let pos = 0; pos + 12 <= have; ) {
    const nameSize = view.getUint32(pos, little)
    const dataSize = view.getUint32(pos + 4, little)
    const name = pos + 12
    const data = name + align4(nameSize)
    const next = data + align4(dataSize)
    if (data > have) return
    const end = Math.min(data + dataSize, have)
    notes.push({
      name: String.fromCharCode(...bytes.subarray(name, name + Math.min(nameSize, 32))).replace(/\0.*$/s, ''),
      data: bytes.subarray(data, end),
    })
    pos = next
  }
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4
}
