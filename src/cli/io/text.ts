import { type Content, recognise } from '../../content.js'
import { Failure } from '../failure.js'
import { CALLS, flowOf, join, nameOf, openForReading, type ReadCalls, STDIN, takeUpTo, total } from './reading.js'

interface Refusal {
  /** The input's name in messages: a path, or "standard input". */
  readonly name: string
  /** What the command expects: "plain text", "a layout". */
  readonly expected: string
  /** Ends the message: how to make hypva read the input anyway. */
  readonly override?: string
  /** hypva has decompressed `head`. */
  readonly insideGzip?: boolean
  /** What to do about binary data of no known format, if not to search it for text. */
  readonly binary?: string
}

/** @throws Failure if the first bytes of an input are not text: it names what they are, and the command that turns them into text */
export function refuseUnlessText(head: Uint8Array, refusal: Refusal): void {
  const content = recognise(head)
  if (content !== undefined) throw new Failure(describe(content, refusal))
}

function describe({ kind, name: what, remedy }: Content, { name, expected, ...more }: Refusal): string {
  const { override, insideGzip = false, binary } = more
  // Users paste the command, so a name that a shell takes apart, or that does not exist yet, stays FILE.
  const known = !insideGzip && name !== 'standard input' && /^[\w@%+=:,./][\w@%+=:,./-]*$/.test(name)
  const elf = kind === 'elf' ? '; `hypva layout recover` reads cores, --symbols reads vmlinux' : ''
  const advice = (kind === 'binary' && binary) || `${remedy}${elf}`
  const first = insideGzip ? 'unpack the gzip, then ' : ''
  const last = override === undefined ? '' : ` (${override})`
  const todo = known ? advice.replaceAll('FILE', () => name) : advice
  return `${name}: ${what}${insideGzip ? ' inside gzip' : ''}, not ${expected}: ${first}${todo}${last}`
}

/** A layout or a machine has a few hundred bytes. A larger file is something else, or has no end. */
const MOST_TEXT = 1 << 28

/** Reads the text of a small file; `-` is standard input. */
export function readText(file: string, calls: ReadCalls = CALLS): string {
  const name = nameOf(file)
  const { fd } = openForReading(file, { calls })
  try {
    const pieces = takeUpTo(flowOf(name, fd, undefined, calls), MOST_TEXT)
    if (total(pieces) > MOST_TEXT) throw new Failure(`cannot read ${name}: more than ${MOST_TEXT >> 20} MiB`)
    const bytes = join(pieces)
    refuseUnlessText(bytes, { name, expected: 'JSON', binary: 'expected a layout or a machine as `hypva` prints it' })
    return Buffer.from(bytes).toString('utf8')
  } finally {
    if (fd !== STDIN) calls.close(fd)
  }
}

/** Puts the name of a file in front of errors about its content. */
export function inFile<T>(file: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (error instanceof Failure) throw error
    throw new Failure(`${nameOf(file)}: ${(error as Error).message}`)
  }
}
