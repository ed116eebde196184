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
   * Whether these are the memory and files of the kernel that is running right now, as under /proc. Reading the wrong page of a
   * live /proc/kcore panics a protected host, so only what the host surely owns is read of it. Absent: a core that is laid out like
   * /proc/kcore is taken for it; say false for a copy.
   */
  readonly live?: boolean
  /**
   * For what is read from front to back only, a pipe or decompressed data: an error is its end. `again`: reading at an earlier offset
   * starts over. `once`: only its first MiB can be read again; anything else that was passed is an error.
   */
  readonly sequential?: 'again' | 'once'
  /** Reads at `offset` into all of `into`, or less; 0 only at the end. @throws when these bytes cannot be read */
  read(offset: number, into: Uint8Array): number
}

/**
 * A buffer, or a text, as a source.
 * @example
 * bytesSource('note', 'PC:0000d93a82c705ac').size // 19
 */
export function bytesSource(name: string, data: Uint8Array | string): ByteSource {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data
  return {
    name,
    size: bytes.length,
    live: false,
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

/** Why bytes of `source` cannot be read, for a message that names it already. */
export function reason({ name }: ByteSource, error: unknown): string {
  return (error as Error).message.replace(`cannot read ${name}: `, '')
}

/** Bytes taken at a time: a text of so many is collected early, among the young. */
const CHUNK = 1 << 18
/** A longer line comes in pieces of this: no line of evidence is longer, and a file without line ends must not be held whole. */
const LONGEST_LINE = 1 << 16

const NEWLINE = 10
const RETURN = 13

/** Tells lines that matter by their bytes, before they are strings. */
export interface LineFilter {
  /**
   * Puts places in bytes [0, end) into `places`, ascending: a line with none of them matters only if it begins so. The number of places;
   * when they are all filled, there may be more.
   */
  find(bytes: Uint8Array, end: number, places: Uint32Array): number
  /** Whether a line that begins with these two bytes matters. */
  begins(first: number, second: number): boolean
}

/** More places than this in a chunk: many of its lines matter, and all are looked at. */
const MOST_PLACES = CHUNK / 256
/** Chunks after such a one that are taken to be like it; the first ones, too, are looked at as a whole. */
const ALIKE = 16
const ESCAPE = 27

/**
 * Calls `line` for each line of a text of any size, without its line end and ANSI colours; numbers count from 1.
 * @param makeFilter leave out lines that do not matter by it, unless they are the first that is not empty after one that does
 * @returns whether the text ends with a line end (or is empty)
 */
export function forEachLine(
  source: ByteSource,
  line: (text: string, number: number) => void,
  makeFilter?: () => LineFilter,
): boolean {
  // Latin-1: every byte is a character, so that no byte can upset the reading; what is looked for is ASCII.
  const decoder = new TextDecoder('latin1')
  const size = source.size === undefined ? CHUNK : Math.max(1, Math.min(CHUNK, source.size))
  const buffer = new Uint8Array(LONGEST_LINE + size)
  const places = new Uint32Array(makeFilter === undefined ? 0 : MOST_PLACES)
  /** Chunks to be read without the filter: a text of a few is read before one is made. */
  let unfiltered = ALIKE
  /** How many go by until it is tried again where it was of no use: a table of symbols is nothing but lines that matter. */
  let patience = ALIKE
  let filter: LineFilter | undefined
  let number = 0
  /** The rest of a long line whose number was counted already is being read. */
  let inside = false
  /** The next line that is not empty may be an answer to the last. */
  let follow = false
  const emit = (text: string): void => {
    if (!inside) number++
    inside = false
    let end = text.length
    while (end > 0 && text.charCodeAt(end - 1) === RETURN) end--
    const whole = end === text.length ? text : text.slice(0, end)
    if (end > 0) follow = false
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours are what is removed
    line(whole.includes('\u001b') ? whole.replace(/\u001b\[[0-9;]*[A-Za-z]/g, '') : whole, number)
  }
  const emitPieces = (text: string): void => {
    let from = 0
    for (; text.length - from > LONGEST_LINE; from += LONGEST_LINE) {
      emit(text.slice(from, from + LONGEST_LINE))
      inside = true
    }
    emit(from === 0 ? text : text.slice(from))
  }
  /** All lines of the buffer up to `end`, which is that of a line. */
  const emitAll = (end: number): void => {
    const text = decoder.decode(buffer.subarray(0, end))
    for (let from = 0; ; ) {
      const newline = text.indexOf('\n', from)
      const stop = newline < 0 ? text.length : newline
      if (stop - from > LONGEST_LINE) emitPieces(text.slice(from, stop))
      else emit(text.slice(from, stop))
      if (newline < 0) break
      from = newline + 1
    }
    follow = true
  }
  const emitSome = (end: number, { begins }: LineFilter, count: number): void => {
    let next = 0
    for (let from = 0; from <= end; ) {
      const newline = buffer.indexOf(NEWLINE, from)
      const stop = newline < 0 || newline > end ? end : newline
      while (next < count && places[next]! < from) next++
      const matters = inside || (next < count && places[next]! < stop) || begins(buffer[from]!, buffer[from + 1]!)
      if (matters || follow) emitPieces(decoder.decode(buffer.subarray(from, stop)))
      else number++
      if (matters) follow = true
      from = stop + 1
    }
  }
  let offset = 0
  /** Bytes in the buffer that belong to a line whose end was not read yet. */
  let carried = 0
  for (;;) {
    const got = source.read(offset, buffer.subarray(carried, carried + size))
    if (got === 0) break
    offset += got
    const have = carried + got
    if (makeFilter !== undefined && unfiltered-- <= 0) filter ??= makeFilter()
    const sieve = unfiltered < 0 ? filter : undefined
    const last = buffer.subarray(carried, have).lastIndexOf(NEWLINE)
    let from = 0
    if (last >= 0) {
      const end = carried + last
      if (sieve === undefined) emitAll(end)
      else {
        const count = sieve.find(buffer, end, places)
        // Colours may stand inside of a word.
        const all = count === places.length || buffer.subarray(0, end).includes(ESCAPE)
        if (all) emitAll(end)
        else emitSome(end, sieve, count)
        if (count === places.length) {
          unfiltered = patience
          patience *= 2
        } else {
          patience = ALIKE
        }
      }
      from = end + 1
    }
    for (; have - from > LONGEST_LINE; from += LONGEST_LINE) {
      const piece = buffer.subarray(from, from + LONGEST_LINE)
      const matters = inside ? false : follow || sieve?.begins(piece[0]!, piece[1]!)
      if (sieve === undefined || matters || sieve.find(piece, piece.length, places) > 0 || piece.includes(ESCAPE)) {
        emit(decoder.decode(piece))
        follow = true
      } else if (!inside) number++
      inside = true
    }
    buffer.copyWithin(0, from, have)
    carried = have - from
  }
  if (carried > 0) emit(decoder.decode(buffer.subarray(0, carried)))
  return carried === 0
}

/** A string of its own: a part of another keeps all of that in memory, a whole chunk of a log, say. */
export function ownText(text: string): string {
  return ` ${text}`.slice(1)
}
