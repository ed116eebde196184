import { Option } from 'commander'
import { type ByteSource, readFully } from '../source.js'
import { parseSymbols } from '../symbols/parse.js'
import type { SymbolTable } from '../symbols/table.js'
import { Failure } from './failure.js'
import { openSource } from './file-source.js'

/** `--symbols FILE`, once for each. */
export function symbolsOption(): Option {
  return new Option(
    '--symbols <file>',
    'symbols: /proc/kallsyms, System.map, nm output or vmlinux, gzip undone; once for each',
  ).argParser((file: string, previous: string[] = []) => [...previous, file])
}

/** The tables in files, `-` being standard input. */
export function readSymbols(files: readonly string[]): SymbolTable[] {
  if (files.filter((file) => file === '-').length > 1) throw new Failure('standard input (-) is named twice')
  return files.map((file) => {
    const source = openSource(file)
    try {
      return parseSymbols(readWhole(source), source.name)
    } finally {
      source.close()
    }
  })
}

/** All bytes of a source. */
function readWhole(source: ByteSource): Uint8Array {
  const pieces: Uint8Array[] = []
  let total = 0
  for (;;) {
    const piece = new Uint8Array(pieces.length === 0 && source.size !== undefined ? source.size : 1 << 20)
    const got = readFully(source, total, piece)
    pieces.push(piece.subarray(0, got))
    total += got
    if (got < piece.length || total === source.size) break
  }
  if (pieces.length === 1) return pieces[0]!
  const whole = new Uint8Array(total)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}
