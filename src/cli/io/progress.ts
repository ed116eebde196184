import { fstatSync, statSync } from 'node:fs'
import { isatty } from 'node:tty'
import { clearStatusLine, showStatusLine } from './stderr.js'

/** Progress on a terminal. */
export interface Progress {
  /** So many bytes more have been read. */
  add(bytes: number): void
  /** The bytes read are not those of the files, which are compressed, say: nobody knows how many there will be. */
  forgetTotal(): void
  stop(): void
}

/** What progress is shown on, and by which clock. */
interface ProgressDisplay {
  /** Whether descriptor 1 or 2 is a terminal. */
  isTerminal(fd: number): boolean
  /** Milliseconds. */
  now(): number
  show(text: string): void
  clear(): void
}

/** Nothing is shown before this many milliseconds. */
const PATIENCE = 1000
/** Milliseconds between two states of the line. */
const INTERVAL = 100
/** Characters of the bar. */
const BAR = 24

const NONE: Progress = { add() {}, forgetTotal() {}, stop() {} }
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

const TERMINAL: ProgressDisplay = {
  isTerminal: isatty,
  now: () => performance.now(),
  show: showStatusLine,
  clear: clearStatusLine,
}

/**
 * A line on standard error for work that takes more than a second, while that is a terminal and standard output is not.
 * Only regular files have one: whoever waits for a pipe knows what comes out of it.
 */
export function openProgress(files: readonly string[], display: ProgressDisplay = TERMINAL): Progress {
  if (!display.isTerminal(2) || display.isTerminal(1) || process.env.TERM === 'dumb') return NONE
  let total = totalSize(files)
  if (total === undefined) return NONE
  const begin = display.now()
  let bytes = 0
  let shownAt: number | undefined
  // A process that is killed leaves the line; so it is taken away first.
  const onSignal = (signal: NodeJS.Signals) => {
    stop()
    process.kill(process.pid, signal)
  }
  const stop = () => {
    if (shownAt === undefined) return
    shownAt = undefined
    for (const signal of SIGNALS) process.removeListener(signal, onSignal)
    display.clear()
  }
  return {
    add(count) {
      bytes += count
      // Nothing is left to wait for. What is written now may block, and no signal could be handled meanwhile.
      if (total !== undefined && bytes >= total) return stop()
      const now = display.now()
      if (now - begin <= PATIENCE || now - (shownAt ?? 0) < INTERVAL) return
      if (shownAt === undefined) for (const signal of SIGNALS) process.once(signal, onSignal)
      shownAt = now
      display.show(formatProgress(bytes, total, now - begin))
    },
    forgetTotal() {
      total = undefined
    },
    stop,
  }
}

function formatProgress(bytes: number, total: number | undefined, elapsed: number): string {
  const mib = (size: number) => Math.floor(size / 2 ** 20)
  if (total === undefined) return `${mib(bytes)} MiB`
  const share = bytes / total
  const bar = '#'.repeat(Math.floor(share * BAR)).padEnd(BAR, '.')
  const left = Math.ceil((elapsed * (1 / share - 1)) / 1000)
  return `[${bar}] ${Math.floor(share * 100)}%, ${mib(bytes)} of ${mib(total)} MiB, ${left} s left`
}

/** Bytes in all of the files, or undefined where one is not a regular file. */
function totalSize(files: readonly string[]): number | undefined {
  let total = 0
  for (const file of files) {
    const stat = file === '-' ? fstatSync(0) : statSync(file)
    if (!stat.isFile()) return undefined
    total += stat.size
  }
  return total
}
