import { FileFindings } from '../evidence/facts.js'
import { lineFilterOf } from '../evidence/line-filter.js'
import {
  HYP_OFFSET,
  INVALID_HOST_EXCEPTION,
  KERNEL_OFFSET,
  KERNEL_OFFSET_DISABLED,
  PANIC_AT,
  PHYS_OFFSET,
  PS_PC,
  TRACE_ENTRY,
} from '../evidence/panic-lines.js'
import { EVIDENCE_WORDS, TextReaders } from '../evidence/read.js'
import { type ByteSource, forEachLine, ownText } from '../source.js'

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
  /** Those lines of the boot it belongs to that are evidence of the layout; others between them are as good as one. */
  readonly boot: string
}

type Register = 'ps' | 'pc' | 'esr' | 'far' | 'hpfar' | 'par' | 'vcpu'
type Writable<T> = { -readonly [K in keyof T]: T[K] }
type Draft = Writable<Omit<PrintedPanic, 'boot'>> & {
  backtrace: PrintedAddress[]
  registers: boolean
  inTrace: boolean
  bootIndex: number
  /** How many panics were found before it. */
  order: number
}

/** Panics whose registers are not printed yet; the blocks of more CPUs than this do not come mixed up. */
const MOST_OPEN = 64

const KVM = /\bkvm \[(\d+)\]: /
const TRACE_BEGINS = /\bnVHE (?:HYP |hyp )?call trace:/i
const TRACE_ENDS = /-\[? ?end (?:of )?(?:Protected )?nVHE (?:HYP |hyp )?call trace/i
const PROTECTED = /\bpKVM nVHE stacktrace|\bProtected nVHE (?:HYP |hyp )?call trace/i
const HYP_PANIC = /\bKernel panic - not syncing: HYP panic:/
const CODE = /\bCode: ((?:(?:\(?[0-9a-f]{8}\)?|\?{8}|bad PC value) ?)+)/
const BOOT = /\bLinux version \d/
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
/** A line with one of these is nothing that a kernel printed. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/
/** Bytes of what a prefix may hold, a host's name say, and no kernel prints. */
const FOREIGN = /[^\t\x20-\x7e]/g

/** A line with blanks for what is not ASCII; undefined when it is no text, or mostly none. */
function printable(text: string): string | undefined {
  if (text === '' || CONTROL.test(text)) return undefined
  const foreign = text.match(FOREIGN)?.length ?? 0
  return foreign * 2 > text.length ? undefined : text.replace(FOREIGN, ' ')
}
/** Cheap: a line with none of these says nothing of a panic. */
const HINTS = ['hyp ', 'nVHE', 'HYP', '>] ', 'Offset', 'OFFSET', 'PS:', 'FAR:', 'PAR:', 'ESR:', 'VCPU:', 'Code:']

/** The rest of what is looked for is beside an address. */
const FILTER = lineFilterOf([...EVIDENCE_WORDS, 'nVHE', 'HYP panic:', 'Code:', 'Offset', 'OFFSET', 'VCPU:'])

const hex = (digits: string): bigint => (digits === '(null)' ? 0n : BigInt(`0x${digits}`))

/** Finds the hyp panics of a log, whatever else is in it. */
export function parsePanics(source: ByteSource): PrintedPanic[] {
  const reader = new Reader()
  let last: string | undefined
  let count = 0
  const take = (text: string, line: number): void => {
    if (last !== undefined) reader.line(last, count)
    last = text
    count = line
  }
  const complete = forEachLine(source, take, FILTER)
  // Where the log is cut inside a line, its last number may be as well.
  if (last !== undefined) reader.line(complete ? last : last.replace(CUT_NUMBER, ''), count)
  return reader.panics()
}

/** A number at the end that is not as long as all 64-bit values are that stand there. */
const CUT_NUMBER = /(?:0x|:)[0-9a-f]{1,15}$/

/** Panics of one log, entries of one backtrace (a hyp stack of 64 KiB has no more frames), lines of evidence at each end of a boot. */
const MOST_PANICS = 10_000
const MOST_ENTRIES = 4096
const MOST_LINES = 4096

/** The lines of one boot that are evidence. A boot may have any number: the first and the last of them are kept. */
class BootLines {
  private readonly readers = new TextReaders(new FileFindings('log', 0))
  private readonly first: string[] = []
  private last: string[] = []
  private other = false

  add(text: string, line: number): void {
    const evidence = this.readers.line(text, line)
    // What stands between two lines keeps the second from being taken for an answer to the first.
    if (!evidence && this.other) return
    this.other = !evidence
    const kept = evidence ? ownText(text) : OTHER_LINE
    if (this.first.length < MOST_LINES) this.first.push(kept)
    else {
      this.last.push(kept)
      if (this.last.length === 2 * MOST_LINES) this.last = this.last.slice(MOST_LINES)
    }
  }

  get text(): string {
    return [...this.first, ...this.last.slice(-MOST_LINES)].join('\n')
  }
}

/** Stands for lines that are no evidence. */
const OTHER_LINE = '.'

class Reader {
  private readonly drafts: Draft[] = []
  /** Of this boot: those whose registers were not printed yet, those whose registers are of a block without PS, and by PS and PC. */
  private waiting: Draft[] = []
  private begun: Draft[] = []
  private byRegisters = new Map<string, Draft>()
  private readonly boots: { lines: BootLines; facts: Pick<Draft, 'kaslrOffset' | 'linkBase' | 'physOffset'> }[] = [
    { lines: new BootLines(), facts: {} },
  ]
  /** More panics began than are kept: what follows is not read. */
  private full = false
  private versions = 0
  /** The panic whose registers are being printed. */
  private printing: Draft | undefined
  /** The panic block that is being printed is the repetition at the end. */
  private repeating = false
  /** The block that is being printed has the short ESR of old kernels. */
  private oldBlock = false

  line(text: string, line: number): void {
    if (this.full) return
    if (BOOT.test(text) && this.versions++ > 0) {
      // Of a boot without a panic nothing is wanted.
      if (this.drafts.at(-1)?.bootIndex !== this.boots.length - 1) this.boots.pop()
      this.boots.push({ lines: new BootLines(), facts: {} })
      this.printing = undefined
      this.waiting = []
      this.begun = []
      this.byRegisters = new Map()
    }
    const boot = this.boots.at(-1)!
    const kept = printable(text)
    if (kept !== undefined) boot.lines.add(kept, line)
    if (!HINTS.some((hint) => text.includes(hint))) return

    const pid = Number(KVM.exec(text)?.[1] ?? Number.NaN)
    this.header(text, line, pid)
    this.trace(text, line, pid)
    // Printed between the backtrace and Hyp Offset; any other is a host's.
    const code = CODE.exec(text)
    const coded =
      code &&
      this.open(
        pid,
        (one) => one.code === undefined && one.hypOffset === undefined && !one.inTrace && one.kind !== undefined,
      )
    if (coded) {
      coded.code = parseCode(code[1]!)
      coded.lastLine = line
    }
    const offset = HYP_OFFSET.exec(text)
    if (offset !== null) {
      const draft = this.open(pid, (one) => one.hypOffset === undefined) ?? this.begin(line, pid)
      draft.hypOffset = hex(offset[1]!)
      draft.lastLine = line
    }
    this.registers(text, line)
    this.offsets(text)
  }

  /** Begins a panic. */
  private begin(line: number, pid: number): Draft {
    const draft: Draft = {
      firstLine: line,
      lastLine: line,
      backtrace: [],
      registers: false,
      inTrace: false,
      bootIndex: this.boots.length - 1,
      order: this.drafts.length,
      ...(!Number.isNaN(pid) && { pid }),
    }
    if (this.drafts.length < MOST_PANICS) this.drafts.push(draft)
    else this.full = true
    this.waiting.push(draft)
    if (this.waiting.length > 2 * MOST_OPEN) this.waiting.splice(0, MOST_OPEN)
    return draft
  }

  /** The last panic of this boot whose registers have not been printed yet; `kvm [PID]` tells those of two CPUs apart. */
  private open(pid: number, wanted: (draft: Draft) => boolean): Draft | undefined {
    return this.waiting.findLast(
      (draft) => (Number.isNaN(pid) || draft.pid === undefined || draft.pid === pid) && wanted(draft),
    )
  }

  /** The registers of a panic are being printed: it waits for none any more. */
  private print(draft: Draft): void {
    this.printing = draft
    draft.registers = true
    const at = this.waiting.lastIndexOf(draft)
    if (at >= 0) this.waiting.splice(at, 1)
  }

  private header(text: string, line: number, pid: number): void {
    const at = PANIC_AT.exec(text)
    if (at !== null) {
      const [, kind, plain, bracketed, symbol, bare, place] = at
      const draft = this.begin(line, pid)
      draft.kind = ownText(kind ?? plain!)
      const address = bracketed ?? bare
      if (address !== undefined) {
        const name = symbol?.includes('+0x') ? symbol : undefined
        draft.at = { address: hex(address), ...(name !== undefined && { symbol: ownText(name) }) }
      }
      if (place !== undefined) draft.place = ownText(place)
      return
    }
    if (INVALID_HOST_EXCEPTION.test(text)) {
      this.begin(line, pid).kind = 'invalid host exception'
      return
    }
    if (text.includes('HYP panic:')) {
      this.repeating = text.includes('end Kernel panic')
      if (!this.repeating && HYP_PANIC.test(text)) {
        this.printing = undefined
        if (this.open(Number.NaN, () => true) === undefined) this.begin(line, Number.NaN)
      }
    }
  }

  private trace(text: string, line: number, pid: number): void {
    if (PROTECTED.test(text)) {
      const draft = this.open(pid, () => true)
      if (draft !== undefined) draft.protected = true
    }
    if (TRACE_ENDS.test(text)) {
      const draft = this.open(pid, (one) => one.inTrace)
      if (draft !== undefined) draft.inTrace = false
      return
    }
    if (TRACE_BEGINS.test(text)) {
      const draft = this.open(pid, () => true) ?? this.begin(line, pid)
      draft.inTrace = true
      draft.lastLine = line
      return
    }
    const entry = TRACE_ENTRY.exec(text)
    if (entry === null || PANIC_AT.test(text)) return
    const [, address, symbol] = entry
    // A host's own backtrace looks alike in old kernels; the hypervisor's is printed by KVM.
    const nvhe = symbol!.startsWith('__kvm_nvhe_')
    const draft =
      this.open(pid, (one) => one.inTrace || nvhe) ?? (nvhe && !Number.isNaN(pid) ? this.begin(line, pid) : undefined)
    if (draft === undefined) return
    if (draft.backtrace.length < MOST_ENTRIES) {
      draft.backtrace.push({ address: hex(address!), ...(symbol!.includes('+') && { symbol: ownText(symbol!) }) })
    }
    draft.lastLine = line
  }

  private registers(text: string, line: number): void {
    const found = PS_PC.exec(text)
    if (found !== null) {
      const [ps, pc] = [hex(found[1]!), hex(found[2]!)]
      const printing = this.target(ps, pc) ?? this.begin(line, Number.NaN)
      this.print(printing)
      this.oldBlock = false
      printing.ps ??= ps
      printing.pc ??= pc
      const key = `${printing.ps} ${printing.pc}`
      const known = this.byRegisters.get(key)
      if (known === undefined || known.order < printing.order) this.byRegisters.set(key, printing)
      if (!this.repeating) printing.lastLine = line
    } else if (this.printing === undefined && /\bFAR:[0-9a-f]{16} HPFAR:[0-9a-f]{16}\b/.test(text)) {
      // The log, or what is left of it, begins between the lines of the block.
      const printing = this.open(Number.NaN, () => true) ?? this.begin(line, Number.NaN)
      this.print(printing)
      this.begun.push(printing)
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
    const fits = ({ at, hypOffset }: Draft) =>
      at === undefined || hypOffset === undefined || BigInt.asUintN(64, pc + hypOffset) === at.address
    const waiting = this.open(Number.NaN, fits)
    if (waiting !== undefined) return waiting
    this.repeating = repeated !== undefined
    return repeated
  }

  private offsets(text: string): void {
    const { facts } = this.boots.at(-1)!
    const kernel = KERNEL_OFFSET.exec(text)
    if (kernel !== null) Object.assign(facts, { kaslrOffset: hex(kernel[1]!), linkBase: hex(kernel[2]!) })
    if (KERNEL_OFFSET_DISABLED.test(text)) Object.assign(facts, { kaslrOffset: 0n })
    const phys = PHYS_OFFSET.exec(text)
    if (phys !== null) Object.assign(facts, { physOffset: hex(phys[1]!) })
  }

  panics(): PrintedPanic[] {
    const boots = this.boots.map(({ lines, facts }) => ({ ...facts, boot: lines.text }))
    return this.drafts
      .toSorted((a, b) => a.firstLine - b.firstLine)
      .map(({ registers: _, inTrace: __, order: ___, bootIndex, ...printed }, i) => {
        const more = this.full && i === this.drafts.length - 1
        return { ...printed, ...(more && { more }), ...boots[bootIndex]! }
      })
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
