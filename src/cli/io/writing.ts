import { write, writeSync } from 'node:fs'

/** The two system calls that write; a test can make them fail. */
interface WriteCalls {
  write: typeof write
  writeSync: typeof writeSync
}

const CALLS: WriteCalls = { write, writeSync }

/** Milliseconds to wait for the reader of a pipe that somebody made non-blocking. */
const PAUSE = 2

/** Writes all of `bytes`, at `position` or at the descriptor's own position (null). It repeats interrupted and refused calls. */
export function writeAll(fd: number, bytes: Uint8Array, position: number | null, calls = CALLS): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += calls.writeSync(fd, bytes, at, bytes.length - at, position === null ? null : position + at)
    } catch (error) {
      const pause = pauseAfter(error)
      if (pause === undefined) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause)
    }
  }
}

/** Does the same while the thread goes on. */
export async function writeAllLater(
  fd: number,
  bytes: Uint8Array,
  position: number | null,
  calls = CALLS,
): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += await new Promise<number>((resolve, reject) => {
      calls.write(fd, bytes, at, bytes.length - at, position === null ? null : position + at, (error, count) => {
        if (error === null) return resolve(count)
        const pause = pauseAfter(error)
        if (pause === undefined) reject(error)
        else setTimeout(resolve, pause, 0)
      })
    })
  }
}

/** Milliseconds to wait before repeating a failed call; undefined if the failure is final. */
function pauseAfter(error: unknown): number | undefined {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'EINTR') return 0
  return code === 'EAGAIN' ? PAUSE : undefined
}
