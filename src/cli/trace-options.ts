import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { createNamer, type Namer } from '../translate/namer.js'
import { Failure } from './failure.js'
import type { Format } from './format.js'
import { checkStdin } from './io/reading.js'
import { readSymbols, symbolsOption } from './symbol-files.js'

/** The options of the commands that read traces: what a trace is, what names its addresses get, and where the output goes. */
export interface TraceOptions {
  layout: string
  from?: Space
  symbols?: string[]
  rawNames?: boolean
  returnAddresses?: boolean
  format: Format
  text?: boolean
  output?: string
  stats?: boolean
}

/** Adds the options whose help is the same for all of those commands. */
export function addTraceOptions(command: Command): Command {
  return command
    .addOption(symbolsOption())
    .option('--raw-names', 'keep the __kvm_nvhe_ prefix of names')
    .option('--return-addresses', 'name the address before each one, as %pB does in backtraces')
    .addOption(
      new Option('--format <format>', 'text, or raw 64-bit words').choices(['text', 'u64le', 'u64be']).default('text'),
    )
    .option('--text', 'read the input as text even if it looks like something else')
    .option('-o, --output <file>', 'write to a file, and replace it only when the output is complete')
}

/** Refuses options that contradict each other. */
export function checkTraceOptions(
  files: readonly string[],
  { layout, symbols = [], format, text }: TraceOptions,
): void {
  if (text && format !== 'text') {
    throw new Failure(`--text is for text, --format ${format} for raw words: choose one of them`)
  }
  checkStdin([layout, ...symbols, ...files])
}

/** The namer that the options describe. */
export function namerOf(layout: HypLayout, options: TraceOptions, from: Space | undefined): Namer {
  const { symbols = [], rawNames = false, returnAddresses = false } = options
  return createNamer(layout, readSymbols(symbols), { ...(from && { from }), rawNames, returnAddresses })
}

export function parseCount(text: string): number {
  if (!/^[1-9][0-9]{0,5}$/.test(text)) throw new InvalidArgumentError('Expected a number from 1.')
  return Number(text)
}
