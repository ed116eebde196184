import { gunzipSync } from 'node:zlib'
import { recognise } from '../../content.js'
import { type ByteSource, bytesSource, readFully } from '../../source.js'
import { Failure } from '../failure.js'
import { gunzipFlow } from './gunzip.js'
import {
  CALLS,
  damaged,
  type Flow,
  fillFrom,
  flowOf,
  GZIP_HEADER,
  interrupted,
  isGzip,
  join,
  nameOf,
  type OpenOptions,
  openForReading,
  type ReadCalls,
  readFailure,
  STDIN,
  takeUpTo,
  total,
} from './reading.js'
import { isLive } from './running-kernel.js'

/** Most bytes that hypva holds in memory of an input that it can only read in order but needs at any place: an ELF core, symbols. */
const MOST_HELD = 1 << 28
/** hypva holds a pipe that ends within this many bytes, and reads it as often as it needs. */
const SMALL_PIPE = 1 << 24
/** hypva decompresses at most this many bytes in one piece, which is quicker, if they make at most SMALL_TEXT. */
const SMALL_GZIP = 1 << 23
const SMALL_TEXT = 1 << 25
/** Bytes at the beginning of a longer input that it keeps, to read them again. */
const KEPT = 1 << 20

export interface FileSource extends ByteSource {
  /** Its bytes were decompressed. */
  readonly gzip: boolean
  close(): void
}

interface Opened {
  readonly source: ByteSource
  readonly gzip: boolean
}

/**
 * Opens FILE, or standard input for `-`, and decompresses gzip. It reads a file at any place, holds small pipes and small
 * decompressed data in memory, and reads larger ones in order.
 */
export function openSource(file: string, options: OpenOptions = {}): FileSource {
  const { calls = CALLS } = options
  const name = nameOf(file)
  const { fd, stat } = openForReading(file, options)
  const close = () => {
    if (fd !== STDIN) calls.close(fd)
  }
  try {
    // Somebody may have read from standard input before, even when it is a file. hypva never reads a live /proc/kcore in order.
    const anywhere = stat.isFile() && (fd !== STDIN || (stat.size > 0 && isLive(fd)))
    const { source, gzip } = anywhere
      ? fileSource(name, fd, stat.size, calls)
      : pipeSource(name, flowOf(name, fd, undefined, calls))
    return Object.assign(source, { gzip, close })
  } catch (error) {
    close()
    throw error
  }
}

function fileSource(name: string, fd: number, size: number, calls: ReadCalls): Opened {
  const begin = () => flowOf(name, fd, 0, calls)
  const head = new Uint8Array(GZIP_HEADER)
  if (isGzip(head.subarray(0, fillFrom(begin(), head)))) {
    return { source: gzipSource(name, begin(), begin), gzip: true }
  }
  const source: ByteSource = {
    name,
    // Files of /proc report 0.
    size: size === 0 ? undefined : size,
    live: isLive(fd, fd === STDIN ? undefined : name),
    read(offset, into) {
      for (;;) {
        try {
          return calls.read(fd, into, offset)
        } catch (error) {
          if (!interrupted(error)) throw readFailure(name, error, offset)
        }
      }
    },
  }
  return { source, gzip: false }
}

function pipeSource(name: string, flow: Flow): Opened {
  const header = new Uint8Array(GZIP_HEADER)
  const head = header.subarray(0, fillFrom(flow, header))
  const whole = withHead([head], flow)
  if (isGzip(head)) return { source: gzipSource(name, whole, undefined), gzip: true }
  const begun = takeUpTo(whole, SMALL_PIPE)
  if (total(begun) <= SMALL_PIPE) return { source: bytesSource(name, join(begun)), gzip: false }
  const source = new SequentialSource(name, withHead(begun, whole), undefined)
  return { source: beginsAsElf(source) ? bytesSource(name, readWhole(source)) : source, gzip: false }
}

/** @param again begins the compressed data once more, if that is possible */
function gzipSource(name: string, compressed: Flow, again: (() => Flow) | undefined): ByteSource {
  const begun = takeUpTo(compressed, SMALL_GZIP)
  const small = total(begun) <= SMALL_GZIP
  if (small) {
    const all = join(begun)
    const data = saidSize(all) <= SMALL_TEXT ? gunzipUpTo(name, all, SMALL_TEXT) : undefined
    if (data !== undefined) return bytesSource(name, data)
  }
  const restart = small ? replay(begun) : again
  const whole = gunzipFlow(name, withHead(begun, compressed))
  const source = new SequentialSource(name, whole, restart && (() => gunzipFlow(name, restart())))
  if (!beginsAsElf(source)) return source
  if (restart === undefined) return bytesSource(name, readWhole(source))
  const pieces = takeUpTo(restart(), MOST_HELD)
  const data = total(pieces) > MOST_HELD ? undefined : gunzipUpTo(name, join(pieces), MOST_HELD)
  if (data === undefined) throw tooLarge(source)
  return bytesSource(name, data)
}

/** How many bytes the last member claims to make, modulo 2^32: a hint, which saves decompressing in vain. */
function saidSize(data: Uint8Array): number {
  return data.length < 4 ? 0 : new DataView(data.buffer, data.byteOffset).getUint32(data.length - 4, true)
}

function replay(pieces: readonly Uint8Array[]): () => Flow {
  return () => withHead(pieces, { next: () => 0 })
}

function beginsAsElf(source: ByteSource): boolean {
  const head = new Uint8Array(64)
  return recognise(head.subarray(0, readFully(source, 0, head)))?.kind === 'elf'
}

/** Decompresses in one piece; undefined when that makes more than `most` bytes. */
function gunzipUpTo(name: string, data: Uint8Array, most: number): Uint8Array | undefined {
  try {
    return gunzipSync(data, { maxOutputLength: most })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined
    throw damaged(name, (error as Error).message)
  }
}

/** Reads all bytes of a source; of one that it reads in order, at most as many as it may hold in memory. */
export function readWhole(source: ByteSource): Uint8Array {
  const pieces: Uint8Array[] = []
  for (let size = 0; ; ) {
    const piece = new Uint8Array(pieces.length === 0 && source.size !== undefined ? source.size : 1 << 20)
    const got = readFully(source, size, piece)
    pieces.push(piece.subarray(0, got))
    size += got
    if (source.sequential !== undefined && size > MOST_HELD) throw tooLarge(source)
    if (got < piece.length || size === source.size) break
  }
  return join(pieces)
}

function tooLarge({ name, sequential }: ByteSource): Failure {
  const where = sequential === 'again' ? 'when decompressed; decompress it first' : 'in a pipe; give the file itself'
  return new Failure(`cannot read ${name}: more than ${MOST_HELD >> 20} MiB ${where}`)
}

/** Passes on bytes that were read already, freeing them as it goes, then the rest. */
function withHead(pieces: readonly Uint8Array[], rest: Flow): Flow {
  const waiting = [...pieces].reverse()
  return {
    next(into) {
      for (;;) {
        const piece = waiting.at(-1)
        if (piece === undefined) return rest.next(into)
        const count = Math.min(piece.length, into.length)
        into.set(piece.subarray(0, count))
        if (count === piece.length) waiting.pop()
        else waiting[waiting.length - 1] = piece.subarray(count)
        if (count > 0) return count
      }
    },
  }
}

/** A source that only comes in order. It keeps a little of its beginning, for readers that first look at what it is. */
class SequentialSource implements ByteSource {
  readonly name: string
  readonly size = undefined
  readonly sequential: 'again' | 'once'
  private flow: Flow
  private readonly again: (() => Flow) | undefined
  private readonly kept = new Uint8Array(KEPT)
  /** Bytes of `kept` that were read. */
  private known = 0
  /** Where the flow stands. */
  private position = 0

  constructor(name: string, flow: Flow, again: (() => Flow) | undefined) {
    this.name = name
    this.sequential = again === undefined ? 'once' : 'again'
    this.flow = flow
    this.again = again
  }

  read(offset: number, into: Uint8Array): number {
    if (offset < this.known) {
      const piece = this.kept.subarray(offset, Math.min(this.known, offset + into.length))
      into.set(piece)
      return piece.length
    }
    if (offset < this.position) this.restart()
    // The skipped bytes go through the caller's memory.
    while (this.position < offset) {
      if (this.advance(into.subarray(0, Math.min(into.length, offset - this.position))) === 0) return 0
    }
    return this.advance(into)
  }

  private advance(into: Uint8Array): number {
    const count = this.flow.next(into)
    if (this.position === this.known && this.known < KEPT) {
      const piece = into.subarray(0, Math.min(count, KEPT - this.known))
      this.kept.set(piece, this.known)
      this.known += piece.length
    }
    this.position += count
    return count
  }

  private restart(): void {
    if (this.again === undefined) {
      throw new Failure(
        `cannot read ${this.name} twice: it is a pipe of more than ${SMALL_PIPE >> 20} MiB; give the file itself`,
      )
    }
    this.flow = this.again()
    this.position = 0
  }
}
