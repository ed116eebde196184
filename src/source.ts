/**
 * Bytes with a name, read at any offset: a file, a device, a buffer. Synchronous, as /proc/kcore and cores are read. The
 * library implements it for buffers; whoever has files (the command line does) implements it for files.
 */
export interface ByteSource {
  /** How messages and provenance call it: a path, usually. */
  readonly name: string
  /** Bytes, or undefined when only reading tells (a pipe, a file of /proc). */
  readonly size: number | undefined
  /**
   * Whether these are the memory and files of the kernel that is running right now, as under /proc: reading the wrong page of a
   * live /proc/kcore can panic the machine, so only what the host surely owns is read of it.
   */
  readonly live?: boolean
  /** Reads at `offset` into all of `into`, or less; 0 only at the end. @throws when these bytes cannot be read */
  read(offset: number, into: Uint8Array): number
}

/** A buffer, or a text, as a source. */
export function bytesSource(name: string, data: Uint8Array | string): ByteSource {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data
  return {
    name,
    size: bytes.length,
    read(offset, into) {
      if (offset >= bytes.length) return 0
      const piece = bytes.subarray(offset, offset + into.length)
      into.set(piece)
      return piece.length
    },
  }
}

/** Reads until `into` is full or the source ends; how many bytes there were. */
export function readFully(source: ByteSource, offset: number, into: Uint8Array): number {
  let have = 0
  while (have < into.length) {
    const got = source.read(offset + have, have === 0 ? into : into.subarray(have))
    if (got === 0) break
    have += got
  }
  return have
}

const CHUNK = 1 << 20
/** A longer line is cut: no line of evidence is longer, and a file without line ends must not be held whole. */
const LONGEST_LINE = 1 << 16

/** Calls `line` for each line of a text of any size, without its line end and ANSI colours; numbers count from 1. */
export function forEachLine(source: ByteSource, line: (text: string, number: number) => void): void {
  // Latin-1: every byte is a character, so that no byte can upset the reading; what is looked for is ASCII.
  const decoder = new TextDecoder('latin1')
  const chunk = new Uint8Array(source.size === undefined ? CHUNK : Math.max(1, Math.min(CHUNK, source.size)))
  let number = 0
  let carry = ''
  const emit = (text: string): void => {
    number++
    let end = text.length
    while (end > 0 && text.charCodeAt(end - 1) === 13) end--
    const whole = end === text.length ? text : text.slice(0, end)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours are what is removed
    line(whole.includes('\u001b') ? whole.replace(/\u001b\[[0-9;]*[A-Za-z]/g, '') : whole, number)
  }
  let offset = 0
  for (;;) {
    const got = source.read(offset, chunk)
    if (got === 0) break
    offset += got
    const text = carry + decoder.decode(chunk.subarray(0, got))
    let from = 0
    for (;;) {
      const newline = text.indexOf('\n', from)
      if (newline < 0) break
      emit(text.slice(from, newline))
      from = newline + 1
    }
    carry = text.slice(from)
    if (carry.length > LONGEST_LINE) {
      emit(carry.slice(0, LONGEST_LINE))
      number--
      carry = ''
    }
  }
  if (carry !== '') emit(carry)
}
