import { type Content, recognise } from '../../content.js'
import { Failure } from '../failure.js'

export interface Refusal {
  /** How messages call the input: a path, or "standard input". */
  readonly name: string
  /** What the command expects: "plain text", "a layout". */
  readonly expected: string
  /** Ends the message: how to have the input taken all the same. */
  readonly override?: string
  /** `head` has been decompressed by hypva. */
  readonly insideGzip?: boolean
  /** What to do about binary data of no known format, where that is not to search it for text. */
  readonly binary?: string
}

/** @throws Failure when the first bytes of an input are not text: what they are, and the command that makes text of them */
export function refuseUnlessText(head: Uint8Array, refusal: Refusal): void {
  const content = recognise(head)
  if (content !== undefined) throw new Failure(describe(content, refusal))
}

function describe({ kind, name: what, remedy }: Content, { name, expected, ...more }: Refusal): string {
  const { override, insideGzip = false, binary } = more
  // The command is for pasting: a name that a shell takes apart, or that is not there yet, stays FILE.
  const known = !insideGzip && name !== 'standard input' && /^[\w@%+=:,./][\w@%+=:,./-]*$/.test(name)
  const elf = kind === 'elf' ? '; `hypva layout recover` reads cores, --symbols reads vmlinux' : ''
  const advice = (kind === 'binary' && binary) || `${remedy}${elf}`
  const first = insideGzip ? 'unpack the gzip, then ' : ''
  const last = override === undefined ? '' : ` (${override})`
  const todo = known ? advice.replaceAll('FILE', () => name) : advice
  return `${name}: ${what}${insideGzip ? ' inside gzip' : ''}, not ${expected}: ${first}${todo}${last}`
}
