import { type Content, recognise } from '../../content.js'
import { Failure } from '../failure.js'

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
