import { fstatSync, statSync } from 'node:fs'
import { isatty } from 'node:tty'
import { clearStatusLine, showStatusLine } from './stderr.js'

/** Progress on a terminal. */
export interface Progress {
  /** Adds bytes that have been read. */
  add(bytes: number): void
  /** Stops comparing with the size of the files: if they are compressed, for example, the bytes read are not theirs. */
  forgetTotal(): void
  stop(): void
}

/** The terminal that shows progress, and the clock. */
interface ProgressDisplay {
  /** Whether descriptor 1 or 2 is a terminal. */
  isTerminal(fd: number): boolean
  /** Milliseconds. */
  now(): number
  show(text: string): void
  clear(): void
}

/** Milliseconds before the line appears. */
const PATIENCE = 1000
/** Milliseconds between two updates of the line. */
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
 * Shows a line on standard error for work that takes more than a second, if standard error is a terminal and standard output is
 * not. It is for regular files only: a user who waits for a pipe sees its output.
 */
export function openProgress(files: readonly string[], display: ProgressDisplay = TERMINAL): Progress {
  if (!display.isTerminal(2) || display.isTerminal(1) || process.env.TERM === 'dumb') return NONE
  let total = totalSize(files)
  if (total === undefined) return NONE
  const begin = display.now()
  let bytes = 0
  let shownAt: number | undefined
  // A killed process would leave the line, so remove it first.
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
      // All input is read. The writes that follow may block, and no signal handler could remove the line then.
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

/** Bytes in all files, or undefined if one is not a regular file. */
function totalSize(files: readonly string[]): number | undefined {
  let total = 0
  for (const file of files) {
    const stat = file === '-' ? fstatSync(0) : statSync(file)
    if (!stat.isFile()) return undefined
    total += stat.size
  }
  return total
}
