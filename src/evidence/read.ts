import { type Content, HEAD, recognise } from '../content.js'
import { type ByteSource, forEachLine, readFully } from '../source.js'
import { FileFindings } from './facts.js'
import type { SymbolAddresses } from './host-memory.js'
import type { SymbolReader } from './kinds/kallsyms.js'
import { readLayout } from './kinds/layout.js'
import { isMostlyText, scanMemory } from './kinds/memory.js'
import { namesOfPairs, resolveNames } from './kinds/pairs.js'
import { type EvidenceKind, FORMAT_KINDS } from './kinds.js'
import { EVIDENCE_FILTER, readSymbols, TextReaders } from './text-readers.js'

/** A file that hypva has read, and the symbols of a text. */
interface ReadFile {
  readonly source: ByteSource
  readonly kinds: readonly EvidenceKind[]
  readonly findings: FileFindings
  readonly symbols?: SymbolReader | undefined
}

/**
 * Reads all evidence. Symbols come before cores, which need them; where pairs name symbols, their tables are read again.
 */
export function readEvidence(
  sources: readonly ByteSource[],
  preferred: ReadonlySet<string>,
  exhaustive: boolean,
): ReadFile[] {
  const opened = sources.map((source) => {
    const head = new Uint8Array(HEAD)
    const content = recognise(head.subarray(0, readFully(source, 0, head)))
    const findings = new FileFindings(source.name, preferred.has(source.name) ? 1 : 0)
    return { source, content, findings }
  })
  const texts = opened.flatMap(({ source, content, findings }) => {
    if (content === undefined) return [readText(source, findings)]
    return content.kind === 'binary' ? [readMemory(source, findings)] : []
  })
  const tables = readTables(texts)
  for (const { findings } of texts) resolveNames(findings, tables)
  return opened.map(({ source, content, findings }) => {
    const text = texts.find((known) => known.source === source)
    return text ?? readFormat(source, content!, findings, tables, exhaustive)
  })
}

/** The symbols of all texts, those that pairs name among them. */
function readTables(texts: readonly ReadFile[]): SymbolAddresses[] {
  const names = namesOfPairs(texts.map(({ findings }) => findings))
  return texts.flatMap(({ source, findings, symbols }) => {
    if (symbols === undefined) return []
    const table = names.size === 0 ? symbols : readSymbols(source, findings, names)
    return [table.addresses(source.live === true)]
  })
}

/** Reads what begins as text. */
function readText(source: ByteSource, findings: FileFindings): ReadFile {
  const text = readLines(source, findings)
  if (text.kinds.length > 0) return text
  if (source.sequential === 'once') {
    findings.note(
      'no evidence in its lines. hypva cannot read a pipe of this size twice: if it is memory, give the file itself',
    )
    return { source, kinds: ['unrecognised'], findings }
  }
  // Memory can begin with text.
  return { source, kinds: [scanMemory(source, findings) ? 'memory' : 'unrecognised'], findings }
}

/** Reads lines; of no kind where none of them is evidence. */
function readLines(source: ByteSource, findings: FileFindings): ReadFile {
  if (readLayout(source, findings)) return { source, kinds: ['layout'], findings }
  const readers = new TextReaders(findings)
  forEachLine(source, (text, number) => readers.line(text, number), EVIDENCE_FILTER)
  return { source, kinds: readers.report(), findings, symbols: readers.symbols }
}

/** Reads what does not begin as text, and is of no known format. */
function readMemory(source: ByteSource, findings: FileFindings): ReadFile {
  if (!scanMemory(source, findings)) {
    // A log can begin with bytes that are not text. Memory holds lines as well, of anything: those are no evidence.
    if (isMostlyText(source)) {
      const text = readLines(source, new FileFindings(source.name, findings.priority))
      if (text.kinds.length > 0) return text
    }
    findings.note(
      'no patched kern_hyp_va sequence in it: it may be compressed, or no kernel memory; a VHE host and a kernel before 4.17 have none',
    )
  }
  return { source, kinds: ['memory'], findings }
}

/** Reads what is of a known format. */
function readFormat(
  source: ByteSource,
  content: Content,
  findings: FileFindings,
  tables: readonly SymbolAddresses[],
  exhaustive: boolean,
): ReadFile {
  const { name, remedy, evidence = `${name}, which hypva does not read: ${remedy}` } = content
  const kind = content.kind as keyof typeof FORMAT_KINDS
  const { read } = FORMAT_KINDS[kind]
  if (read === undefined) findings.note(evidence)
  else read(source, findings, tables, exhaustive)
  return { source, kinds: [kind], findings }
}
