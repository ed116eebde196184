import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { Failure } from './failure.js'

/**
 * Refuses arguments that are not UTF-8. Node puts U+FFFD in place of the bytes it cannot decode, so hypva would not find that
 * input, and would write an output of another name. Linux keeps the bytes themselves in /proc.
 */
export function checkArguments(args: readonly string[]): void {
  if (!args.some((arg) => arg.includes('\ufffd'))) return
  let given: Buffer
  try {
    given = readFileSync('/proc/self/cmdline')
  } catch {
    // Not Linux: macOS accepts no such names.
    return
  }
  const bad = split(given)
    .slice(-args.length)
    .find((arg) => !isUtf8(arg))
  if (bad === undefined) return
  const shown = bad.toString('latin1').replace(/[\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`)
  throw new Failure(
    `the argument ${shown} is not UTF-8, and hypva cannot open a file of that name: rename it, make a link to it, or use < and >`,
  )
}

/** The arguments in /proc/self/cmdline, each with a NUL at its end. */
function split(cmdline: Buffer): Buffer[] {
  const args: Buffer[] = []
  for (let from = 0; from < cmdline.length; ) {
    const end = cmdline.indexOf(0, from)
    args.push(cmdline.subarray(from, end))
    from = end + 1
  }
  return args
}
