import { closeSync, constants, openSync, read, readSync, statSync } from 'node:fs'
import { createGunzip } from 'node:zlib'
import { HEAD, undecided } from '../../content.js'
import { systemFailure } from '../failure.js'
import {
  beginsGzip,
  checkStdin,
  damaged,
  GZIP_HEADER,
  interrupted,
  isGzip,
  nameOf,
  openForReading,
  readFailure,
  STDIN,
} from './reading.js'
import { kcoreFailure } from './running-kernel.js'
import { refuseUnlessText } from './text.js'

/** A stream of bytes that reads into the caller's memory. */
export interface Input {
  /** Its name in messages. */
  readonly name: string
  /** Set for a regular file that is not compressed: it can be read at any place. */
  readonly file: { readonly fd: number; readonly size: number } | undefined
  /** Reads the bytes that are there without waiting for more. 0: there are none now, or no more at all, or it cannot know. */
  present(space: Uint8Array): number
  /** Reads at least one byte into `space` unless the input has ended (0). It may block the thread. */
  fill(space: Uint8Array): number | Promise<number>
  close(): void
}

/** Refuses unreadable inputs before hypva writes anything. */
export function checkInputs(files: readonly string[]): void {
  checkStdin(files)
  for (const file of files) {
    if (file === '-') continue
    try {
      if (statSync(file).isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' })
    } catch (error) {
      throw kcoreFailure(file, error) ?? systemFailure('cannot read', file, error)
    }
  }
}

interface InputOptions {
  /** Wait for a pipe inside the system call, which is quicker, but makes signals and timers wait too. */
  readonly blocking?: boolean
  /** Refuse input whose first bytes are not text. */
  readonly text?: boolean
}

/** Opens a file, or standard input for `-`, and decompresses it if it begins with a gzip header. */
export async function openInput(file: string, { blocking = false, text = false }: InputOptions = {}): Promise<Input> {
  const name = nameOf(file)
  const { fd, stat } = openForReading(file)
  const source = stat.isFile() ? fileInput(name, fd, stat.size) : new PipeInput(name, fd, blocking, stat.isFIFO())
  const regular = stat.isFile() && stat.size > 0
  const head = await peek(
    source,
    (bytes) => (bytes.length < GZIP_HEADER && beginsGzip(bytes)) || (text && lacking(bytes, regular)),
  )
  const whole = prefixed(head, source)
  if (!isGzip(head)) {
    if (text) refuseUnlessText(head, { name, ...TEXT })
    return whole
  }
  const unzipped = new GzipInput(name, whole)
  if (!text) return unzipped
  const inside = await peek(unzipped, (bytes) => lacking(bytes, false))
  refuseUnlessText(inside, { name, ...TEXT, insideGzip: true })
  return prefixed(inside, unzipped)
}

const TEXT = {
  expected: 'plain text',
  binary: 'give --format u64le or u64be if it is raw 64-bit words, or print the text in it with `strings FILE`',
  override: '--text reads it as text anyway',
}

/** Whether it takes more bytes to tell text from other things: the head of a file, but as few as possible of a pipe. */
function lacking(bytes: Uint8Array, regular: boolean): boolean {
  return (regular && bytes.length < HEAD) || undecided(bytes)
}

/**
 * Refuses files that are not text before hypva translates the first of several. It looks into a pipe only when its turn comes, and
 * into a file of /proc or tracefs, which may behave like one.
 */
export async function checkTexts(files: readonly string[]): Promise<void> {
  if (files.length < 2) return
  for (const file of files) {
    if (file === '-') continue
    const stat = statSync(file)
    if (stat.isFile() && stat.size > 0) (await openInput(file, { text: true })).close()
  }
}

/** A regular file. It reads synchronously, because the page cache answers at once. */
function fileInput(name: string, fd: number, size: number): Input {
  let offset = 0
  const fill = (space: Uint8Array): number => {
    for (;;) {
      try {
        const count = readSync(fd, space, 0, space.length, null)
        offset += count
        return count
      } catch (error) {
        if (!interrupted(error)) throw readFailure(name, error, offset)
      }
    }
  }
  return {
    name,
    // Somebody may have read from standard input before; a file of /proc reports 0 and has more.
    file: fd === STDIN || size === 0 ? undefined : { fd, size },
    present: fill,
    fill,
    close() {
      if (fd !== STDIN) closeSync(fd)
    },
  }
}

/** A pipe, a terminal, a device. It reads without blocking signals and timers, unless `blocking`. */
class PipeInput implements Input {
  readonly name: string
  readonly file = undefined
  private readonly fd: number
  private blocking: boolean
  /** A descriptor of the same pipe that does not wait; undefined if there is none. */
  private readonly ready: number | undefined
  constructor(name: string, fd: number, blocking: boolean, pipe: boolean) {
    this.name = name
    this.fd = fd
    this.blocking = blocking
    this.ready = pipe ? openReady(fd) : undefined
  }
  fill(space: Uint8Array): number | Promise<number> {
    while (this.blocking) {
      try {
        return readSync(this.fd, space, 0, space.length, null)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'EOF') return 0
        if (interrupted(error)) continue
        if (code !== 'EAGAIN') throw readFailure(this.name, error)
        // Somebody else made the pipe non-blocking, so no call waits.
        this.blocking = false
      }
    }
    return new Promise((resolve, reject) => {
      const attempt = () =>
        read(this.fd, space, 0, space.length, null, (error, count) => {
          if (error === null) resolve(count)
          // Somebody else made the pipe non-blocking, and it is empty.
          else if (error.code === 'EAGAIN') setTimeout(attempt, 2)
          else if (error.code === 'EOF') resolve(0)
          else if (interrupted(error)) attempt()
          else reject(readFailure(this.name, error))
        })
      attempt()
    })
  }
  present(space: Uint8Array): number {
    let length = 0
    // A pipe gives its contents in pieces; fewer and larger ones are less work.
    while (this.ready !== undefined && length < space.length) {
      try {
        const count = readSync(this.ready, space, length, space.length - length, null)
        if (count === 0) break
        length += count
      } catch (error) {
        if (interrupted(error)) continue
        // Pass on what it has read: an error will come back in the next call.
        if (length > 0 || (error as NodeJS.ErrnoException).code === 'EAGAIN') break
        throw readFailure(this.name, error)
      }
    }
    return length
  }
  close(): void {
    if (this.ready !== undefined) closeSync(this.ready)
    if (this.fd !== STDIN) closeSync(this.fd)
  }
}

/** Opens another descriptor of a pipe, one that does not wait (Linux). */
function openReady(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
}

/** Reads the first bytes, mostly in one call; `wants` tells whether more are needed to recognise them. */
async function peek(source: Input, wants: (bytes: Uint8Array) => boolean): Promise<Uint8Array> {
  const head = new Uint8Array(65536)
  let length = 0
  // On a slow pipe, do not wait for more than necessary.
  while (length === 0 || wants(head.subarray(0, length))) {
    const count = await source.fill(head.subarray(length))
    if (count === 0) break
    length += count
  }
  return head.subarray(0, length)
}

/** An input whose first bytes have been read already. */
function prefixed(begun: Uint8Array, rest: Input): Input {
  if (begun.length === 0) return rest
  let head = begun
  const takeHead = (space: Uint8Array): number => {
    const count = Math.min(head.length, space.length)
    space.set(head.subarray(0, count))
    head = head.subarray(count)
    return count
  }
  return {
    name: rest.name,
    file: rest.file,
    present: (space) => (head.length === 0 ? rest.present(space) : takeHead(space)),
    fill: (space) => (head.length === 0 ? rest.fill(space) : takeHead(space)),
    close: () => rest.close(),
  }
}

/**
 * Decompresses a gzip stream of any number of members. It reads the source only when the decoder has nothing left to give. So it
 * has handed out everything before the damaged part when it fails, and no read is under way then.
 */
class GzipInput implements Input {
  readonly name: string
  readonly file = undefined
  private readonly source: Input
  private readonly decoder = createGunzip()
  private readonly buffer = new Uint8Array(16384)
  private chunk: Uint8Array = new Uint8Array(0)
  private feeding = false
  private ended = false
  private failure: Error | undefined
  private wake: () => void = () => {}

  constructor(name: string, source: Input) {
    this.name = name
    this.source = source
    this.decoder.on('readable', () => this.wake())
    this.decoder.on('end', () => {
      this.ended = true
      this.wake()
    })
    this.decoder.on('error', ({ message }) => {
      this.failure = damaged(name, message)
      this.wake()
    })
  }

  present(): number {
    return 0
  }

  async fill(space: Uint8Array): Promise<number> {
    while (this.chunk.length === 0) {
      this.chunk = this.decoder.read() ?? this.chunk
      if (this.chunk.length > 0) break
      if (this.failure !== undefined) throw this.failure
      if (this.ended) return 0
      const woken = new Promise<void>((resolve) => {
        this.wake = resolve
      })
      if (!this.feeding) await this.feed()
      await woken
    }
    const count = Math.min(this.chunk.length, space.length)
    space.set(this.chunk.subarray(0, count))
    this.chunk = this.chunk.subarray(count)
    return count
  }

  private async feed(): Promise<void> {
    this.feeding = true
    const count = await this.source.fill(this.buffer)
    if (count === 0) this.decoder.end()
    else {
      this.decoder.write(this.buffer.slice(0, count), () => {
        this.feeding = false
        this.wake()
      })
    }
  }

  close(): void {
    this.decoder.destroy()
    this.source.close()
  }
}
