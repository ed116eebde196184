import type { FileFindings } from './facts.js'

/** Reads the lines of one kind of evidence in a text, and records in `findings` what they show. */
export abstract class LineReader {
  /** Whether the text has any such line. */
  found = false
  protected readonly findings: FileFindings

  constructor(findings: FileFindings) {
    this.findings = findings
  }

  /** Takes a line and tells whether it is of this kind. */
  abstract line(text: string, number: number): boolean

  /** Called after the last line: records what follows from all lines together. */
  report(): void {}
}
