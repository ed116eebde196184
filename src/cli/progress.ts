import { statSync } from 'node:fs'

/** Progress on a terminal. */
export interface Progress {
  add(bytes: number): void
  stop(): void
}

/** Nothing is shown before this many milliseconds. */
const PATIENCE = 1000

/** A bar on a terminal's stderr for work that takes more than a second; otherwise nothing. */
export async function openProgress(files: readonly string[]): Promise<Progress> {
  if (!process.stderr.isTTY) return { add() {}, stop() {} }
  const { SingleBar } = await import('cli-progress')
  const MiB = 2 ** 20
  const total = totalSize(files)
  const format =
    total === undefined ? '{value} MiB' : '{bar} {percentage}% | {value} of {total} MiB | {eta_formatted} left'
  const bar = new SingleBar({ format, clearOnComplete: true, linewrap: true, stream: process.stderr })
  const begin = performance.now()
  let bytes = 0
  let shown = false
  return {
    add(count) {
      bytes += count
      if (!shown && performance.now() - begin > PATIENCE) {
        shown = true
        bar.start(Math.ceil((total ?? 0) / MiB), 0)
      }
      if (shown) bar.update(Math.floor(bytes / MiB))
    },
    stop() {
      if (shown) bar.stop()
    },
  }
}

/** Bytes in all of the files, or undefined where one is not a regular file. */
function totalSize(files: readonly string[]): number | undefined {
  let total = 0
  for (const file of files) {
    const stat = file === '-' ? undefined : statSync(file)
    if (!stat?.isFile()) return undefined
    total += stat.size
  }
  return total
}
