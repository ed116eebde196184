import { ownText } from '../../source.js'

// What a host prints when the hypervisor at EL2 has died (nvhe_hyp_panic_handler and panic(), all versions). Every pattern holds
// anywhere in a line, whatever prefix stands before.

/** One entry of a printed backtrace, or where a panic happened: a link-time address and what the kernel called it. */
export interface PrintedAddress {
  readonly address: bigint
  /** As printed, by `%pB`; absent where the kernel had no name. */
  readonly symbol?: string
}

/** A hyp panic as the log prints it; what is absent was not printed, or is not in this part of the log. */
export interface PrintedPanic {
  /** Lines of the log, from 1, that it takes up, other lines between them included. */
  readonly firstLine: number
  readonly lastLine: number
  /** `panic`, `BUG`, `CFI failure`, a UBSAN message; `invalid host exception`. */
  readonly kind?: string
  /** Of the process that KVM ran for. */
  readonly pid?: number
  readonly at?: PrintedAddress
  /** `FILE:LINE` of a BUG. */
  readonly place?: string
  readonly backtrace: readonly PrintedAddress[]
  /** Instruction words around the one that faulted, and which of them that is. */
  readonly code?: { readonly words: readonly (number | undefined)[]; readonly faulting: number }
  readonly hypOffset?: bigint
  readonly ps?: bigint
  readonly pc?: bigint
  readonly esr?: bigint
  readonly far?: bigint
  readonly hpfar?: bigint
  readonly par?: bigint
  readonly vcpu?: bigint
  /** VCPU is no address: the kernel printed a hash of a pointer that is not null, or `(____ptrval____)`, when `vcpu` is absent. */
  readonly vcpuHashed?: true
  readonly kaslrOffset?: bigint
  /** KIMAGE_VADDR, where the image is linked. */
  readonly linkBase?: bigint
  readonly physOffset?: bigint
  /** The log says that the hypervisor was a protected one. */
  readonly protected?: boolean
  /** The log holds further panics, which are not read: this is the 10,000th. */
  readonly more?: true
}

/** What one line says that is evidence of the layout and part of a printed panic alike. */
export interface PanicLine {
  readonly text: string
  /** `nVHE hyp panic at: …`. */
  readonly at?: {
    readonly kind: string
    readonly address?: bigint
    readonly symbol?: string
    /** `FILE:LINE`. */
    readonly place?: string
  }
  /** An entry of a backtrace, the hypervisor's or a host's own. */
  readonly entry?: { readonly address: bigint; readonly symbol: string }
  /** What to add to a hyp address to get its link-time address. */
  readonly hypOffset?: bigint
  readonly kaslrOffset?: bigint
  /** KIMAGE_VADDR; absent where the log says that KASLR is disabled. */
  readonly linkBase?: bigint
  readonly physOffset?: bigint
  readonly status?: { readonly ps: bigint; readonly pc: bigint }
}

/** Cheap: a line with none of these is no part of a panic. */
const HINTS = ['hyp ', 'nVHE', 'HYP', '>] ', 'Offset', 'OFFSET', 'PS:', 'FAR:', 'PAR:', 'ESR:', 'VCPU:', 'Code:']

/** Every line of a panic has one of these words in it, or an address. */
export const PANIC_WORDS = ['hyp ', 'nVHE', 'HYP panic:', 'Code:', 'Offset', 'VCPU:']

/**
 * `nVHE hyp panic at: [<ffff8000812c33b4>] __kvm_nvhe___kvm_vcpu_run+0x24/0x718!`, with BUG, CFI failure or a UBSAN message for
 * panic; since 5.19 the address is in brackets. A BUG whose place the kernel knows prints `FILE:LINE!`.
 * Groups: kind, kind, bracketed link address, symbol, bare link address, FILE:LINE.
 */
const PANIC_AT =
  /\b(?:nVHE hyp ([A-Za-z][\w:, -]{2,60}?)|hyp (panic|BUG|CFI failure)) at: (?:\[<([0-9a-f]{8,16})>\](?: ([^\s!]+(?: \[[^\]!]+\])?))?|(?:0x)?([0-9a-f]{16})\b|([^\s!]+:\d+))/i
/** ` [<ffff8000812c3b64>] __kvm_nvhe_hyp_panic+0xbc/0xe8`: groups link address, symbol. */
const TRACE_ENTRY = /\[<([0-9a-f]{16})>\] +(\S+\+0x[0-9a-f]+\/0x[0-9a-f]+(?: \[[^\]]+\])?|0x[0-9a-f]{16})/
const HYP_OFFSET = /\bHyp Offset: (?:0x)?([0-9a-f]{1,16})\b/
/** Groups: KASLR offset, KIMAGE_VADDR. */
const KERNEL_OFFSET = /\bKernel Offset: 0x([0-9a-f]{1,16}) from 0x([0-9a-f]{1,16})/
const KERNEL_OFFSET_DISABLED = /\bKernel Offset: disabled/
const PHYS_OFFSET = /\bPHYS_OFFSET: 0x([0-9a-f]{1,16})/
const PS_PC = /\bPS:([0-9a-f]{8,16}) PC:([0-9a-f]{16})\b/

const hex = (digits: string): bigint => (digits === '(null)' ? 0n : BigInt(`0x${digits}`))

/** Reads a line that may belong to a panic; undefined for any other. */
export function panicLine(text: string): PanicLine | undefined {
  if (!HINTS.some((hint) => text.includes(hint))) return undefined
  const at = PANIC_AT.exec(text)
  const entry = TRACE_ENTRY.exec(text)
  const hypOffset = HYP_OFFSET.exec(text)?.[1]
  const kernel = KERNEL_OFFSET.exec(text)
  const phys = PHYS_OFFSET.exec(text)?.[1]
  const status = PS_PC.exec(text)
  return {
    text,
    ...(at !== null && { at: placeOf(at) }),
    ...(entry !== null && { entry: { address: hex(entry[1]!), symbol: entry[2]! } }),
    ...(hypOffset !== undefined && { hypOffset: hex(hypOffset) }),
    ...(kernel !== null && { kaslrOffset: hex(kernel[1]!), linkBase: hex(kernel[2]!) }),
    ...(KERNEL_OFFSET_DISABLED.test(text) && { kaslrOffset: 0n }),
    ...(phys !== undefined && { physOffset: hex(phys) }),
    ...(status !== null && { status: { ps: hex(status[1]!), pc: hex(status[2]!) } }),
  }
}

function placeOf([, kind, plain, bracketed, symbol, bare, place]: RegExpExecArray): NonNullable<PanicLine['at']> {
  const address = bracketed ?? bare
  return {
    kind: kind ?? plain!,
    ...(address !== undefined && { address: hex(address) }),
    ...(symbol?.includes('+0x') && { symbol }),
    ...(place !== undefined && { place }),
  }
}

/**
 * Hyp Offset by where a panic was and by its PC, for a log that lost the line: nothing but a hyp address at EL2 will do, and of two
 * panics mixed up the difference is hardly a whole number of pages.
 */
export function hypOffsetOf(at: bigint, ps: bigint, pc: bigint): bigint | undefined {
  const offset = BigInt.asUintN(64, at - pc)
  const el2 = ((ps >> 2n) & 3n) === 2n
  return el2 && pc >> 52n === 0n && pc !== 0n && at >> 55n === 0x1ffn && offset % 4096n === 0n ? offset : undefined
}

type Register = 'ps' | 'pc' | 'esr' | 'far' | 'hpfar' | 'par' | 'vcpu'
type Writable<T> = { -readonly [K in keyof T]: T[K] }
type Draft = Writable<PrintedPanic> & { backtrace: PrintedAddress[] }

/** A panic whose lines are still being read, and whether those of its backtrace are. */
interface Reading {
  readonly draft: Draft
  inTrace: boolean
}

/** Panics whose registers are not printed yet; the blocks of more CPUs than this do not come mixed up. */
const MOST_OPEN = 64
/** Entries of one backtrace: a hyp stack of 64 KiB has no more frames. */
const MOST_ENTRIES = 4096

const KVM = /\bkvm \[(\d+)\]: /
/** The exception came from the host's or a guest's level, where none is expected: there is no place in the hypervisor to name. */
const INVALID_HOST_EXCEPTION = /\bInvalid host exception to nVHE hyp!/
const TRACE_BEGINS = /\bnVHE (?:HYP |hyp )?call trace:/i
const TRACE_ENDS = /-\[? ?end (?:of )?(?:Protected )?nVHE (?:HYP |hyp )?call trace/i
const PROTECTED = /\bpKVM nVHE stacktrace|\bProtected nVHE (?:HYP |hyp )?call trace/i
const HYP_PANIC = /\bKernel panic - not syncing: HYP panic:/
const CODE = /\bCode: ((?:(?:\(?[0-9a-f]{8}\)?|\?{8}|bad PC value) ?)+)/
const FAR_HPFAR = /\bFAR:[0-9a-f]{16} HPFAR:[0-9a-f]{16}\b/
/** Registers that may stand on a line of their own, or with others; older kernels print eight digits of ESR. */
const REGISTERS: readonly (readonly [Register, RegExp])[] = [
  ['esr', /\bESR:([0-9a-f]{16}|[0-9a-f]{8})\b/],
  ['far', /\bFAR:([0-9a-f]{16})\b/],
  ['hpfar', /\bHPFAR:([0-9a-f]{16})\b/],
  ['par', /\bPAR:([0-9a-f]{16})\b/],
  ['vcpu', /\bVCPU: *([0-9a-f]{8,16}\b|\(null\)|\(_+ptrval_+\))/],
]
/** How many digits of ESR the kernels printed that printed VCPU with %p, hashed from 4.15 to 5.11. */
const OLD_ESR_DIGITS = 8
const HASH_BITS = 32n

/** Puts together the panics that one boot prints, whatever lines stand between theirs. */
export class PanicReader {
  /** More panics began than are kept; what follows need not be read. */
  full = false
  private readonly most: number
  private readonly drafts: Draft[] = []
  /** Panics whose registers were not printed yet, those whose registers are of a block without PS, and all by PS and PC. */
  private readonly waiting: Reading[] = []
  private readonly begun: Draft[] = []
  private readonly byRegisters = new Map<string, Draft>()
  private readonly offsets: Pick<Draft, 'kaslrOffset' | 'linkBase' | 'physOffset'> = {}
  /** The panic whose registers are being printed. */
  private printing: Draft | undefined
  /** The panic block that is being printed is the repetition at the end. */
  private repeating = false
  /** The block that is being printed has the short ESR of old kernels. */
  private oldBlock = false

  /** @param most panics are kept */
  constructor(most: number) {
    this.most = most
  }

  /** How many panics there are so far. */
  get count(): number {
    return this.drafts.length
  }

  line(read: PanicLine, line: number): void {
    const { text, hypOffset } = read
    const pid = Number(KVM.exec(text)?.[1] ?? Number.NaN)
    this.header(read, line, pid)
    this.trace(read, line, pid)
    this.code(text, line, pid)
    if (hypOffset !== undefined) {
      const { draft } = this.open(pid, ({ draft }) => draft.hypOffset === undefined) ?? this.begin(line, pid)
      draft.hypOffset = hypOffset
      draft.lastLine = line
    }
    this.registers(read, line)
    for (const field of ['kaslrOffset', 'linkBase', 'physOffset'] as const) {
      if (read[field] !== undefined) this.offsets[field] = read[field]
    }
  }

  /** All of them, in the order of the log, with the offsets that the boot prints once. */
  panics(): PrintedPanic[] {
    return this.drafts.map((draft) => ({ ...draft, ...this.offsets }))
  }

  private begin(line: number, pid: number): Reading {
    const draft: Draft = {
      firstLine: line,
      lastLine: line,
      backtrace: [],
      ...(!Number.isNaN(pid) && { pid }),
    }
    if (this.drafts.length < this.most) this.drafts.push(draft)
    else this.full = true
    const reading = { draft, inTrace: false }
    this.waiting.push(reading)
    if (this.waiting.length > 2 * MOST_OPEN) this.waiting.splice(0, MOST_OPEN)
    return reading
  }

  /** The last panic whose registers have not been printed yet; `kvm [PID]` tells those of two CPUs apart. */
  private open(pid: number, wanted: (reading: Reading) => boolean): Reading | undefined {
    return this.waiting.findLast(
      (reading) =>
        (Number.isNaN(pid) || reading.draft.pid === undefined || reading.draft.pid === pid) && wanted(reading),
    )
  }

  private header({ text, at }: PanicLine, line: number, pid: number): void {
    if (at !== undefined) {
      const { kind, address, symbol, place } = at
      const { draft } = this.begin(line, pid)
      draft.kind = ownText(kind)
      if (address !== undefined) draft.at = { address, ...(symbol !== undefined && { symbol: ownText(symbol) }) }
      if (place !== undefined) draft.place = ownText(place)
    } else if (INVALID_HOST_EXCEPTION.test(text)) {
      this.begin(line, pid).draft.kind = 'invalid host exception'
    } else if (text.includes('HYP panic:')) {
      this.repeating = text.includes('end Kernel panic')
      if (!this.repeating && HYP_PANIC.test(text)) {
        this.printing = undefined
        if (this.open(Number.NaN, () => true) === undefined) this.begin(line, Number.NaN)
      }
    }
  }

  private trace({ text, at, entry }: PanicLine, line: number, pid: number): void {
    if (PROTECTED.test(text)) {
      const open = this.open(pid, () => true)
      if (open !== undefined) open.draft.protected = true
    }
    if (TRACE_ENDS.test(text)) {
      const open = this.open(pid, ({ inTrace }) => inTrace)
      if (open !== undefined) open.inTrace = false
      return
    }
    if (TRACE_BEGINS.test(text)) {
      const open = this.open(pid, () => true) ?? this.begin(line, pid)
      open.inTrace = true
      open.draft.lastLine = line
      return
    }
    if (entry === undefined || at !== undefined) return
    const { address, symbol } = entry
    // A host's own backtrace looks alike in old kernels; the hypervisor's is printed by KVM.
    const nvhe = symbol.startsWith('__kvm_nvhe_')
    const open =
      this.open(pid, ({ inTrace }) => inTrace || nvhe) ??
      (nvhe && !Number.isNaN(pid) ? this.begin(line, pid) : undefined)
    if (open === undefined) return
    const { draft } = open
    if (draft.backtrace.length < MOST_ENTRIES) {
      draft.backtrace.push({ address, ...(symbol.includes('+') && { symbol: ownText(symbol) }) })
    }
    draft.lastLine = line
  }

  /** The words are printed between the backtrace and Hyp Offset; any others are a host's. */
  private code(text: string, line: number, pid: number): void {
    const words = CODE.exec(text)?.[1]
    if (words === undefined) return
    const open = this.open(
      pid,
      ({ draft, inTrace }) =>
        draft.code === undefined && draft.hypOffset === undefined && !inTrace && draft.kind !== undefined,
    )
    if (open === undefined) return
    open.draft.code = parseCode(words)
    open.draft.lastLine = line
  }

  private registers({ text, status }: PanicLine, line: number): void {
    if (status !== undefined) {
      const { ps, pc } = status
      const draft = this.target(ps, pc) ?? this.begin(line, Number.NaN).draft
      this.print(draft)
      this.oldBlock = false
      draft.ps ??= ps
      draft.pc ??= pc
      const key = `${draft.ps} ${draft.pc}`
      const known = this.byRegisters.get(key)
      if (known === undefined || known.firstLine < draft.firstLine) this.byRegisters.set(key, draft)
      if (!this.repeating) draft.lastLine = line
    } else if (this.printing === undefined && FAR_HPFAR.test(text)) {
      // The log, or what is left of it, begins between the lines of the block.
      const { draft } = this.open(Number.NaN, () => true) ?? this.begin(line, Number.NaN)
      this.print(draft)
      this.begun.push(draft)
    }
    const { printing } = this
    if (printing === undefined) return
    for (const [register, pattern] of REGISTERS) {
      const value = pattern.exec(text)?.[1]
      if (value === undefined) continue
      if (register === 'esr') this.oldBlock = value.length === OLD_ESR_DIGITS
      if (value.includes('ptrval')) printing.vcpuHashed = true
      else printing[register] ??= hex(value)
      if (register === 'vcpu' && this.oldBlock && isHash(printing)) printing.vcpuHashed = true
      if (!this.repeating) printing.lastLine = line
      // The last line of the block.
      if (register === 'vcpu') {
        this.printing = undefined
        this.repeating = false
      }
    }
  }

  /** The registers of a panic are being printed: it waits for none any more. */
  private print(draft: Draft): void {
    this.printing = draft
    const at = this.waiting.findLastIndex((reading) => reading.draft === draft)
    if (at >= 0) this.waiting.splice(at, 1)
  }

  /** To which panic registers belong: the one that waits for them, or, at the end of the log's panic, the one they repeat. */
  private target(ps: bigint, pc: bigint): Draft | undefined {
    const repeated = this.byRegisters.get(`${ps} ${pc}`)
    if (this.repeating && repeated !== undefined) return repeated
    if (this.repeating) {
      // The log begins inside the block that this one repeats.
      while (this.begun.at(-1)?.ps !== undefined) this.begun.pop()
      const begun = this.begun.at(-1)
      if (begun !== undefined) return begun
    }
    const fits = ({ draft: { at, hypOffset } }: Reading) =>
      at === undefined || hypOffset === undefined || BigInt.asUintN(64, pc + hypOffset) === at.address
    const waiting = this.open(Number.NaN, fits)
    if (waiting !== undefined) return waiting.draft
    this.repeating = repeated !== undefined
    return repeated
  }
}

/** Whether VCPU, where PC is an address with a tag, has no bit above those of a hash. */
function isHash({ vcpu, pc }: Draft): boolean {
  return vcpu !== undefined && vcpu !== 0n && vcpu >> HASH_BITS === 0n && pc !== undefined && pc >> HASH_BITS !== 0n
}

function parseCode(text: string): NonNullable<PrintedPanic['code']> {
  const words = text.trim().match(/\(?[0-9a-f]{8}\)?|\?{8}/g) ?? []
  const faulting = words.findIndex((word) => word.startsWith('('))
  return {
    words: words.map((word) => (word.includes('?') ? undefined : Number.parseInt(word.replace(/[()]/g, ''), 16))),
    faulting: faulting < 0 ? words.length - 1 : faulting,
  }
}
