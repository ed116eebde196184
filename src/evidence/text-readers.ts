import type { LineFilter } from '../source.js'
import { type ByteSource, forEachLine } from '../source.js'
import type { FileFindings } from './facts.js'
import { SymbolReader } from './kinds/kallsyms.js'
import type { PanicReader } from './kinds/panic.js'
import { type EvidenceKind, TEXT_KINDS } from './kinds.js'
import { lineFilter } from './line-filter.js'

/** Every line of evidence has one of these words, or another mark that the line filter finds. */
export const EVIDENCE_WORDS: readonly string[] = TEXT_KINDS.flatMap(({ words }) => words)

let filter: LineFilter | undefined

/** Skips lines that are no evidence before they become strings. Made on first use. */
export const EVIDENCE_FILTER = (): LineFilter => {
  filter ??= lineFilter(EVIDENCE_WORDS)
  return filter
}

/** Reads a text with the readers of all kinds, since several kinds may be pasted together. */
export class TextReaders {
  private readonly readers

  /** @param panics assembles the panics of a log, if the caller wants them */
  constructor(findings: FileFindings, panics?: PanicReader) {
    this.readers = TEXT_KINDS.map(({ kind, reader }) => ({ kind, reader: reader(findings, panics) }))
  }

  /** Takes a line and tells whether it is evidence. */
  line(text: string, number: number): boolean {
    return text !== '' && this.readers.some(({ reader }) => reader.line(text, number))
  }

  /** Ends all readers and returns the kinds that the text holds. */
  report(): EvidenceKind[] {
    for (const { reader } of this.readers) reader.report()
    return this.readers.flatMap(({ kind, reader }) => (reader.found ? [kind] : []))
  }

  /** The symbols among the lines, which other evidence may need. */
  get symbols(): SymbolReader | undefined {
    return this.readers.flatMap(({ reader }) => (reader instanceof SymbolReader && reader.found ? [reader] : []))[0]
  }
}

/** Reads the symbols of a text once more, to keep those that pairs name. */
export function readSymbols(source: ByteSource, findings: FileFindings, names: ReadonlySet<string>): SymbolReader {
  const symbols = new SymbolReader(findings, names)
  forEachLine(source, (line, number) => symbols.line(line, number), EVIDENCE_FILTER)
  return symbols
}
