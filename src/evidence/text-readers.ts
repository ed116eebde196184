import type { FileFindings } from './facts.js'
import { SymbolReader } from './kinds/kallsyms.js'
import type { PanicReader } from './kinds/panic.js'
import { type EvidenceKind, TEXT_KINDS } from './kinds.js'
import { lineFilterOf } from './line-filter.js'

/** Every line of evidence has one of these words in it, or what the line filter finds besides. */
export const EVIDENCE_WORDS: readonly string[] = TEXT_KINDS.flatMap(({ words }) => words)

/** Leaves out lines that are no evidence, before they become strings. */
export const EVIDENCE_FILTER = lineFilterOf(EVIDENCE_WORDS)

/** The readers of a text, which may be of any of the kinds, or of several pasted together. */
export class TextReaders {
  private readonly readers

  /** @param panics puts together the panics of a log, where they are wanted */
  constructor(findings: FileFindings, panics?: PanicReader) {
    this.readers = TEXT_KINDS.map(({ kind, reader }) => ({ kind, reader: reader(findings, panics) }))
  }

  /** Takes a line; whether it is evidence. */
  line(text: string, number: number): boolean {
    return text !== '' && this.readers.some(({ reader }) => reader.line(text, number))
  }

  /** Says what follows from all lines together; of which kinds they were. */
  report(): EvidenceKind[] {
    for (const { reader } of this.readers) reader.report()
    return this.readers.flatMap(({ kind, reader }) => (reader.found ? [kind] : []))
  }

  /** The symbols among the lines, which other evidence may need. */
  get symbols(): SymbolReader | undefined {
    return this.readers.flatMap(({ reader }) => (reader instanceof SymbolReader && reader.found ? [reader] : []))[0]
  }
}
