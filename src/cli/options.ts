import { Option } from 'commander'
import { parseLayout } from '../layout/json.js'
import { SPACES } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { inFile, readText } from './io/text.js'

/** `-l, --layout FILE`, which most commands need. */
export function layoutOption(): Option {
  return new Option(
    '-l, --layout <file>',
    'layout JSON, as `hypva layout` prints it (- is stdin)',
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
