import { readFileSync, readSync, type Stats, statfsSync } from 'node:fs'
import { resolve } from 'node:path'
import { recognise } from '../../content.js'
import { Failure } from '../failure.js'

/** PROC_SUPER_MAGIC: the type that statfs reports for a file under /proc, whatever its name. */
const PROCFS = 0x9fa0
const KCORE = '/proc/kcore'

/** Device numbers of /dev/mem and /dev/kmem, and the major number of the devices among which /dev/crash is. */
const MEMORY_DEVICES = [0x101, 0x102]
const MISC_MAJOR = 10

/**
 * Whether an open file belongs to the running kernel. Its file system tells, not its name.
 * @param file its path, in case /proc is not mounted
 */
export function isLive(fd: number, file?: string, statfs: (path: string) => { type: number } = statfsSync): boolean {
  for (const path of [`/proc/self/fd/${fd}`, ...(file === undefined ? [] : [file])]) {
    try {
      if (statfs(path).type === PROCFS) return true
    } catch {
      // Try the next path.
    }
  }
  return false
}

/** Refuses devices that are the memory of the running machine: even their first bytes can belong to the hypervisor. */
export function refuseMemoryDevice(name: string, stat: Stats): void {
  if (!stat.isCharacterDevice()) return
  if (resolve(name) === KCORE) {
    throw new Failure(`cannot read ${name}: this container hides it behind a device; run hypva on the host itself`)
  }
  if (MEMORY_DEVICES.includes(stat.rdev) || ((stat.rdev >> 8) & 0xfff) === MISC_MAJOR) {
    throw new Failure(
      `cannot read ${name}: it can be the memory of the running machine, and reading a page that the hypervisor owns panics a protected host; give /proc/kcore, of which hypva reads only what is safe`,
    )
  }
}

/**
 * Refuses the memory of the running kernel where a command expects text, symbols or a layout. Its first bytes are safe to read: the
 * kernel makes up a header. It does not look at files of /proc without a size, because reading /proc/kmsg consumes it.
 * @param live tells whether an open file belongs to the running kernel
 */
export function refuseLiveMemory(name: string, fd: number, stat: Stats, live = isLive): void {
  if (!stat.isFile() || stat.size === 0 || !live(fd, name)) return
  const head = new Uint8Array(64)
  const length = readSync(fd, head, 0, head.length, 0)
  if (recognise(head.subarray(0, length))?.kind === 'elf') {
    throw new Failure(
      `cannot read ${name}: it is the memory of the running kernel, of which only \`hypva layout recover\` reads what is safe`,
    )
  }
}

const OTHER_WAYS =
  'Other ways to the tag: the log of a hyp panic, a vmcore of this boot, known pairs of addresses, or tag_lsb and tag_val from a debugger'

/**
 * Explains why /proc/kcore cannot be opened and what else tells the layout; undefined for other files and errors.
 * @param lockdown tells the mode of kernel lockdown
 */
export function kcoreFailure(file: string, error: unknown, lockdown = lockdownMode): Failure | undefined {
  if (resolve(file) !== KCORE) return undefined
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return new Failure(
        `cannot read ${file}: this kernel has none (it is built without CONFIG_PROC_KCORE). ${OTHER_WAYS}`,
      )
    case 'EACCES':
      return new Failure(`cannot read ${file}: permission denied; run hypva as root`)
    case 'EPERM':
      return new Failure(
        lockdown() === 'confidentiality'
          ? `cannot read ${file}: kernel lockdown is in confidentiality mode, which forbids it even to root. ${OTHER_WAYS}`
          : `cannot read ${file}: not permitted without CAP_SYS_RAWIO, which containers do not have; run hypva as root on the host itself`,
      )
    default:
      return undefined
  }
}

/** none, integrity or confidentiality; undefined if the kernel has no lockdown. */
function lockdownMode(): string | undefined {
  try {
    return /\[(\w+)\]/.exec(readFileSync('/sys/kernel/security/lockdown', 'utf8'))?.[1]
  } catch {
    return undefined
  }
}
