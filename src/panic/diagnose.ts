import type { HypClassifier } from '../layout/regions.js'
import type { SymbolTable } from '../symbols/table.js'
import { formatU64, type Range, wrap64 } from '../u64.js'
import type { AddressFacts } from './addresses.js'
import type { DecodedPanic, Diagnosis, DiagnosisKind } from './decoded.js'
import { isTranslationFault } from './esr.js'
import { accessesStack } from './instructions.js'
import { isFunction, printedSymbol, type Running } from './naming.js'

/** What the rules look at. */
interface Subject extends Omit<DecodedPanic, 'diagnoses' | 'unknown' | 'needs'> {
  readonly facts: AddressFacts
  readonly table: SymbolTable | undefined
  readonly running: Running | undefined
  /** What an address at EL2 is; absent where the layout does not tell. */
  readonly classify: HypClassifier | undefined
}

/** A cause, and the condition under which it is one. */
interface Rule {
  readonly kind: DiagnosisKind
  /** Whether the condition proves the cause, or only makes it likely. */
  readonly certain: boolean
  when(panic: Subject): boolean
  cause(panic: Subject): string
}

/** A structure is at most so large that an access to a member of one at address 0 stays below. */
const NULL_PAGE = 4096n

const isKernel = (address: bigint): boolean => address >> 55n === 0x1ffn

/** Causes. Of several rules for one kind the first that applies counts. */
const RULES: readonly Rule[] = [
  {
    kind: 'not-from-hyp',
    certain: true,
    when: ({ ps }) => ps?.el !== undefined && ps.el !== 2,
    cause({ ps, pc }) {
      const guest = pc?.of === 'guest'
      return `the exception came from ${ps!.mode}, ${guest ? 'a guest' : 'the host'}, not from the hypervisor: PC and FAR are ${guest ? "the guest's" : "the host's"}, and Hyp Offset does not apply to them`
    },
  },
  {
    kind: 'brk',
    certain: true,
    when: ({ esr }) => esr?.brk !== undefined,
    cause({ esr, printed: { place } }) {
      const { immediate, use } = esr!.brk!
      return `BRK #0x${immediate.toString(16)}${place === undefined ? '' : ` at ${place}`}: ${use}`
    },
  },
  {
    kind: 'undefined-instruction',
    certain: true,
    when: ({ esr, ps }) => esr?.exceptionClass.code === 0 && ps?.el === 2,
    cause(panic) {
      const { word, text } = faulting(panic)
      const what = word === undefined ? '' : `: ${text ?? word.toString(16).padStart(8, '0')}`
      return `an instruction that EL2 cannot execute${what}`
    },
  },
  {
    kind: 'host-abort',
    certain: true,
    when: (panic) => isHostAbort(panic) && panic.hpfar?.agrees === true,
    cause: hostAbort,
  },
  { kind: 'host-abort', certain: false, when: isHostAbort, cause: hostAbort },
  {
    // A kernel address used at EL2: nothing of the kernel's half is mapped there.
    kind: 'missing-kern-hyp-va',
    certain: true,
    when: ({ far, esr }) =>
      far?.kind === 'hyp' && esr?.abort !== undefined && esr.abort.kind !== 'instruction' && isKernel(far.value),
    cause({ far, layout }) {
      const { value, image, linear, hyp } = far!
      const what = image !== undefined ? 'an image' : linear !== undefined ? 'a linear-map' : 'a kernel'
      const meant =
        hyp !== undefined
          ? `the hyp address ${formatU64(hyp)} was meant`
          : layout.tagLsb === undefined
            ? 'a layout tells which hyp address was meant'
            : 'the layout does not tell which hyp address was meant'
      return `EL2 used ${what} address, ${formatU64(value)}: a missing kern_hyp_va(); ${meant}`
    },
  },
  {
    kind: 'null-pointer',
    certain: false,
    when: (panic) => hypFault(panic) && panic.far!.value < NULL_PAGE && panic.esr!.abort!.kind !== 'instruction',
    cause: ({ far, esr }) =>
      `a NULL pointer: EL2 ${esr!.abort!.write ? 'wrote' : 'read'} at offset ${formatU64(far!.value)}`,
  },
  {
    kind: 'stack-overflow',
    certain: true,
    when: ({ far, esr, printed }) =>
      far?.kind === 'hyp' &&
      esr?.abort?.kind === 'data' &&
      printed.backtrace.some(
        ({ symbol }) => symbol !== undefined && isFunction(printedSymbol(symbol), 'hyp_panic_bad_stack'),
      ),
    cause: ({ far }) =>
      `overflow of the hyp stack: the hypervisor's own check found it (hyp_panic_bad_stack); FAR ${formatU64(far!.value)} lies in the guard page below the stack`,
  },
  {
    // Hyp stacks lie in the private range, each with an unmapped page or more below it.
    kind: 'stack-overflow',
    certain: false,
    when: (panic) => mayLeaveStack(panic) && inPrivate(panic) && (onStack(panic) || inGuard(panic)),
    cause: ({ far }) =>
      `FAR ${formatU64(far!.value)} lies in the private range, where the hyp stacks are, on an unmapped page, as a guard page is: probably an overflow of the hyp stack`,
  },
  {
    kind: 'stack-overflow',
    certain: false,
    when: (panic) => mayLeaveStack(panic) && onStack(panic),
    cause: ({ far }) =>
      `FAR ${formatU64(far!.value)} is relative to the stack pointer: probably an overflow of the hyp stack`,
  },
  {
    kind: 'pc-outside-hyp-text',
    certain: true,
    when(panic) {
      const { pc, classify } = panic
      const text = hypText(panic)
      const link = linkOf(panic)
      if (text === undefined || link === undefined || (link >= text.start && link < text.end)) return false
      // EL2 runs a few pages at addresses of its own: the idmap page, and hardened vectors.
      return classify?.(pc!.value).kind !== 'idmap'
    },
    cause(panic) {
      const { pc, classify } = panic
      const { start, end } = hypText(panic)!
      const region = classify?.(pc!.value)
      return outsideText(panic, region?.text ?? `${formatU64(start)}–${formatU64(end)} at link-time addresses`)
    },
  },
  {
    kind: 'pc-outside-hyp-text',
    certain: true,
    when(panic) {
      const link = hypText(panic) === undefined ? linkOf(panic) : undefined
      return link !== undefined && panic.facts.linkBase !== undefined && !panic.facts.inImage(link)
    },
    cause: (panic) =>
      outsideText(panic, `in fact outside the kernel image linked at ${formatU64(panic.facts.linkBase!)}`),
  },
  {
    kind: 'pc-outside-hyp-text',
    certain: true,
    when: (panic) => hypText(panic) === undefined && linkOf(panic) !== undefined && panic.pc!.value % 4n !== 0n,
    cause: (panic) => outsideText(panic, 'and not aligned as code is'),
  },
  {
    kind: 'pc-outside-hyp-text',
    certain: false,
    when(panic) {
      const symbol = panic.printed.at?.symbol
      if (symbol === undefined || symbol.startsWith('__kvm_nvhe_')) return false
      return hypText(panic) === undefined && linkOf(panic) !== undefined
    },
    cause: (panic) => outsideText(panic, `in ${panic.printed.at!.symbol}`),
  },
  {
    // Up to 6.1 an exception with the guest's vectors installed replaces ELR_EL2.
    kind: 'pc-overwritten',
    certain: true,
    when: ({ pc, ps, running }) =>
      pc?.of === 'hyp' &&
      ps?.el === 2 &&
      running?.printed === false &&
      isFunction(running, '__guest_exit_panic') &&
      running.offset === 0n,
    cause: overwritten,
  },
  {
    // The log names the address before PC: the end of the function that stands before __guest_exit_panic.
    kind: 'pc-overwritten',
    certain: false,
    when: ({ pc, ps, running }) =>
      pc?.of === 'hyp' &&
      ps?.el === 2 &&
      running?.printed === true &&
      running.name === '__kvm_nvhe___guest_enter' &&
      running.offset === running.size,
    cause: overwritten,
  },
  {
    kind: 'not-mapped',
    certain: false,
    when: (panic) => hypFault(panic) && panic.classify !== undefined && panic.far!.value >> 55n === 0n,
    cause({ far, classify }) {
      const region = classify!(far!.value)
      const shared =
        region.kind === 'hyp-linear' ? ': memory that was not mapped at EL2, or, with pKVM, not shared with it' : ''
      return `FAR is ${region.text}${shared}`
    },
  },
]

/** All causes that the facts allow, surest first. */
export function diagnose(panic: Subject): Diagnosis[] {
  const found: Diagnosis[] = []
  for (const { kind, certain, when, cause } of RULES) {
    // What is explained already needs no weaker explanation.
    if (kind === 'not-mapped' && found.length > 0) continue
    if (found.some((other) => other.kind === kind) || !when(panic)) continue
    found.push({ kind, certain, text: cause(panic) })
  }
  return found.toSorted((a, b) => Number(b.certain) - Number(a.certain))
}

function faulting({ code }: Subject): NonNullable<DecodedPanic['code']>['instructions'][number] {
  return code?.instructions[code.faulting] ?? {}
}

function isHostAbort({ far, esr }: Subject): boolean {
  return far?.kind === 'host' && esr?.brk !== undefined
}

function hostAbort({ far, hpfar }: Subject): string {
  const page =
    hpfar === undefined ? '' : `, physical page ${formatU64(hpfar.page)}${hpfar.agrees ? ' (FAR and HPFAR agree)' : ''}`
  return `the host touched memory that it does not own, the hypervisor's or a guest's: host VA ${formatU64(far!.value)}${page}`
}

/** Whether the hypervisor itself used an address that no translation maps. */
function hypFault({ far, esr }: Subject): boolean {
  return far?.kind === 'hyp' && esr?.abort !== undefined && isTranslationFault(esr.abort.status)
}

/** Whether the hypervisor used an unmapped address that is neither near NULL nor the kernel's. */
function mayLeaveStack(panic: Subject): boolean {
  if (!hypFault(panic) || panic.esr!.abort!.kind !== 'data') return false
  const { value } = panic.far!
  return value >= NULL_PAGE && value >> 55n === 0n
}

function onStack(panic: Subject): boolean {
  const { word } = faulting(panic)
  return word !== undefined && accessesStack(word)
}

function inPrivate({ far, classify }: Subject): boolean {
  return classify?.(far!.value).kind === 'private'
}

/** Since 5.18 a stack's page has bit PAGE_SHIFT set, the guard below it clear. */
function inGuard({ far, layout }: Subject): boolean {
  return ((far!.value >> BigInt(Math.log2(layout.pageSize ?? 4096))) & 1n) === 0n
}

/** The link-time address of a PC that is the hypervisor's. */
function linkOf({ pc, facts: { hypOffset } }: Subject): bigint | undefined {
  return pc?.of !== 'hyp' || hypOffset === undefined ? undefined : wrap64(pc.value + hypOffset)
}

/** The hypervisor's text at link-time addresses, where the tables tell. */
function hypText({ table }: Subject): Range | undefined {
  const start = table?.landmarks.get('__hyp_idmap_text_start') ?? table?.landmarks.get('__hyp_text_start')
  const end = table?.landmarks.get('__hyp_text_end')
  return start === undefined || end === undefined ? undefined : { start, end }
}

function outsideText({ pc, far, esr }: Subject, where: string): string {
  const jump =
    esr?.abort?.kind === 'instruction' && esr.abort.current && far?.value === pc!.value
      ? ': a jump through a bad pointer'
      : ''
  return `PC ${formatU64(pc!.value)} is outside the hypervisor's text, ${where}${jump}`
}

function overwritten({ esr }: Subject): string {
  return `PC is __guest_exit_panic, where this kernel goes after an exception at EL2 while a guest's vectors are installed (__kvm_unexpected_el2_exception): the instruction that took the ${esr?.exceptionClass.text ?? 'exception'} is not in the log`
}
