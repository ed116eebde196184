import { Option } from 'commander'
import { parseSymbols } from '../symbols/parse.js'
import type { SymbolTable } from '../symbols/table.js'
import { openSource, readWhole } from './io/file-source.js'

/** `--symbols FILE`, once for each. */
export function symbolsOption(): Option {
  return new Option(
    '--symbols <file>',
    'symbols: /proc/kallsyms, System.map, nm output or vmlinux; gzip is decompressed; once for each',
  ).argParser((file: string, previous: string[] = []) => [...previous, file])
}

/** The tables in files, `-` being standard input. */
export function readSymbols(files: readonly string[]): SymbolTable[] {
  return files.map((file) => {
    const source = openSource(file)
    try {
      return parseSymbols(readWhole(source), source.name)
    } finally {
      source.close()
    }
  })
}
