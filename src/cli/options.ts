import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { InvalidArgumentError, Option } from 'commander'
import { parseLayout } from '../layout/json.js'
import type { HypLayout } from '../layout/types.js'
import { SPACES } from '../translate/segments.js'
import { parseU64 } from '../u64.js'
import { Failure, systemFailure } from './failure.js'
import { refuseLiveMemory, refuseMemoryDevice } from './live.js'
import { refuseUnlessText } from './refuse.js'

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

/** The text of a small file, `-` being standard input. */
export function readText(file: string): string {
  const name = file === '-' ? 'standard input' : file
  let bytes: Buffer
  try {
    bytes = file === '-' ? readStandardInput() : readFile(file)
  } catch (error) {
    if (error instanceof Failure) throw error
    throw systemFailure('cannot read', name, error)
  }
  refuseUnlessText(bytes, { name, expected: 'JSON', binary: 'expected a layout or a machine as `hypva` prints it' })
  return bytes.toString('utf8')
}

function readFile(file: string): Buffer {
  const fd = openSync(file, 'r')
  try {
    const stat = fstatSync(fd)
    refuseMemoryDevice(file, stat)
    refuseLiveMemory(file, fd, stat)
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

function readStandardInput(): Buffer {
  refuseLiveMemory('standard input', 0, fstatSync(0))
  const chunks: Buffer[] = []
  for (;;) {
    const chunk = Buffer.alloc(65536)
    try {
      const count = readSync(0, chunk)
      if (count === 0) return Buffer.concat(chunks)
      chunks.push(chunk.subarray(0, count))
    } catch (error) {
      // Somebody else made the pipe non-blocking; there is nothing yet.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    }
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

/** A 64-bit value on the command line: hex with or without 0x. */
export function parseAddress(text: string): bigint {
  try {
    return parseU64(/^[0-9a-fA-F]+$/.test(text) ? `0x${text}` : text, 'address')
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}
