import { writeSync } from 'node:fs'

const STDERR = 2

let shown = false

/** Text on the line of the terminal where the cursor stands, in place of what this function put there before. */
export function showStatusLine(text: string): void {
  shown = true
  // Without automatic margins a narrow terminal cuts the text off instead of breaking it into lines that nobody clears.
  send(`\r\x1b[?7l${text}\x1b[K\x1b[?7h`)
}

/** Clears that line, if there is one; before anything else goes to the terminal. */
export function clearStatusLine(): void {
  if (!shown) return
  shown = false
  send('\r\x1b[K')
}

function send(text: string): void {
  try {
    writeSync(STDERR, text)
  } catch {
    // The terminal has gone or is held up: the work goes on without.
  }
}
