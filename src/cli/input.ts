import { closeSync, fstatSync, openSync, read, readSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { Failure, systemFailure } from './failure.js'

/** A stream of bytes that reads into the caller's memory. */
export interface Input {
  /** How messages call it. */
  readonly name: string
  /** Size in bytes when it is a regular file, not compressed. */
  readonly size: number | undefined
  /**
   * Reads at least one byte into `space` unless the input has ended (0). Not at once in the case of a pipe; at once, and
   * without a promise, in the case of a file.
   */
  fill(space: Uint8Array): number | Promise<number>
  close(): void
}

const STDIN = 0
const GZIP_HEADER = 10

/** Refuses inputs that cannot be read before anything is written. */
export function checkInputs(files: readonly string[]): void {
  if (files.filter((file) => file === '-').length > 1) throw new Failure('standard input (-) is named twice')
  for (const file of files) {
    if (file === '-') continue
    try {
      if (statSync(file).isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' })
    } catch (error) {
      throw systemFailure('cannot read', file, error)
    }
  }
}

/** Opens a file, or standard input for `-`. Gzip is told by its header and undone. */
export async function openInput(file: string): Promise<Input> {
  const name = file === '-' ? 'standard input' : file
  let fd: number
  try {
    fd = file === '-' ? STDIN : openSync(file, 'r')
  } catch (error) {
    throw systemFailure('cannot read', name, error)
  }
  const stat = fstatSync(fd)
  if (stat.isDirectory()) throw new Failure(`cannot read ${name}: is a directory`)
  const source = stat.isFile() ? new FileInput(name, fd, stat.size) : new PipeInput(name, fd)
  const head = await peek(source)
  if (head.length < GZIP_HEADER || !isGzip(head)) return head.length === 0 ? source : new Prefixed(head, source)
  return new GzipInput(name, head, source)
}

/** A regular file: read synchronously, which is what a page cache deserves. */
class FileInput implements Input {
  readonly name: string
  readonly size: number
  private readonly fd: number
  constructor(name: string, fd: number, size: number) {
    this.name = name
    this.fd = fd
    this.size = size
  }
  fill(space: Uint8Array): number {
    try {
      return readSync(this.fd, space, 0, space.length, null)
    } catch (error) {
      throw systemFailure('cannot read', this.name, error)
    }
  }
  close(): void {
    if (this.fd !== STDIN) closeSync(this.fd)
  }
}

/** A pipe, a terminal, a device: read without holding up signals and timers. */
class PipeInput implements Input {
  readonly name: string
  readonly size = undefined
  private readonly fd: number
  constructor(name: string, fd: number) {
    this.name = name
    this.fd = fd
  }
  fill(space: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      const attempt = () =>
        read(this.fd, space, 0, space.length, null, (error, count) => {
          if (error === null) resolve(count)
          // Somebody else made the pipe non-blocking; there is nothing yet.
          else if (error.code === 'EAGAIN') setTimeout(attempt, 2)
          else if (error.code === 'EOF') resolve(0)
          else reject(systemFailure('cannot read', this.name, error))
        })
      attempt()
    })
  }
  close(): void {
    if (this.fd !== STDIN) closeSync(this.fd)
  }
}

/** As many bytes as it takes to tell gzip from anything else; mostly one. */
async function peek(source: Input): Promise<Uint8Array> {
  const head = new Uint8Array(GZIP_HEADER)
  let length = 0
  while (length < GZIP_HEADER) {
    // Not gzip so far as it goes: decided, and a slow pipe need not wait for more.
    if (length > 0 && !isGzip(head.subarray(0, length))) break
    const count = await source.fill(head.subarray(length))
    if (count === 0) break
    length += count
  }
  return head.subarray(0, length)
}

/**
 * Whether bytes are (the beginning of) a gzip header, RFC 1952. All ten are looked at since a raw address may begin with
 * the two of the magic.
 */
export function isGzip(head: Uint8Array): boolean {
  const tests: ((byte: number) => boolean)[] = [
    (byte) => byte === 0x1f,
    (byte) => byte === 0x8b,
    (byte) => byte === 8,
    (byte) => byte < 0x20,
    () => true,
    () => true,
    () => true,
    // Seconds since 1970: bit 31 would be the year 2038 and later; kernel addresses have it set.
    (byte) => byte < 0x80,
    (byte) => byte === 0 || byte === 2 || byte === 4,
    (byte) => byte <= 13 || byte === 255,
  ]
  return head.length > 0 && head.every((byte, i) => tests[i]!(byte))
}

/** An input whose first bytes were read already. */
class Prefixed implements Input {
  readonly name: string
  readonly size: number | undefined
  private head: Uint8Array
  private readonly rest: Input
  constructor(head: Uint8Array, rest: Input) {
    this.name = rest.name
    this.size = rest.size
    this.head = head
    this.rest = rest
  }
  fill(space: Uint8Array): number | Promise<number> {
    if (this.head.length === 0) return this.rest.fill(space)
    const count = Math.min(this.head.length, space.length)
    space.set(this.head.subarray(0, count))
    this.head = this.head.subarray(count)
    return count
  }
  close(): void {
    this.rest.close()
  }
}

/** A gzip stream, of any number of members, decompressed. */
class GzipInput implements Input {
  readonly name: string
  readonly size = undefined
  private readonly chunks: AsyncIterator<Uint8Array>
  private readonly source: Input
  private chunk: Uint8Array = new Uint8Array(0)
  constructor(name: string, head: Uint8Array, source: Input) {
    this.name = name
    this.source = source
    this.chunks = Readable.from(compressed(head, source))
      .compose(createGunzip({ chunkSize: 65536 }))
      [Symbol.asyncIterator]()
  }
  async fill(space: Uint8Array): Promise<number> {
    while (this.chunk.length === 0) {
      let next: IteratorResult<Uint8Array>
      try {
        next = await this.chunks.next()
      } catch (error) {
        if (error instanceof Failure) throw error
        throw new Failure(`cannot read ${this.name}: damaged gzip data (${(error as Error).message})`)
      }
      if (next.done === true) return 0
      this.chunk = next.value
    }
    const count = Math.min(this.chunk.length, space.length)
    space.set(this.chunk.subarray(0, count))
    this.chunk = this.chunk.subarray(count)
    return count
  }
  close(): void {
    this.source.close()
  }
}

async function* compressed(head: Uint8Array, source: Input): AsyncGenerator<Uint8Array> {
  yield head
  for (;;) {
    const buffer = new Uint8Array(65536)
    const count = await source.fill(buffer)
    if (count === 0) return
    yield buffer.subarray(0, count)
  }
}
