import { type ByteSource, forEachLine } from '../source.js'
import { FileFindings } from './facts.js'
import type { SymbolReader } from './kinds/kallsyms.js'
import { BootStarts } from './kinds/log.js'
import { namesOfPairs, resolveNames } from './kinds/pairs.js'
import { PanicReader, type PrintedPanic, panicLine } from './kinds/panic.js'
import { EVIDENCE_FILTER, readSymbols, TextReaders } from './text-readers.js'

/** A boot of which a log prints hyp panics. */
export interface Boot {
  /** What its lines say of the layout. */
  readonly findings: FileFindings
  /** In the order of the log, at least one. */
  readonly panics: readonly PrintedPanic[]
}

/** Panics of one log; what follows is not read. */
const MOST_PANICS = 10_000

/** A number at the end that is not as long as all 64-bit values are that stand there. */
const CUT_NUMBER = /(?:0x|:)[0-9a-f]{1,15}$/

/** A line with one of these is nothing that a kernel printed. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/
/** Bytes of what a prefix may hold, a host's name say, and no kernel prints. */
const FOREIGN = /[^\t\x20-\x7e]/g

/** Whether a line is text, as a kernel prints it; noise of a serial line may look like anything, like a fact as well. */
function isText(text: string): boolean {
  return !CONTROL.test(text) && (text.match(FOREIGN)?.length ?? 0) * 2 <= text.length
}

/** Reads a log once, whatever else is in it: each boot that prints a hyp panic, and nothing of any other. */
export function readBoots(source: ByteSource): Boot[] {
  const boots: Boot[] = []
  /** The symbols among the lines of each of them. */
  const symbols: (SymbolReader | undefined)[] = []
  const starts = new BootStarts()
  let left = MOST_PANICS
  let boot = new BootReader(left)
  const end = () => {
    const { count } = boot.panics
    if (count > 0) boots.push(boot.report())
    if (count > 0) symbols.push(boot.readers.symbols)
    left -= count
  }
  const read = (text: string, line: number) => {
    if (boot.panics.full) return
    if (starts.at(text)) {
      end()
      boot = new BootReader(left)
    }
    boot.line(text, line)
  }
  let last: string | undefined
  let lastLine = 0
  const complete = forEachLine(
    source,
    (text, line) => {
      if (last !== undefined) read(last, lastLine)
      last = text
      lastLine = line
    },
    EVIDENCE_FILTER,
  )
  // Where the log is cut inside a line, its last number may be as well.
  if (last !== undefined) read(complete ? last : last.replace(CUT_NUMBER, ''), lastLine)
  end()
  const names = namesOfPairs(boots.map(({ findings }) => findings))
  const again = names.size > 0 && symbols.some((table) => table !== undefined) && source.sequential !== 'once'
  const named = again ? readSymbols(source, new FileFindings('log', 0), names) : undefined
  boots.forEach(({ findings }, i) => {
    const table = symbols[i] && (named ?? symbols[i])
    resolveNames(findings, table === undefined ? [] : [table.addresses(false)])
  })
  const final = boots.at(-1)
  if (boot.panics.full && final !== undefined) {
    const { findings, panics } = final
    boots[boots.length - 1] = { findings, panics: panics.with(-1, { ...panics.at(-1)!, more: true }) }
  }
  return boots
}

/** Reads the lines of one boot. */
class BootReader {
  readonly panics: PanicReader
  readonly readers: TextReaders
  private readonly findings = new FileFindings('log', 0)

  constructor(most: number) {
    this.panics = new PanicReader(most)
    this.readers = new TextReaders(this.findings, this.panics)
  }

  line(text: string, line: number): void {
    if (isText(text)) {
      this.readers.line(text, line)
      return
    }
    // What is left of a panic counts, but of noise no fact of the layout is taken.
    const panic = panicLine(text)
    if (panic !== undefined) this.panics.line(panic, line)
  }

  report(): Boot {
    const { findings, readers, panics } = this
    readers.report()
    return { findings, panics: panics.panics() }
  }
}
