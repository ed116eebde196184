import {
  closeSync,
  fchmodSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  write,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Failure, systemFailure } from './failure.js'

const STDOUT = 1
const STDERR = 2

/** Where a command's data goes: a file that is replaced as a whole at the end, or standard output. */
export interface Output {
  readonly name: string
  /** A regular file of our own, which may be written at any place; `length` is what it has so far. */
  readonly file: { readonly fd: number; length: number } | undefined
  write(bytes: Uint8Array): void
  /** The same while the caller goes on; until it is done `bytes` stay as they are and nothing else is written. */
  writeLater(bytes: Uint8Array): Promise<void>
  /** The data is complete: a file takes its place. */
  finish(): void
  /** Something failed: what stood there before stays. */
  abandon(): void
}

/** Text for standard output. */
export function print(text: string): void {
  openOutput(undefined).write(Buffer.from(text))
}

/** A line for standard error; where nobody takes it, there is nobody to tell. */
export function say(line: string): void {
  try {
    writeSync(STDERR, `${line}\n`)
  } catch {
    // See above.
  }
}

/** Opens OUT; `-` or nothing is standard output. */
export function openOutput(file: string | undefined): Output {
  if (file === '') throw new Failure('cannot write: the name of the output file is empty')
  if (file === undefined || file === '-') return new Descriptor('standard output', STDOUT)
  const old = stat(file)
  if (old?.isDirectory()) throw new Failure(`cannot write ${file}: is a directory`)
  // A device or a named pipe is written to, not replaced.
  if (old !== undefined && !old.isFile()) return new Descriptor(file, open(file, 'w'))
  return new Replacement(file, old)
}

function stat(file: string): Stats | undefined {
  try {
    return statSync(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw systemFailure('cannot write', file, error)
  }
}

/** @param name how messages call the file */
function open(file: string, flags: string, name = file): number {
  try {
    return openSync(file, flags, 0o666)
  } catch (error) {
    throw systemFailure('cannot write', name, error)
  }
}

class Descriptor implements Output {
  readonly name: string
  readonly file: Output['file'] = undefined
  protected readonly fd: number
  constructor(name: string, fd: number) {
    this.name = name
    this.fd = fd
  }
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      try {
        at += writeSync(this.fd, bytes, at, bytes.length - at, this.file && this.file.length + at)
      } catch (error) {
        // The other end of a pipe that somebody made non-blocking is slow: wait for it.
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') sleep(2)
        else throw systemFailure('cannot write', this.name, error)
      }
    }
    if (this.file !== undefined) this.file.length += bytes.length
  }
  async writeLater(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const position = this.file === undefined ? null : this.file.length + at
      at += await new Promise<number>((resolve, reject) => {
        write(this.fd, bytes, at, bytes.length - at, position, (error, count) => {
          if (error === null) resolve(count)
          else if (error.code === 'EAGAIN') setTimeout(resolve, 2, 0)
          else reject(systemFailure('cannot write', this.name, error))
        })
      })
    }
    if (this.file !== undefined) this.file.length += bytes.length
  }
  finish(): void {
    if (this.fd !== STDOUT) this.close()
  }
  abandon(): void {}
  protected close(): void {
    try {
      closeSync(this.fd)
    } catch (error) {
      throw systemFailure('cannot write', this.name, error)
    }
  }
}

/** A new file beside the old one, renamed over it when complete. */
class Replacement extends Descriptor {
  override readonly file: { readonly fd: number; length: number }
  private readonly target: string
  private readonly temporary: string
  private readonly signals: (readonly [NodeJS.Signals, () => void])[]

  constructor(file: string, old: Stats | undefined) {
    // Beside the file itself, not beside a symbolic link to it.
    const target = old === undefined ? file : realpathSync(file)
    const temporary = join(dirname(target), `.hypva-${process.pid}-${Date.now().toString(36)}.tmp`)
    const fd = open(temporary, 'wx', file)
    super(file, fd)
    this.file = { fd, length: 0 }
    this.target = target
    this.temporary = temporary
    if (old !== undefined) fchmodSync(fd, old.mode)
    this.signals = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
      const handler = () => {
        this.abandon()
        say(`hypva: interrupted; ${file} is as it was`)
        process.kill(process.pid, signal)
      }
      process.once(signal, handler)
      return [signal, handler] as const
    })
  }

  override finish(): void {
    this.close()
    try {
      renameSync(this.temporary, this.target)
    } catch (error) {
      throw systemFailure('cannot write', this.name, error)
    }
    this.release()
  }

  override abandon(): void {
    this.release()
    try {
      unlinkSync(this.temporary)
    } catch {
      // Gone already, or not to be removed: the old output stands either way.
    }
  }

  private release(): void {
    for (const [signal, handler] of this.signals) process.removeListener(signal, handler)
  }
}

function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}
