import { closeSync, fstatSync, openSync, readSync, type Stats } from 'node:fs'
import { Failure, systemFailure } from '../failure.js'
import { kcoreFailure, refuseLiveMemory, refuseMemoryDevice } from './running-kernel.js'

/** The system calls that reading uses; tests replace them with failing ones. */
export interface ReadCalls {
  open(file: string): number
  stat(fd: number): Stats
  /** @param position undefined: after the last read */
  read(fd: number, into: Uint8Array, position: number | undefined): number
  close(fd: number): void
}

export const CALLS: ReadCalls = {
  open: (file) => openSync(file, 'r'),
  stat: (fd) => fstatSync(fd),
  read: (fd, into, position) => readSync(fd, into, 0, into.length, position ?? null),
  close: closeSync,
}

export const STDIN = 0

/** The name of a file in messages. A line feed in it must not start a new line. */
export function nameOf(file: string): string {
  return file === '-' ? 'standard input' : file.replaceAll('\n', '\\x0a')
}

/** Refuses `-` twice: what the first reader takes is gone for the second. */
export function checkStdin(files: readonly (string | undefined)[]): void {
  if (files.filter((file) => file === '-').length > 1) throw new Failure('standard input (-) is named twice')
}

/** Whether a signal interrupted a call, so that the caller repeats it. libuv repeats other calls itself, but not reads. */
export function interrupted(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EINTR'
}

/** Describes a read that failed at `offset`. */
export function readFailure(name: string, error: unknown, offset?: number): Error {
  if (error instanceof Failure) return error
  const failure = systemFailure('cannot read', name, error)
  if (offset !== undefined) failure.message += ` at offset 0x${offset.toString(16)}`
  return failure
}

export interface OpenOptions {
  /** Allow a live /proc/kcore: the caller knows which of the running kernel's memory it may read. */
  readonly liveMemory?: boolean
  readonly calls?: ReadCalls
}

/** Opens a file, or takes standard input for `-`. It refuses directories and the memory of the running machine. */
export function openForReading(
  file: string,
  { liveMemory = false, calls = CALLS }: OpenOptions = {},
): { fd: number; stat: Stats } {
  const name = nameOf(file)
  let fd: number | undefined
  try {
    fd = file === '-' ? STDIN : calls.open(file)
    const stat = calls.stat(fd)
    if (stat.isDirectory()) throw new Failure(`cannot read ${name}: is a directory`)
    refuseMemoryDevice(name, stat)
    if (!liveMemory) refuseLiveMemory(name, fd, stat)
    return { fd, stat }
  } catch (error) {
    if (fd !== undefined && fd !== STDIN) calls.close(fd)
    throw kcoreFailure(file, error) ?? readFailure(name, error)
  }
}

/** Bytes in order, read once. */
export interface Flow {
  /** Reads at least one byte into `into`, or 0 at the end. @throws Failure */
  next(into: Uint8Array): number
}

/** Reads the rest of an open file, from `start` if it can be read at any place, otherwise from its current position. */
export function flowOf(name: string, fd: number, start: number | undefined, calls: ReadCalls = CALLS): Flow {
  let offset = start ?? 0
  return {
    next(into) {
      for (;;) {
        try {
          const count = calls.read(fd, into, start === undefined ? undefined : offset)
          offset += count
          return count
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException
          if (code === 'EOF') return 0
          // Somebody else made the pipe non-blocking, and it is empty.
          if (code === 'EAGAIN') sleep(2)
          else if (!interrupted(error)) throw readFailure(name, error, offset)
        }
      }
    },
  }
}

/** Reads until `into` is full or the flow ends. Returns the number of bytes. */
export function fillFrom(flow: Flow, into: Uint8Array): number {
  let have = 0
  while (have < into.length) {
    const got = flow.next(into.subarray(have))
    if (got === 0) break
    have += got
  }
  return have
}

/**
 * Reads up to `most` bytes, and one more to learn whether the flow has ended: a result of `most` + 1 bytes means that it has not.
 */
export function takeUpTo(flow: Flow, most: number): Uint8Array[] {
  const PIECE = 1 << 20
  const pieces: Uint8Array[] = []
  for (let left = most + 1; left > 0; ) {
    const piece = new Uint8Array(Math.min(PIECE, left))
    const got = fillFrom(flow, piece)
    // A small file must not keep a whole piece in memory.
    if (got > 0) pieces.push(got === piece.length ? piece : piece.slice(0, got))
    left -= got
    if (got < piece.length) break
  }
  return pieces
}

export function total(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0)
}

export function join(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!
  const all = new Uint8Array(total(pieces))
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}

function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Bytes of a gzip header, RFC 1952. */
export const GZIP_HEADER = 10

const TESTS: readonly ((byte: number) => boolean)[] = [
  (byte) => byte === 0x1f,
  (byte) => byte === 0x8b,
  (byte) => byte === 8,
  (byte) => byte < 0x20,
  () => true,
  () => true,
  () => true,
  // Seconds since 1970: bit 31 would mean the year 2038 or later. Kernel addresses have it set.
  (byte) => byte < 0x80,
  (byte) => byte === 0 || byte === 2 || byte === 4,
  (byte) => byte <= 13 || byte === 255,
]

/** Whether bytes are a gzip header. It checks all ten, since a raw address may begin with the two bytes of the magic. */
export function isGzip(head: Uint8Array): boolean {
  return head.length >= GZIP_HEADER && beginsGzip(head)
}

/** Whether bytes are a gzip header or the beginning of one. */
export function beginsGzip(head: Uint8Array): boolean {
  return head.length > 0 && head.subarray(0, GZIP_HEADER).every((byte, i) => TESTS[i]!(byte))
}

export function damaged(name: string, why: string): Failure {
  return new Failure(`cannot read ${name}: damaged gzip data (${why})`)
}
