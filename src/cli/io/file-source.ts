import { gunzipSync } from 'node:zlib'
import { recognise } from '../../content.js'
import { type ByteSource, bytesSource, readFully } from '../../source.js'
import { Failure } from '../failure.js'
import { gunzipFlow } from './gunzip.js'
import { damaged, GZIP_HEADER, isGzip } from './gzip.js'
import {
  CALLS,
  type Flow,
  fillFrom,
  flowOf,
  interrupted,
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

/** Of what can be read in order only, so much is held in memory where it must be read at any place: an ELF core, symbols. */
const MOST_HELD = 1 << 28
/** A pipe that ends within this much is held, and read as often as need be. */
const SMALL_PIPE = 1 << 24
/** Compressed data of no more than this many bytes, which make no more than SMALL_TEXT, are decompressed in one piece, which is quicker. */
const SMALL_GZIP = 1 << 23
const SMALL_TEXT = 1 << 25
/** What of the beginning of a longer one is kept to be read again. */
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
 * Opens FILE, or standard input for `-`. A gzip file is decompressed. A file is read at any place; pipes and decompressed data are
 * held where they are small, and read in order where they are not.
 */
export function openSource(file: string, options: OpenOptions = {}): FileSource {
  const { calls = CALLS } = options
  const name = nameOf(file)
  const { fd, stat } = openForReading(file, options)
  const close = () => {
    if (fd !== STDIN) calls.close(fd)
  }
  try {
    // Standard input may have been read from before, even when it is a file; a live /proc/kcore is never read in order.
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
    // Files of /proc say 0.
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

/** @param again begins the compressed data once more, where that can be */
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

/** How many bytes the last member says it makes, modulo 2^32: a hint, which saves decompressing for nothing. */
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

/** Decompressed in one piece; undefined when it makes more than `most` bytes. */
function gunzipUpTo(name: string, data: Uint8Array, most: number): Uint8Array | undefined {
  try {
    return gunzipSync(data, { maxOutputLength: most })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined
    throw damaged(name, (error as Error).message)
  }
}

/** All bytes of a source; of what is read in order, as much as may be held in memory. */
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

/** Bytes that were read already, which are let go as they are passed on, then the rest. */
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

/** What comes in order only. Of its beginning a little is kept, for those who look what it is before they read it. */
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
    // What is skipped goes through the caller's memory.
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
