import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { type ByteSource, bytesSource } from '../source.js'
import { Failure, systemFailure } from './failure.js'
import { isGzip } from './input.js'
import { isLive, kcoreFailure, refuseMemoryDevice } from './live.js'

/** Compressed evidence, and evidence on standard input, is held in memory: this much of it. */
const MOST_HELD = 1 << 28

export interface FileSource extends ByteSource {
  /** Its bytes were decompressed. */
  readonly gzip: boolean
  close(): void
}

/** Opens FILE, or standard input for `-`, for reading at any place. A gzip file is decompressed. */
export function openSource(file: string): FileSource {
  const name = file === '-' ? 'standard input' : file
  try {
    if (file === '-') return held(name, readAll(0, name))
    const fd = openSync(file, 'r')
    const stat = fstatSync(fd)
    if (stat.isDirectory()) {
      closeSync(fd)
      throw new Failure(`cannot read ${name}: is a directory`)
    }
    refuseMemoryDevice(name, stat)
    const head = new Uint8Array(10)
    // A pipe is read once, from its beginning to its end.
    if (!stat.isFile()) {
      const data = readAll(fd, name)
      closeSync(fd)
      return held(name, data)
    }
    const length = readSync(fd, head, 0, head.length, 0)
    if (length === head.length && isGzip(head)) {
      const data = readFileSync(fd)
      closeSync(fd)
      return held(name, data)
    }
    return {
      name,
      // Files of /proc say 0.
      size: stat.size === 0 ? undefined : stat.size,
      live: isLive(fd),
      gzip: false,
      read: (offset, into) => readSync(fd, into, 0, into.length, offset),
      close: () => closeSync(fd),
    }
  } catch (error) {
    if (error instanceof Failure) throw error
    throw kcoreFailure(file, error) ?? systemFailure('cannot read', name, error)
  }
}

/** All of a pipe. */
function readAll(fd: number, name: string): Uint8Array {
  const pieces: Uint8Array[] = []
  let total = 0
  for (;;) {
    const piece = new Uint8Array(1 << 16)
    let count: number
    try {
      count = readSync(fd, piece, 0, piece.length, null)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EOF') break
      if (code !== 'EAGAIN') throw error
      // Somebody else made the pipe non-blocking; there is nothing yet.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
      continue
    }
    if (count === 0) break
    total += count
    if (total > MOST_HELD) {
      throw new Failure(`cannot read ${name}: more than ${MOST_HELD >> 20} MiB in a pipe; give the file itself`)
    }
    pieces.push(piece.subarray(0, count))
  }
  const all = new Uint8Array(total)
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}

function held(name: string, data: Uint8Array): FileSource {
  const gzip = data.length >= 10 && isGzip(data.subarray(0, 10))
  let bytes = data
  if (gzip) {
    try {
      bytes = gunzipSync(data, { maxOutputLength: MOST_HELD })
    } catch (error) {
      const large = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
      const why = large
        ? `more than ${MOST_HELD >> 20} MiB when decompressed; decompress it first`
        : `damaged gzip data (${(error as Error).message})`
      throw new Failure(`cannot read ${name}: ${why}`)
    }
  }
  return { ...bytesSource(name, bytes), gzip, close: () => {} }
}
