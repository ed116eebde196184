import { type Content, countOdd, HEAD, recognise } from '../content.js'
import { HypvaError } from '../errors.js'
import { parseLayout } from '../layout/json.js'
import type { HypLayout } from '../layout/types.js'
import { type ByteSource, forEachLine, readFully } from '../source.js'
import { FileFindings } from './facts.js'
import { readCore, scanWhole } from './kinds/core.js'
import { DebuggerReader, VARIABLES } from './kinds/debugger.js'
import { IomemReader } from './kinds/iomem.js'
import { LOG_WORDS, LogReader } from './kinds/log.js'
import { PairReader } from './kinds/pairs.js'
import { SymbolReader } from './kinds/symbols.js'
import { VmcoreinfoReader } from './kinds/vmcoreinfo.js'
import { lineFilterOf } from './line-filter.js'
import type { SymbolAddresses } from './live.js'
import type { PatchScanner } from './patch-scan.js'

/** What a file turned out to be, by its content. `unsupported`: of a format that is not read (compressed, an archive, a trace). */
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
  | 'unsupported'
  | 'unrecognised'

export interface ReadFile {
  readonly source: ByteSource
  readonly kinds: readonly EvidenceKind[]
  readonly findings: FileFindings
}

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
    return { source, content: recognise(head.subarray(0, readFully(source, 0, head))) }
  })
  const texts = opened.flatMap(({ source, content }) => {
    if (content === undefined) return [readText(source, priority(source))]
    return content.kind === 'binary' ? [readMemory(source, priority(source))] : []
  })
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
    return [{ file: source.name, linkTime: symbols.linkTime, live: source.live === true, addresses, el2: symbols.el2 }]
  })
  for (const { findings } of texts) resolveNames(findings, tables)
  return opened.map(({ source, content }) => {
    const text = texts.find((known) => known.source === source)
    if (text === undefined) return readFormat(source, content!, priority(source), tables, exhaustive)
    return { source, kinds: text.kinds, findings: text.findings }
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
  const text = readLines(source, priority)
  const { kinds, findings } = text
  if (kinds.length > 0) return text
  if (source.sequential === 'once') {
    findings.note(
      'no evidence in its lines; a pipe of this size cannot be read a second time as memory, so if it is memory, give the file itself',
    )
    return { ...text, kinds: ['unrecognised'] }
  }
  // Text by its beginning, but no evidence: memory can begin with text.
  return { ...text, kinds: [showsPatching(scanWhole(source, findings)) ? 'memory' : 'unrecognised'] }
}

/** Of no kind where none of its lines is evidence. */
function readLines(source: ByteSource, priority: number): TextFile {
  const findings = new FileFindings(source.name, priority)
  const readers = new TextReaders(findings)
  const { symbols } = readers
  const pairNames = readers.pairs.names
  if (readLayoutFile(source, findings)) return { source, kinds: ['layout'], findings, pairNames, symbols }
  forEachLine(source, (text, number) => readers.line(text, number), FILTER)
  return { source, kinds: readers.report(), findings, pairNames, symbols }
}

function showsPatching({ groups, unpatched }: PatchScanner): boolean {
  return groups.length > 0 || unpatched !== undefined
}

function readMemory(source: ByteSource, priority: number): TextFile {
  const findings = new FileFindings(source.name, priority)
  const scanner = scanWhole(source, findings)
  if (!showsPatching(scanner)) {
    // A log can begin with bytes that are not text. Memory holds lines as well, of anything: those are no evidence.
    const text = isMostlyText(source) ? readLines(source, priority) : undefined
    if (text !== undefined && text.kinds.length > 0) return text
    findings.note(
      'no patched kern_hyp_va sequence in it: it may be compressed, or no kernel memory; a VHE host and a kernel before 4.17 have none',
    )
  }
  return { source, kinds: ['memory'], findings, pairNames: new Set(), symbols: new SymbolReader(new Set()) }
}

/** Logs that begin with garbage are not larger. */
const MOST_LOG = 1 << 26

/** Whether a file that does not begin as text is text by the rest of it. */
function isMostlyText(source: ByteSource): boolean {
  if (source.sequential === 'once' || source.size === undefined || source.size > MOST_LOG) return false
  const chunk = new Uint8Array(1 << 16)
  let odd = 0
  for (let at = 0; at < source.size; at += chunk.length) {
    const got = readFully(source, at, chunk)
    odd += countOdd(chunk.subarray(0, got))
  }
  return odd * 64 <= source.size
}

/** What is of a known format. */
function readFormat(
  source: ByteSource,
  content: Content,
  priority: number,
  tables: readonly SymbolAddresses[],
  exhaustive: boolean,
): ReadFile {
  const findings = new FileFindings(source.name, priority)
  const { kind, name, remedy, evidence = `${name}, which is not read: ${remedy}` } = content
  if (kind === 'elf') {
    readCore(source, findings, tables, exhaustive)
    return { source, kinds: ['elf'], findings }
  }
  findings.note(evidence)
  return { source, kinds: [kind === 'kdump' ? kind : 'unsupported'], findings }
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
  findings.sayLayout(layout)
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
