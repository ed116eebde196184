import { InvalidArgumentError, Option } from 'commander'
import { parseLayout } from '../layout/json.js'
import type { HypLayout } from '../layout/types.js'
import { SPACES } from '../translate/directions.js'
import { parseU64 } from '../u64.js'
import { inFile, readText } from './io/small-file.js'

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

/** A 64-bit value on the command line: hex with or without 0x. */
export function parseAddress(text: string): bigint {
  try {
    return parseU64(/^[0-9a-fA-F]+$/.test(text) ? `0x${text}` : text, 'address')
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}
