import type { ByteSource } from '../../source.js'
import { readFully, reason } from '../../source.js'

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

export interface CoreNote {
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

/** What an ELF file is, when it is no core of an arm64 machine. */
export interface ElfRefusal {
  readonly refused: string
  /** Its content may nevertheless be arm64 memory, such as a kernel image. */
  readonly scannable: boolean
}

const HEADER = 64
const PROGRAM_HEADER = 56
const AARCH64 = 183
const TYPE_CORE = 4
const LOAD = 1
const NOTE = 4
/** More program headers than any core has: the limit on memory. */
const MOST_HEADERS = 1 << 16
/** Notes hold registers and VMCOREINFO, a few KiB a CPU. */
const MOST_NOTE_BYTES = 1 << 22
const END = 1n << 64n
/** The largest offset that is exact in a double and that a file can have. */
const MOST_OFFSET = BigInt(Number.MAX_SAFE_INTEGER)

/**
 * Reads the headers and notes of an ELF core of an arm64 machine: a kexec vmcore, QEMU's dump-guest-memory, /proc/kcore.
 * Nothing a header says is trusted: what points beyond the file, wraps around 2^64 or overflows is left out with a warning.
 * @throws what the source throws when the headers cannot be read; of notes that cannot, a warning tells
 */
export function readElfCore(source: ByteSource): ElfCore | ElfRefusal {
  const head = new Uint8Array(HEADER)
  if (readFully(source, 0, head) < HEADER) return { refused: 'ELF file cut off inside its header', scannable: false }
  if (head[4] !== 2) return { refused: 'a 32-bit ELF file; an arm64 core is 64-bit', scannable: false }
  const littleEndian = head[5] !== 2
  const view = new DataView(head.buffer)
  const type = view.getUint16(16, littleEndian)
  const machine = view.getUint16(18, littleEndian)
  if (machine !== AARCH64)
    return { refused: `an ELF file for machine ${machine}, not for AArch64 (${AARCH64})`, scannable: false }
  if (type !== TYPE_CORE) return { refused: `an ELF file of type ${type}, not a core (${TYPE_CORE})`, scannable: true }
  const warnings: string[] = []
  const headers = programHeaders(source, view, littleEndian, warnings)
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

interface ProgramHeader {
  readonly type: number
  readonly offset: bigint
  readonly virtual: bigint
  readonly physical: bigint
  readonly fileSize: bigint
  readonly memorySize: bigint
}

function programHeaders(source: ByteSource, elf: DataView, little: boolean, warnings: string[]): ProgramHeader[] {
  const at = elf.getBigUint64(32, little)
  const size = elf.getUint16(54, little)
  let count = elf.getUint16(56, little)
  if (count === 0xffff) count = extendedCount(source, elf, little) ?? count
  if (count === 0) {
    warnings.push('no program headers')
    return []
  }
  if (size < PROGRAM_HEADER || at > MOST_OFFSET) {
    warnings.push(`program headers of ${size} bytes at 0x${at.toString(16)} cannot be read`)
    return []
  }
  if (count > MOST_HEADERS) {
    warnings.push(`${count} program headers; the first ${MOST_HEADERS} are used`)
    count = MOST_HEADERS
  }
  const headers: ProgramHeader[] = []
  const batch = new Uint8Array(size * Math.min(count, Math.max(1, Math.floor((1 << 20) / size))))
  const view = new DataView(batch.buffer)
  for (let done = 0; done < count; ) {
    const want = Math.min(batch.length, (count - done) * size)
    const got = readFully(source, Number(at) + done * size, batch.subarray(0, want))
    const whole = Math.floor(got / size)
    for (let i = 0; i < whole; i++) headers.push(programHeader(view, i * size, little))
    done += whole
    if (got < want) {
      warnings.push(`cut off after ${done} of ${count} program headers`)
      break
    }
  }
  return headers
}

/** With 65535 program headers or more the true number is the first section header's sh_info. */
function extendedCount(source: ByteSource, elf: DataView, little: boolean): number | undefined {
  const at = elf.getBigUint64(40, little)
  if (at === 0n || at > MOST_OFFSET) return undefined
  const section = new Uint8Array(64)
  if (readFully(source, Number(at), section) < 64) return undefined
  return new DataView(section.buffer).getUint32(44, little)
}

function programHeader(view: DataView, at: number, little: boolean): ProgramHeader {
  return {
    type: view.getUint32(at, little),
    offset: view.getBigUint64(at + 8, little),
    virtual: view.getBigUint64(at + 16, little),
    physical: view.getBigUint64(at + 24, little),
    fileSize: view.getBigUint64(at + 32, little),
    memorySize: view.getBigUint64(at + 40, little),
  }
}

function loadSegment(header: ProgramHeader, size: number | undefined): CoreSegment | undefined {
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
