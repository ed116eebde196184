import { isatty } from 'node:tty'
import { say } from './output.js'

/** Tells whoever sits before a terminal why nothing happens: one of `files` is standard input, and nothing is typed yet. */
export function announceStdin(what: string, files: readonly string[]): void {
  if (files.includes('-') && isatty(0)) {
    say(`hypva: reading ${what} from standard input (Ctrl-D ends it; --help shows more)`)
  }
}
