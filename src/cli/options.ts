import { Option } from 'commander'
import { parseLayout } from '../layout/json.js'
import { SPACES } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { Failure } from './failure.js'
import { CALLS, flowOf, join, nameOf, openForReading, type ReadCalls, STDIN, takeUpTo, total } from './io/reading.js'
import { refuseUnlessText } from './io/refuse.js'

/** `-l, --layout FILE`, which most commands need. */
export function layoutOption(): Option {
  return new Option(
    '-l, --layout <file>',
    'the layout, as printed by `hypva layout` (- is stdin)',
  ).makeOptionMandatory()
}

/** An option that names an address space. */
export function spaceOption(flags: string, description: string): Option {
  return new Option(flags, description).choices([...SPACES])
}

/** The layout in a file; a message about it names the file. */
export function readLayout(file: string): HypLayout {
  return inFile(file, () => parseLayout(readText(file)))
}

/** A layout or a machine is a few hundred bytes: larger than this is another file, or one without end. */
const MOST_TEXT = 1 << 28

/** The text of a small file, `-` being standard input. */
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

/** Puts the name of a file in front of what is wrong with its content. */
export function inFile<T>(file: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (error instanceof Failure) throw error
    throw new Failure(`${file === '-' ? 'standard input' : file}: ${(error as Error).message}`)
  }
}
