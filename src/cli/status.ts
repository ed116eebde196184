/** The result of a command besides its output. */
export interface Status {
  exitCode: number
}
