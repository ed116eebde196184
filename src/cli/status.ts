/** What a command found, beside what it printed. */
export interface Status {
  exitCode: number
}
