import type { FileFindings } from './facts.js'
import { readCore } from './kinds/core.js'
import { DEBUGGER_WORDS, DebuggerReader } from './kinds/debugger.js'
import { IomemReader } from './kinds/iomem.js'
import { SymbolReader } from './kinds/kallsyms.js'
import { LOG_WORDS, LogReader } from './kinds/log.js'
import { PairReader } from './kinds/pairs.js'
import type { PanicReader } from './kinds/panic.js'
import { VmcoreinfoReader } from './kinds/vmcoreinfo.js'
import type { LineReader } from './line-reader.js'

/** A kind of evidence that is lines of text. */
interface TextKind<Kind extends string = string> {
  readonly kind: Kind
  /** What it is, for people. */
  readonly what: string
  /** Each of its lines has one of these words in it, or one of the other signs that the line filter knows. */
  readonly words: readonly string[]
  /** @param panics puts together the panics of a log, where they are wanted */
  reader(findings: FileFindings, panics?: PanicReader): LineReader
}

const textKind = <const Kind extends string>(row: TextKind<Kind>) => row

/** Kinds of lines, in the order in which their readers are asked: each line is of the first that knows it. */
export const TEXT_KINDS = [
  textKind({ kind: 'symbols', what: 'symbols', words: [], reader: (findings) => new SymbolReader(findings) }),
  textKind({ kind: 'iomem', what: '/proc/iomem', words: [], reader: (findings) => new IomemReader(findings) }),
  textKind({ kind: 'vmcoreinfo', what: 'vmcoreinfo', words: [], reader: (findings) => new VmcoreinfoReader(findings) }),
  textKind({
    kind: 'debugger',
    what: 'output of a debugger',
    words: DEBUGGER_WORDS,
    reader: (findings) => new DebuggerReader(findings),
  }),
  textKind({
    kind: 'log',
    what: 'kernel log',
    words: LOG_WORDS,
    reader: (findings, panics) => new LogReader(findings, panics),
  }),
  textKind({ kind: 'pairs', what: 'known pairs', words: [], reader: (findings) => new PairReader(findings) }),
]

/** Kinds that the first bytes of a file show, by what content.ts calls them. Without a reader the file only gives a note. */
export const FORMAT_KINDS = {
  elf: { what: 'ELF file', read: readCore },
  kdump: { what: 'dump that is not ELF', read: undefined },
  unsupported: { what: 'a format that hypva does not read', read: undefined },
}

/** Kinds that only reading a file to its end shows. */
const WHOLE_KINDS = { memory: 'memory', layout: 'layout', unrecognised: 'not recognised' }

/**
 * What a file turned out to be, by its content. `unsupported`: of a format that hypva does not read (compressed, an archive, a
 * trace).
 */
export type EvidenceKind = (typeof TEXT_KINDS)[number]['kind'] | keyof typeof FORMAT_KINDS | keyof typeof WHOLE_KINDS

/** What each kind is, for people. */
export const KIND_NAMES = Object.fromEntries([
  ...TEXT_KINDS.map(({ kind, what }) => [kind, what]),
  ...Object.entries(FORMAT_KINDS).map(([kind, { what }]) => [kind, what]),
  ...Object.entries(WHOLE_KINDS),
]) as Readonly<Record<EvidenceKind, string>>
