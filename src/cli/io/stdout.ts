import { fstatSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { basename } from 'node:path'

const SHELLS = ['ash', 'bash', 'busybox', 'dash', 'fish', 'ksh', 'ksh93', 'mksh', 'sh', 'yash', 'zsh']

/**
 * Whether standard output was closed when the process started (Linux). Node then opens /dev/null in its place, for reading and
 * writing. Programs that discard output (Python's DEVNULL, Node's 'ignore', daemons) do the same and want no error; a
 * shell's `> /dev/null` opens it for writing only. So hypva can be certain only if a shell has started it, or if the
 * parent's own standard output is closed.
 */
export function isStdoutClosed(): boolean {
  try {
    const { rdev } = fstatSync(1)
    if (rdev === 0 || rdev !== statSync('/dev/null').rdev || !isReadWrite('self')) return false
    const parent = process.ppid
    try {
      // hypva inherited it.
      if (readlinkSync(`/proc/${parent}/fd/1`) === '/dev/null' && isReadWrite(parent)) return false
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' && statSync(`/proc/${parent}/fd`).isDirectory()
    }
    return SHELLS.includes(basename(readlinkSync(`/proc/${parent}/exe`)))
  } catch {
    // No /proc, or no right to look at the parent.
    return false
  }
}

/** Whether descriptor 1 of a process is open for reading and writing: access mode O_RDWR, 2. */
function isReadWrite(process: number | 'self'): boolean {
  const [, flags] = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/${process}/fdinfo/1`, 'utf8'))!
  return (Number.parseInt(flags!, 8) & 3) === 2
}
