import { Option } from 'commander'
import { parseSymbols } from '../symbols/parse.js'
import type { SymbolTable } from '../symbols/table.js'
import { openSource, readWhole } from './io/file-source.js'
import { collect } from './values.js'

/** `--symbols FILE`, which users may repeat. */
export function symbolsOption(): Option {
  return new Option(
    '--symbols <file>',
    'symbols: /proc/kallsyms, System.map, nm output or vmlinux, also in gzip (repeatable)',
  ).argParser(collect)
}

/** Reads the symbol tables in files; `-` is standard input. */
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
