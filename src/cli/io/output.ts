import * as node from 'node:fs'
import { basename, dirname, isAbsolute, join } from 'node:path'
import { Failure, systemFailure } from '../failure.js'
import { visible } from '../printable.js'
import { note, say } from './stderr.js'
import { writeAll, writeAllLater } from './writing.js'

const STDOUT = 1
const STDERR = 2

/** Where a command writes its data: a file, which is replaced as a whole at the end, or standard output. */
export interface Output {
  readonly name: string
  /** Set for a regular file of our own, which we may write at any place; `length` is its length so far. */
  readonly file: { readonly fd: number; length: number } | undefined
  write(bytes: Uint8Array): void
  /** Writes while the caller goes on. Until it resolves, the caller must not change `bytes` or write anything else. */
  writeLater(bytes: Uint8Array): Promise<void>
  /** Completes the output: the new file replaces the old one. */
  finish(): void
  /** Gives up after an error: the old file stays. */
  abandon(): void
}

/** The system calls that outputs use; a test can make any of them fail. */
export type FileSystem = typeof node

/** Prints reports, JSON or help on standard output. Control characters become visible escapes. */
export function print(text: string): void {
  printAsIs(visible(text))
}

/** Prints text that hypva alone has made, including colours. */
export function printAsIs(text: string): void {
  openOutput(undefined).write(Buffer.from(text))
}

/** Opens OUT; `-` or nothing means standard output. */
export function openOutput(file: string | undefined, system: FileSystem = node): Output {
  if (file === '') throw new Failure('cannot write: the name of the output file is empty')
  if (file === undefined || file === '-') return openDescriptor('standard output', STDOUT, system)
  const old = stat(file, system)
  if (old?.isDirectory()) throw new Failure(`cannot write ${file}: is a directory`)
  try {
    const place = old === undefined ? undefined : descriptorOf(file, old, system)
    if (typeof place === 'number') return openDescriptor(file, place, system)
    // Write to a device or a named pipe instead of replacing it. Append to a file that another process has open.
    if (place === 'foreign') return new Descriptor(file, system.openSync(file, 'a'), system)
    if (old !== undefined && !old.isFile()) return new Descriptor(file, system.openSync(file, 'w'), system)
    return new Replacement(file, old, system)
  } catch (error) {
    throw error instanceof Failure ? error : systemFailure('cannot write', file, error)
  }
}

/** Writes a whole text to OUT. */
export function writeOutput(file: string | undefined, text: string): void {
  const output = openOutput(file)
  try {
    output.write(Buffer.from(text))
    output.finish()
  } catch (error) {
    output.abandon()
    throw error
  }
}

/** A descriptor that hypva inherited; it stays open. */
function openDescriptor(name: string, fd: number, system: FileSystem): Output {
  if (fd === STDOUT && isStdoutClosed()) throw new Failure('cannot write standard output: it is closed')
  return new Descriptor(name, fd, system, false)
}

const SHELLS = ['ash', 'bash', 'busybox', 'dash', 'fish', 'ksh', 'ksh93', 'mksh', 'sh', 'yash', 'zsh']

/**
 * Whether standard output was closed when the process started (Linux). Node then opens /dev/null in its place, for reading and
 * writing. Programs that discard output (Python's DEVNULL, Node's 'ignore', daemons) do the same and want no error; a
 * shell's `> /dev/null` opens it for writing only. So hypva can be certain only if a shell has started it, or if the
 * parent's own standard output is closed.
 */
function isStdoutClosed(): boolean {
  try {
    const { rdev } = node.fstatSync(1)
    if (rdev === 0 || rdev !== node.statSync('/dev/null').rdev || !isReadWrite('self')) return false
    const parent = process.ppid
    try {
      // hypva inherited it.
      if (node.readlinkSync(`/proc/${parent}/fd/1`) === '/dev/null' && isReadWrite(parent)) return false
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' && node.statSync(`/proc/${parent}/fd`).isDirectory()
    }
    return SHELLS.includes(basename(node.readlinkSync(`/proc/${parent}/exe`)))
  } catch {
    // No /proc, or no right to look at the parent.
    return false
  }
}

/** Whether descriptor 1 of a process is open for reading and writing: access mode O_RDWR, 2. */
function isReadWrite(process: number | 'self'): boolean {
  const [, flags] = /^flags:\s*([0-7]+)$/m.exec(node.readFileSync(`/proc/${process}/fdinfo/1`, 'utf8'))!
  return (Number.parseInt(flags!, 8) & 3) === 2
}

/**
 * Finds the descriptor of this process that a name stands for: /dev/stdout, /dev/fd/3, or the file that the shell opened as standard
 * output or standard error. Others write there too, before and after hypva: `{ echo head; hypva … -o /dev/stdout; } > FILE`.
 * @returns `foreign` for a descriptor of another process, undefined for any other file
 */
function descriptorOf(file: string, old: node.Stats, system: FileSystem): number | 'foreign' | undefined {
  const [, owner, fd] = /^(\/proc\/\d+)(?:\/task\/\d+)?\/fd\/(\d+)$/.exec(procNameOf(file, system)) ?? []
  if (owner !== undefined) return owner === system.realpathSync('/proc/self') ? Number(fd) : 'foreign'
  return [STDOUT, STDERR].find((standard) => {
    const { dev, ino } = system.fstatSync(standard)
    return dev === old.dev && ino === old.ino
  })
}

/** Follows the symbolic links of a name, except for the last step from /proc/PID/fd/N to a file. */
function procNameOf(file: string, system: FileSystem): string {
  let name = file
  for (name of linksOf(file, system)) {
    const folder = system.realpathSync(dirname(name))
    if (/^\/proc\/\d+(\/task\/\d+)?\/fd$/.test(folder)) return join(folder, basename(name))
  }
  return name
}

/** Linux follows at most this many symbolic links in a row. */
const MOST_LINKS = 40

/** A name, and every name that a chain of symbolic links leads to from there. */
function* linksOf(file: string, system: FileSystem): Generator<string, void> {
  let name = file
  for (let links = 0; links <= MOST_LINKS; links++) {
    yield name
    try {
      const link = system.readlinkSync(name)
      // Do not normalise it: only the kernel knows what .. means after a symbolic link.
      name = isAbsolute(link) ? link : `${dirname(name)}/${link}`
    } catch {
      // Not a link: this is the file.
      return
    }
  }
}

function stat(file: string, system: FileSystem): node.Stats | undefined {
  try {
    return system.statSync(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw systemFailure('cannot write', file, error)
  }
}

class Descriptor implements Output {
  readonly name: string
  readonly file: Output['file'] = undefined
  protected readonly fd: number
  protected readonly system: FileSystem
  private readonly own: boolean
  /** @param own hypva opened it, and closes it */
  constructor(name: string, fd: number, system: FileSystem, own = true) {
    this.name = name
    this.fd = fd
    this.system = system
    this.own = own
  }
  write(bytes: Uint8Array): void {
    this.naming(() => writeAll(this.fd, bytes, this.file?.length ?? null, this.system))
    if (this.file !== undefined) this.file.length += bytes.length
  }
  async writeLater(bytes: Uint8Array): Promise<void> {
    try {
      await writeAllLater(this.fd, bytes, this.file?.length ?? null, this.system)
    } catch (error) {
      throw systemFailure('cannot write', this.name, error)
    }
    if (this.file !== undefined) this.file.length += bytes.length
  }
  finish(): void {
    if (this.own) this.close()
  }
  abandon(): void {}
  protected close(): void {
    this.naming(() => this.system.closeSync(this.fd))
  }
  /** Does something that may fail; the message names the output. */
  protected naming(act: () => void): void {
    try {
      act()
    } catch (error) {
      throw systemFailure('cannot write', this.name, error)
    }
  }
}

/** A new file beside the old one, which replaces it when complete. */
class Replacement extends Descriptor {
  override readonly file: { readonly fd: number; length: number }
  private readonly target: string
  private readonly temporary: string
  private readonly signals: (readonly [NodeJS.Signals, () => void])[]
  /** The user who owns the old file, if the new one cannot belong to them. */
  private formerOwner: number | undefined

  constructor(file: string, old: node.Stats | undefined, system: FileSystem) {
    // Beside the file itself, not beside a symbolic link to it.
    const target = old === undefined ? targetOf(file, system) : system.realpathSync(file)
    // Replacing a file takes the right to write to its directory only. Refuse it all the same to users who may not write to the file.
    if (old !== undefined) system.accessSync(target, node.constants.W_OK)
    const temporary = join(dirname(target), `.hypva-${process.pid}-${Date.now().toString(36)}.tmp`)
    // Until it has the old file's owner and group, only its owner may read it, and only if the old file's owner could.
    const fd = system.openSync(temporary, 'wx', old === undefined ? 0o666 : old.mode & 0o700)
    super(file, fd, system)
    this.file = { fd, length: 0 }
    this.target = target
    this.temporary = temporary
    this.signals = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
      const handler = () => {
        this.abandon()
        say(`hypva: interrupted; ${file} is unchanged`)
        process.kill(process.pid, signal)
      }
      process.once(signal, handler)
      return [signal, handler] as const
    })
    if (old === undefined) return
    try {
      this.formerOwner = takeAttributes(fd, old, system)
    } catch (error) {
      this.abandon()
      throw error
    }
  }

  override finish(): void {
    this.close()
    this.naming(() => this.system.renameSync(this.temporary, this.target))
    this.release()
    if (this.formerOwner !== undefined) {
      note(`${this.name} belonged to user ${this.formerOwner} and is now yours: only root can keep the owner`)
    }
  }

  override abandon(): void {
    this.release()
    try {
      this.system.unlinkSync(this.temporary)
    } catch {
      // It is gone already, or cannot be removed. The old output stays either way.
    }
  }

  private release(): void {
    for (const [signal, handler] of this.signals) process.removeListener(signal, handler)
  }
}

/** Finds the file to create for a name that leads to none yet: the end of a chain of dangling symbolic links. */
function targetOf(file: string, system: FileSystem): string {
  const target = [...linksOf(file, system)].at(-1)!
  if (target.endsWith('/')) throw new Failure(`cannot write ${file}: no such directory`)
  return target
}

/** Errors of a chown that cannot work here: no right to it, no such ids in this namespace, no owners at all. */
const NOT_GIVEN = ['EPERM', 'EINVAL', 'ENOSYS', 'ENOTSUP']

/**
 * Gives a new file the owner, the group and the permission bits of the file that it will replace. Where we may not give owner or
 * group away, they stay ours, and nobody gains a right through that.
 * @returns the old owner if the new one differs
 */
function takeAttributes(fd: number, old: node.Stats, system: FileSystem): number | undefined {
  let now = system.fstatSync(fd)
  // Users other than root can still give a file to another group of their own.
  for (const uid of [old.uid, -1]) {
    if (now.gid === old.gid && (now.uid === old.uid || uid === -1)) break
    try {
      system.fchownSync(fd, uid, old.gid)
    } catch (error) {
      if (!NOT_GIVEN.includes((error as NodeJS.ErrnoException).code!)) throw error
    }
    now = system.fstatSync(fd)
  }
  // No set-user-id and no set-group-id: somebody trusted the old program, not these bytes.
  let bits = old.mode & 0o777
  if (now.gid !== old.gid) {
    // The new group has other members, and the old ones now count as others: both get the rights that both had.
    const both = (bits >> 3) & bits & 0o007
    bits = (bits & 0o700) | (both << 3) | both
  }
  // A file system without permission bits gives all files the same bits and refuses to change them.
  if ((now.mode & 0o7777) !== bits) system.fchmodSync(fd, bits)
  return now.uid === old.uid ? undefined : old.uid
}
