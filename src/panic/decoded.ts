import type { PrintedPanic } from '../evidence/kinds/panic.js'
import type { HypLayout } from '../layout/types.js'
import type { NameOptions, SymbolTable } from '../symbols/table.js'
import type { ProgramStatus, Syndrome, TranslationResult } from './esr.js'
import type { Instruction } from './instructions.js'

/** What is known besides the log. */
export interface DecodeOptions extends NameOptions {
  /** Of the boot that panicked. One of another boot is recognised by its Hyp Offset and not used. */
  readonly layout?: HypLayout
  /** Tables of the kernel that panicked: link-time, of that boot, or of another boot of it. */
  readonly symbols?: readonly SymbolTable[]
}

/** One place in memory, in every space that is known. */
export interface Places {
  readonly hyp?: bigint
  /** Link-time: what System.map and vmlinux say. */
  readonly link?: bigint
  /** Where the kernel image runs. */
  readonly image?: bigint
  readonly linear?: bigint
  readonly phys?: bigint
}

/** A place in code, with its names. */
export interface NamedPlace extends Places {
  /** As in the log, `%pB`. */
  readonly printed?: string
  /** By the tables given, as the kernel's `%pB` names it; for a PC of the address itself. */
  readonly name?: string
  /** For a PC: what `%pB` makes of it, where that is another name. */
  readonly returnName?: string
  /**
   * The log's symbol ends where this address is, and no table says what begins there: `%pB` names the address before.
   */
  readonly atEnd?: boolean
  /** Whether the log's symbol is the tables' one; absent where one is missing. */
  readonly agrees?: boolean
}

/** What FAR is. `stale`: left over from an earlier abort, this exception did not set it. */
export type FarKind = 'hyp' | 'host' | 'guest' | 'stale' | 'unknown'

/** FAR: whose address it is, and where that lies. */
export interface DecodedFar extends Places {
  readonly value: bigint
  readonly kind: FarKind
  /** Why it is that, in a line. */
  readonly text: string
  readonly name?: string
}

/** HPFAR: the page of a stage 2 fault. */
export interface DecodedHpfar {
  readonly value: bigint
  /** The faulting intermediate physical page, 4 KiB aligned. */
  readonly page: bigint
  /** Whether FAR, as a kernel address, and HPFAR are of one page; absent when FAR's physical address is not known. */
  readonly agrees?: boolean
  readonly text: string
}

/** One hyp panic, with all that log, layout and symbols prove. */
export interface DecodedPanic {
  readonly printed: PrintedPanic
  /** Whose it is; `vhe`: of a host that runs at EL2, which prints the same block. */
  readonly pc?: NamedPlace & { readonly value: bigint; readonly of: 'hyp' | 'host' | 'guest' | 'vhe' }
  readonly backtrace: readonly (NamedPlace & { readonly link: bigint })[]
  readonly vcpu?: Places & { readonly value: bigint; readonly text: string }
  readonly far?: DecodedFar
  readonly hpfar?: DecodedHpfar
  readonly esr?: Syndrome
  readonly ps?: ProgramStatus
  readonly par?: TranslationResult
  readonly code?: { readonly instructions: readonly Instruction[]; readonly faulting: number }
  readonly diagnoses: readonly Diagnosis[]
  /** What log, layout and symbols do not tell, and what would. */
  readonly unknown: readonly string[]
  /** For each entry of `unknown` what to supply, if anything helps. */
  readonly needs: readonly (Need | undefined)[]
  /** What is worth knowing of the inputs: a layout that was not used, symbols of another boot. */
  readonly notes: readonly string[]
  /** The boot's layout, as far as the log and the layout given tell it. */
  readonly layout: Partial<HypLayout>
}

/** An input that would tell more of a panic: the boot's layout, or the kernel's symbols. */
export type Need = 'layout' | 'symbols'

/** Causes that hypva recognises. */
export type DiagnosisKind =
  | 'missing-kern-hyp-va'
  | 'null-pointer'
  | 'stack-overflow'
  | 'host-abort'
  | 'not-mapped'
  | 'brk'
  | 'undefined-instruction'
  | 'pc-outside-hyp-text'
  | 'pc-overwritten'
  | 'not-from-hyp'

/** What the facts allow to be said of the cause. */
export interface Diagnosis {
  readonly kind: DiagnosisKind
  /** Proved, or only likely. */
  readonly certain: boolean
  readonly text: string
}
