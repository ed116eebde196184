import { writeSync } from 'node:fs'
import { isatty } from 'node:tty'
import { visibleLine } from '../printable.js'
import { writeAll } from './writing.js'

const STDERR = 2

/** Prints a line on standard error, with control characters and line ends made visible. If that fails, nobody is left to tell. */
export function say(line: string): void {
  clearStatusLine()
  try {
    writeAll(STDERR, Buffer.from(`${visibleLine(line)}\n`), null)
  } catch {
    // See above.
  }
}

/** Prints something worth knowing about a command that works. */
export function note(text: string): void {
  say(`hypva: note: ${text}`)
}

/** Prints something that is probably wrong. */
export function warn(text: string): void {
  say(`hypva: warning: ${text}`)
}

/** Tells a user at a terminal that hypva waits for typed input, if standard input is one of `files`. */
export function announceStdin(what: string, files: readonly string[]): void {
  if (files.includes('-') && isatty(0)) {
    say(`hypva: reading ${what} from standard input (Ctrl-D ends it; --help shows more)`)
  }
}

let shown = false

/** Shows text on the terminal's current line, in place of the text that the last call put there. */
export function showStatusLine(text: string): void {
  shown = true
  // Without automatic margins a narrow terminal cuts the text off instead of breaking it into lines that nobody clears.
  send(`\r\x1b[?7l${text}\x1b[K\x1b[?7h`)
}

/** Clears that line, if there is one, before anything else goes to the terminal. */
export function clearStatusLine(): void {
  if (!shown) return
  shown = false
  send('\r\x1b[K')
}

function send(text: string): void {
  try {
    writeSync(STDERR, text)
  } catch {
    // The terminal has gone or blocks: the work goes on without the line.
  }
}
