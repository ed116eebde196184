import { HypvaError } from '../errors.js'
import { LAYOUT_FIELDS, parseLayout } from '../layout/json.js'
import type { HypLayout } from '../layout/types.js'
import { type ByteSource, forEachLine, readFully } from '../source.js'
import { readCore, type SymbolAddresses, scanWhole } from './core.js'
import { DebuggerReader, VARIABLES } from './debugger.js'
import { isElf } from './elf-core.js'
import { FileFindings, LAYOUT_FILE } from './facts.js'
import { IomemReader } from './iomem.js'
import { lineFilterOf } from './line-filter.js'
import { LOG_WORDS, LogReader } from './log.js'
import { PairReader } from './pairs.js'
import { SymbolReader } from './symbols.js'
import { VmcoreinfoReader } from './vmcoreinfo.js'

/** What a file turned out to be, by its content. */
export type EvidenceKind =
  | 'memory'
  | 'elf'
  | 'kdump'
  | 'log'
  | 'iomem'
  | 'vmcoreinfo'
  | 'symbols'
  | 'pairs'
  | 'debugger'
  | 'layout'
  | 'unrecognised'

export interface ReadFile {
  readonly source: ByteSource
  readonly kinds: readonly EvidenceKind[]
  readonly findings: FileFindings
}

const HEAD = 4096

/**
 * Reads all evidence. Symbols come before cores, which need them; pairs that name symbols make their tables be read again.
 */
export function readEvidence(
  sources: readonly ByteSource[],
  preferred: ReadonlySet<string>,
  exhaustive: boolean,
): ReadFile[] {
  const priority = (source: ByteSource) => (preferred.has(source.name) ? 1 : 0)
  const opened = sources.map((source) => {
    const head = new Uint8Array(HEAD)
    return { source, head: head.subarray(0, readFully(source, 0, head)) }
  })
  const texts = opened.filter(({ head }) => !isBinary(head)).map(({ source }) => readText(source, priority(source)))
  const names = new Set(texts.flatMap(({ pairNames }) => [...pairNames]))
  if (names.size > 0) {
    for (const text of texts) {
      if (!text.kinds.includes('symbols')) continue
      const again = new SymbolReader(names)
      forEachLine(text.source, (line, number) => again.line(line, number), FILTER)
      text.symbols = again
    }
  }
  const tables: SymbolAddresses[] = texts.flatMap(({ source, kinds, symbols }) => {
    if (!kinds.includes('symbols')) return []
    const addresses = new Map([...symbols.symbols].map(([name, { address }]) => [name, address] as const))
    return [{ file: source.name, linkTime: symbols.linkTime, addresses }]
  })
  for (const { findings } of texts) resolveNames(findings, tables)
  return opened.map(({ source, head }) => {
    const text = texts.find((known) => known.source === source)
    if (text !== undefined) return { source, kinds: text.kinds, findings: text.findings }
    return readBinary(source, head, priority(source), tables, exhaustive)
  })
}

interface TextFile {
  readonly source: ByteSource
  readonly kinds: readonly EvidenceKind[]
  readonly findings: FileFindings
  readonly pairNames: ReadonlySet<string>
  symbols: SymbolReader
}

/** Every line that any of the readers knows has one of these words in it, or what lineFilter finds besides. */
export const EVIDENCE_WORDS: readonly string[] = [...LOG_WORDS, ...VARIABLES]
const FILTER = lineFilterOf(EVIDENCE_WORDS)

/** The readers of a text, of any of the kinds, or of several pasted together: every line is taken for what it is. */
export class TextReaders {
  readonly symbols = new SymbolReader(new Set())
  readonly pairs: PairReader
  private readonly findings: FileFindings
  private readonly iomem = new IomemReader()
  private readonly vmcoreinfo: VmcoreinfoReader
  private readonly words: DebuggerReader
  private readonly log: LogReader
  private readonly all: readonly { line(text: string, number: number): boolean }[]

  constructor(findings: FileFindings) {
    this.findings = findings
    this.vmcoreinfo = new VmcoreinfoReader(findings)
    this.words = new DebuggerReader(findings)
    this.log = new LogReader(findings)
    this.pairs = new PairReader(findings)
    this.all = [this.symbols, this.iomem, this.vmcoreinfo, this.words, this.log, this.pairs]
  }

  /** Takes a line; whether it is evidence. */
  line(text: string, number: number): boolean {
    return text !== '' && this.all.some((reader) => reader.line(text, number))
  }

  /** Says what follows from all lines together; of which kinds they were. */
  report(): EvidenceKind[] {
    this.symbols.report(this.findings)
    this.iomem.report(this.findings)
    this.words.report()
    this.log.report()
    const readers = [
      ['symbols', this.symbols],
      ['iomem', this.iomem],
      ['vmcoreinfo', this.vmcoreinfo],
      ['debugger', this.words],
      ['log', this.log],
      ['pairs', this.pairs],
    ] as const
    return readers.flatMap(([kind, reader]) => (reader.found ? [kind] : []))
  }
}

function readText(source: ByteSource, priority: number): TextFile {
  const findings = new FileFindings(source.name, priority)
  const readers = new TextReaders(findings)
  const { symbols } = readers
  const pairNames = readers.pairs.names
  if (readLayoutFile(source, findings)) return { source, kinds: ['layout'], findings, pairNames, symbols }
  forEachLine(source, (text, number) => readers.line(text, number), FILTER)
  const kinds = readers.report()
  if (kinds.length > 0) return { source, kinds, findings, pairNames, symbols }
  if (source.sequential === 'once') {
    findings.note(
      'no evidence in its lines, and it cannot be read again as memory; if it is memory, give the file itself',
    )
    return { source, kinds: ['unrecognised'], findings, pairNames, symbols }
  }
  // Text by its beginning, but no evidence: memory can begin with text.
  const scanner = scanWhole(source, findings)
  const memory = scanner.groups.length > 0 || scanner.unpatched !== undefined
  return { source, kinds: [memory ? 'memory' : 'unrecognised'], findings, pairNames, symbols }
}

function readBinary(
  source: ByteSource,
  head: Uint8Array,
  priority: number,
  tables: readonly SymbolAddresses[],
  exhaustive: boolean,
): ReadFile {
  const findings = new FileFindings(source.name, priority)
  if (isElf(head)) {
    readCore(source, findings, tables, exhaustive)
    return { source, kinds: ['elf'], findings }
  }
  const dump = dumpFormat(head)
  if (dump !== undefined) {
    findings.note(dump)
    return { source, kinds: ['kdump'], findings }
  }
  const scanner = scanWhole(source, findings)
  if (scanner.groups.length === 0 && scanner.unpatched === undefined) {
    findings.note('no patched kern_hyp_va sequence in it; with VHE, and before 4.17, there is none')
  }
  return { source, kinds: ['memory'], findings }
}

/** A dump that is not ELF, with what to do about it. */
function dumpFormat(head: Uint8Array): string | undefined {
  const signature = String.fromCharCode(...head.subarray(0, 12))
  if (signature.startsWith('KDUMP   ') || signature.startsWith('DISKDUMP')) {
    return (
      'a compressed kdump file, which is not read. Make an ELF core instead: in the crash kernel `makedumpfile -E -d 31 /proc/vmcore FILE`, ' +
      'under QEMU `dump-guest-memory FILE` without -z, -l, -s; or ask crash for `p tag_lsb`, `p tag_val` and give what it prints'
    )
  }
  if (signature.startsWith('makedumpfile')) {
    return 'a flattened makedumpfile stream, which is not read: `makedumpfile -R OUT < FILE` makes a dump file of it'
  }
  return undefined
}

/** A layout written by hypva is evidence too. */
function readLayoutFile(source: ByteSource, findings: FileFindings): boolean {
  const most = 1 << 20
  const bytes = new Uint8Array(most)
  const size = readFully(source, 0, bytes)
  const text = new TextDecoder().decode(bytes.subarray(0, size))
  if (size === most || !/^\s*\{/.test(text) || !text.includes('"hypva-layout/1"')) return false
  let layout: HypLayout
  try {
    layout = parseLayout(text)
  } catch (error) {
    throw new HypvaError('HYPVA_LAYOUT', `${source.name}: ${(error as Error).message}`)
  }
  for (const field of LAYOUT_FIELDS) {
    const value = layout[field]
    if (value !== undefined) findings.say(field, value, field, LAYOUT_FILE)
  }
  return true
}

/** Pairs that name a symbol get its address. */
function resolveNames(findings: FileFindings, tables: readonly SymbolAddresses[]): void {
  const missing = new Set<string>()
  for (const [i, pair] of findings.pairs.entries()) {
    if (pair.symbol === undefined) continue
    const table = tables.find(({ linkTime, addresses }) => !linkTime && addresses.has(pair.symbol!))
    if (table === undefined) missing.add(pair.symbol)
    else
      findings.pairs[i] = {
        ...pair,
        kernel: table.addresses.get(pair.symbol),
        rule: `known pair, ${pair.symbol} by ${table.file}`,
      }
  }
  // Without its symbol such a line may be anything.
  if (missing.size > 0) {
    const known = findings.pairs.filter(({ kernel }) => kernel !== undefined)
    findings.pairs.length = 0
    for (const pair of known) findings.pairs.push(pair)
    const names = [...missing].slice(0, 3).join(', ')
    findings.note(`no run-time address of ${names}: give the /proc/kallsyms of that boot as well`)
  }
}

/** Whether a file is no text: NULs and control characters in its first bytes. A serial log may hold a few. */
function isBinary(head: Uint8Array): boolean {
  let odd = 0
  for (const byte of head) if (byte < 9 || (byte > 13 && byte < 32 && byte !== 27)) odd++
  return odd > head.length / 64 || (odd > 0 && isElf(head)) || dumpFormat(head) !== undefined
}
