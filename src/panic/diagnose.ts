import type { HypClassifier } from '../layout/regions.js'
import type { SymbolTable } from '../symbols/table.js'
import { formatU64, wrap64 } from '../u64.js'
import type { AddressFacts } from './addresses.js'
import type { DecodedPanic } from './decode.js'
import { isTranslationFault } from './esr.js'

/** Causes that a diagnosis distinguishes. */
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

type Panic = Omit<DecodedPanic, 'diagnoses' | 'unknown'>

/** A structure is at most so large that an access to a member of one at address 0 stays below. */
const NULL_PAGE = 4096n

/**
 * All that can be said, surest first.
 * @param classify tells what an address at EL2 is, where the layout does
 */
export function diagnose(
  panic: Panic,
  facts: AddressFacts,
  table: SymbolTable | undefined,
  classify: HypClassifier | undefined,
): Diagnosis[] {
  const rules = [
    notFromHyp,
    brk,
    undefinedInstruction,
    hostAbort,
    missingMacro,
    nullPointer,
    stackOverflow,
    outsideText,
    overwritten,
    notMapped,
  ]
  const found = rules.flatMap((rule) => rule(panic, facts, table, classify) ?? [])
  // What is explained already needs no weaker explanation.
  const explained = found.some(({ kind }) => kind !== 'not-mapped')
  return found
    .filter(({ kind }) => !(explained && kind === 'not-mapped'))
    .toSorted((a, b) => Number(b.certain) - Number(a.certain))
}

type Rule = (
  panic: Panic,
  facts: AddressFacts,
  table: SymbolTable | undefined,
  classify: HypClassifier | undefined,
) => Diagnosis | undefined

const notFromHyp: Rule = ({ ps, pc }) => {
  if (ps === undefined || ps.el === 2 || ps.el === undefined) return undefined
  return {
    kind: 'not-from-hyp',
    certain: true,
    text: `the exception came from ${ps.mode}, ${pc?.of === 'guest' ? 'a guest' : 'the host'}, not from the hypervisor: PC and FAR are ${pc?.of === 'guest' ? "the guest's" : "the host's"}, and Hyp Offset does not apply to them`,
  }
}

const brk: Rule = ({ esr, printed }) => {
  if (esr?.brk === undefined) return undefined
  const where = printed.place === undefined ? '' : ` at ${printed.place}`
  return {
    kind: 'brk',
    certain: true,
    text: `BRK #0x${esr.brk.immediate.toString(16)}${where}: ${esr.brk.use}`,
  }
}

const undefinedInstruction: Rule = ({ esr, ps, code }) => {
  if (esr?.exceptionClass.name !== 'UNKNOWN' || ps?.el !== 2) return undefined
  const at = code?.instructions[code.faulting]
  const what = at?.word === undefined ? '' : `: ${at.text ?? at.word.toString(16).padStart(8, '0')}`
  return { kind: 'undefined-instruction', certain: true, text: `an instruction that EL2 cannot execute${what}` }
}

const hostAbort: Rule = ({ esr, far, hpfar }) => {
  if (far?.kind !== 'host' || esr?.brk === undefined) return undefined
  const page =
    hpfar === undefined ? '' : `, physical page ${formatU64(hpfar.page)}${hpfar.agrees ? ' (FAR and HPFAR agree)' : ''}`
  return {
    kind: 'host-abort',
    certain: hpfar?.agrees === true,
    text: `the host touched memory that it does not own, the hypervisor's or a guest's: host VA ${formatU64(far.value)}${page}`,
  }
}

/** A kernel address used at EL2: nothing of the kernel's half is mapped there. */
const missingMacro: Rule = ({ far, esr, layout }) => {
  if (far?.kind !== 'hyp' || esr?.abort === undefined || far.value >> 55n !== 0x1ffn) return undefined
  if (esr.abort.kind === 'instruction') return undefined
  const what = far.image !== undefined ? 'an image' : far.linear !== undefined ? 'a linear-map' : 'a kernel'
  const meant =
    far.hyp !== undefined
      ? `meant was ${formatU64(far.hyp)}`
      : layout.tagLsb === undefined
        ? 'a layout (-l) tells which hyp address was meant'
        : 'the layout does not tell which hyp address was meant'
  return {
    kind: 'missing-kern-hyp-va',
    certain: true,
    text: `EL2 used ${what} address, ${formatU64(far.value)}: a missing kern_hyp_va(); ${meant}`,
  }
}

const nullPointer: Rule = ({ far, esr }) => {
  if (far?.kind !== 'hyp' || esr?.abort === undefined || far.value >= NULL_PAGE) return undefined
  if (!isTranslationFault(esr.abort.status)) return undefined
  if (esr.abort.kind === 'instruction') return undefined
  return {
    kind: 'null-pointer',
    certain: false,
    text: `a NULL pointer, ${esr.abort.write ? 'written' : 'read'} at offset ${formatU64(far.value)}`,
  }
}

/** Hyp stacks lie in the private range, each with an unmapped page or more below it. */
const stackOverflow: Rule = ({ printed, far, esr, layout, code }, _facts, _table, classify) => {
  if (far?.kind !== 'hyp' || esr?.abort?.kind !== 'data') return undefined
  const frame = printed.backtrace.some(({ symbol }) =>
    /\bhyp_panic_bad_stack\+|_hyp_panic_bad_stack\+/.test(symbol ?? ''),
  )
  if (frame) {
    return {
      kind: 'stack-overflow',
      certain: true,
      text: `overflow of the hyp stack: the hypervisor's own check found it (hyp_panic_bad_stack); FAR ${formatU64(far.value)} lies in the guard page below the stack`,
    }
  }
  if (!isTranslationFault(esr.abort.status) || far.value < NULL_PAGE || far.value >> 55n !== 0n) return undefined
  const faulting = code?.instructions[code.faulting]?.text ?? ''
  const onStack = /\[sp[,\]]/.test(faulting)
  const inPrivate = classify?.(far.value).kind === 'private'
  // Since 5.18 a stack's page has bit PAGE_SHIFT set, the guard below it clear.
  const guard = ((far.value >> BigInt(Math.log2(layout.pageSize ?? 4096))) & 1n) === 0n
  if (!(onStack || (inPrivate && guard))) return undefined
  return {
    kind: 'stack-overflow',
    certain: false,
    text: `FAR ${formatU64(far.value)} ${inPrivate ? 'lies in the private range, where the hyp stacks are, on an unmapped page that a guard page would be' : 'is relative to the stack pointer'}: probably an overflow of the hyp stack`,
  }
}

const outsideText: Rule = ({ pc, printed, far, esr }, facts, table, classify) => {
  if (pc?.of !== 'hyp') return undefined
  const { value } = pc
  const jump =
    esr?.abort?.kind === 'instruction' && esr.abort.current && far?.value === value
      ? ': a jump through a bad pointer'
      : ''
  const say = (where: string, certain: boolean): Diagnosis => ({
    kind: 'pc-outside-hyp-text',
    certain,
    text: `PC ${formatU64(value)} is outside the hypervisor's text, ${where}${jump}`,
  })
  if (facts.hypOffset === undefined) return undefined
  const link = wrap64(value + facts.hypOffset)
  const start = table?.landmarks.get('__hyp_idmap_text_start') ?? table?.landmarks.get('__hyp_text_start')
  const end = table?.landmarks.get('__hyp_text_end')
  if (start !== undefined && end !== undefined) {
    // EL2 runs a few pages at addresses of its own: the idmap page, and hardened vectors.
    if (link >= start && link < end) return undefined
    const own = classify?.(value)
    if (own?.kind === 'idmap') return undefined
    return say(own === undefined ? `${formatU64(start)}–${formatU64(end)} at link-time addresses` : own.text, true)
  }
  if (facts.linkBase !== undefined && !facts.inImage(link)) {
    return say(`in fact outside the kernel image linked at ${formatU64(facts.linkBase)}`, true)
  }
  if (value % 4n !== 0n) return say('and not aligned as code is', true)
  if (printed.at?.symbol !== undefined && !printed.at.symbol.startsWith('__kvm_nvhe_')) {
    return say(`in ${printed.at.symbol}`, false)
  }
  return undefined
}

/** Up to 6.1 an exception with the guest's vectors installed replaces ELR_EL2. */
const overwritten: Rule = ({ pc, esr, ps }) => {
  if (pc?.of !== 'hyp' || ps?.el !== 2) return undefined
  const exact = /^(?:__kvm_nvhe_)?__guest_exit_panic\+0x0\//.test(pc.name ?? '')
  const printed = /^__kvm_nvhe___guest_enter\+0x([0-9a-f]+)\/0x\1$/.test(pc.printed ?? '')
  if (!exact && !(pc.name === undefined && printed)) return undefined
  return {
    kind: 'pc-overwritten',
    certain: exact,
    text: `PC is __guest_exit_panic, where this kernel goes after an exception at EL2 while a guest's vectors are installed (__kvm_unexpected_el2_exception): the instruction that took the ${esr?.exceptionClass.text ?? 'exception'} is not in the log`,
  }
}

const notMapped: Rule = ({ far, esr }, _facts, _table, classify) => {
  if (far?.kind !== 'hyp' || esr?.abort === undefined || !isTranslationFault(esr.abort.status)) return undefined
  if (classify === undefined || far.value >> 55n !== 0n) return undefined
  const region = classify(far.value)
  const shared =
    region.kind === 'hyp-linear' ? ': memory that was not mapped at EL2, or, with pKVM, not shared with it' : ''
  return { kind: 'not-mapped', certain: false, text: `FAR is ${region.text}${shared}` }
}
