import { Failure } from '../failure.js'
import { CALLS, flowOf, join, nameOf, openForReading, type ReadCalls, STDIN, takeUpTo, total } from './reading.js'
import { refuseUnlessText } from './refuse.js'

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
