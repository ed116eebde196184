// Decodes syndrome registers field by field. Exception classes and faults have the names that the kernel prints. Each table names its
// section of the Arm Architecture Reference Manual (ARM DDI 0487).

/** One field of a register. */
export interface RegisterField {
  /** The architecture's name. */
  readonly name: string
  readonly value: bigint
  /** What the value means; empty where the number needs no explanation. */
  readonly text: string
}

/** An exception class. */
export interface ExceptionClass {
  readonly code: number
  /** As in asm/esr.h, without ESR_ELx_EC_. */
  readonly name: string
  /** As esr_get_class_string() of arch/arm64/kernel/traps.c prints it. */
  readonly text: string
}

/** DDI 0487, "ESR_EL2", field EC; names and texts: asm/esr.h and arch/arm64/kernel/traps.c of the kernel. */
const CLASSES: readonly (readonly [number, string, string])[] = [
  [0x00, 'UNKNOWN', 'Unknown/Uncategorized'],
  [0x01, 'WFx', 'WFI/WFE'],
  [0x03, 'CP15_32', 'CP15 MCR/MRC'],
  [0x04, 'CP15_64', 'CP15 MCRR/MRRC'],
  [0x05, 'CP14_MR', 'CP14 MCR/MRC'],
  [0x06, 'CP14_LS', 'CP14 LDC/STC'],
  [0x07, 'FP_ASIMD', 'ASIMD'],
  [0x08, 'CP10_ID', 'CP10 MRC/VMRS'],
  [0x09, 'PAC', 'PAC'],
  [0x0a, 'OTHER', 'Trapped LD64B/ST64B* or other'],
  [0x0c, 'CP14_64', 'CP14 MCRR/MRRC'],
  [0x0d, 'BTI', 'BTI'],
  [0x0e, 'ILL', 'PSTATE.IL'],
  [0x11, 'SVC32', 'SVC (AArch32)'],
  [0x12, 'HVC32', 'HVC (AArch32)'],
  [0x13, 'SMC32', 'SMC (AArch32)'],
  [0x14, 'SYSREG128', 'MSRR/MRRS/SYSP'],
  [0x15, 'SVC64', 'SVC (AArch64)'],
  [0x16, 'HVC64', 'HVC (AArch64)'],
  [0x17, 'SMC64', 'SMC (AArch64)'],
  [0x18, 'SYS64', 'MSR/MRS (AArch64)'],
  [0x19, 'SVE', 'SVE'],
  [0x1a, 'ERET', 'ERET/ERETAA/ERETAB'],
  [0x1c, 'FPAC', 'FPAC'],
  [0x1d, 'SME', 'SME'],
  [0x1e, 'GPC', 'Granule Protection Check'],
  [0x1f, 'IMP_DEF', 'EL3 IMP DEF'],
  [0x20, 'IABT_LOW', 'IABT (lower EL)'],
  [0x21, 'IABT_CUR', 'IABT (current EL)'],
  [0x22, 'PC_ALIGN', 'PC Alignment'],
  [0x24, 'DABT_LOW', 'DABT (lower EL)'],
  [0x25, 'DABT_CUR', 'DABT (current EL)'],
  [0x26, 'SP_ALIGN', 'SP Alignment'],
  [0x27, 'MOPS', 'MOPS'],
  [0x28, 'FP_EXC32', 'FP (AArch32)'],
  [0x2c, 'FP_EXC64', 'FP (AArch64)'],
  [0x2d, 'GCS', 'Guarded Control Stack'],
  [0x2f, 'SERROR', 'SError'],
  [0x30, 'BREAKPT_LOW', 'Breakpoint (lower EL)'],
  [0x31, 'BREAKPT_CUR', 'Breakpoint (current EL)'],
  [0x32, 'SOFTSTP_LOW', 'Software Step (lower EL)'],
  [0x33, 'SOFTSTP_CUR', 'Software Step (current EL)'],
  [0x34, 'WATCHPT_LOW', 'Watchpoint (lower EL)'],
  [0x35, 'WATCHPT_CUR', 'Watchpoint (current EL)'],
  [0x38, 'BKPT32', 'BKPT (AArch32)'],
  [0x3a, 'VECTOR32', 'Vector catch (AArch32)'],
  [0x3c, 'BRK64', 'BRK (AArch64)'],
  [0x3d, 'EBEP', 'PMU exception'],
]

/**
 * Fault status codes without a level in their low bits: DDI 0487, "ESR_EL2", "ISS encoding for an exception from a Data Abort", DFSC (the
 * IFSC of an Instruction Abort has a subset). Texts: fault_info of arch/arm64/mm/fault.c, where it has one.
 */
const FAULTS: ReadonlyMap<number, string> = new Map([
  [0x10, 'synchronous external abort'],
  [0x11, 'synchronous tag check fault'],
  [0x12, 'level -2 synchronous external abort on translation table walk'],
  [0x13, 'level -1 synchronous external abort on translation table walk'],
  [0x18, 'synchronous parity or ECC error'],
  [0x1b, 'level -1 synchronous parity or ECC error on translation table walk'],
  [0x21, 'alignment fault'],
  [0x22, 'level -2 granule protection fault on translation table walk'],
  [0x23, 'level -1 granule protection fault on translation table walk'],
  [0x28, 'granule protection fault'],
  [0x29, 'level -1 address size fault'],
  [0x2a, 'level -2 translation fault'],
  [0x2b, 'level -1 translation fault'],
  [0x2c, 'level -2 address size fault'],
  [0x30, 'TLB conflict abort'],
  [0x31, 'unsupported atomic hardware update fault'],
  [0x34, 'implementation fault (lockdown abort)'],
  [0x35, 'implementation fault (unsupported exclusive)'],
])

/** Fault status codes that hold a level (0 to 3) in their low two bits: the same table. */
const LEVELLED: readonly (readonly [number, string])[] = [
  [0x00, 'address size fault'],
  [0x04, 'translation fault'],
  [0x08, 'access flag fault'],
  [0x0c, 'permission fault'],
  [0x14, 'synchronous external abort on translation table walk'],
  [0x1c, 'synchronous parity or ECC error on translation table walk'],
  [0x24, 'granule protection fault on translation table walk'],
]

/** Describes a fault status code: `level 1 translation fault`. */
function faultText(status: number): string {
  const single = FAULTS.get(status)
  if (single !== undefined) return single
  const [, kind] = LEVELLED.find(([base]) => (status & ~3) === base) ?? []
  return kind === undefined ? 'reserved fault status' : `level ${status & 3} ${kind}`
}

/** Whether the fault status means that a stage of translation has no mapping for the address. */
export function isTranslationFault(status: number): boolean {
  return (status & ~3) === 0x04 || status === 0x2a || status === 0x2b
}

/** Whether an exception of this class sets FAR: aborts, PC_ALIGN, watchpoints and GPC (DDI 0487, "FAR_EL2"). */
export function setsFar({ code }: ExceptionClass): boolean {
  return [0x20, 0x21, 0x24, 0x25, 0x22, 0x34, 0x35, 0x1e].includes(code)
}

/** ESR_EL2, decoded. */
export interface Syndrome {
  readonly value: bigint
  readonly exceptionClass: ExceptionClass
  readonly fields: readonly RegisterField[]
  /** Present for an abort. */
  readonly abort?: {
    readonly kind: 'data' | 'instruction'
    /** True if EL2 itself took it, false if a lower exception level did. */
    readonly current: boolean
    /** DFSC or IFSC. */
    readonly status: number
    readonly text: string
    /** Present for a data abort. */
    readonly write?: boolean
    /** A stage 1 table walk caused it. */
    readonly walk: boolean
    /** Whether FAR_EL2 holds the faulting address. */
    readonly farValid: boolean
  }
  /** The immediate of a BRK, and what the kernel uses it for. */
  readonly brk?: { readonly immediate: number; readonly use: string }
}

/**
 * Decodes ESR_EL2 as an exception to EL2 leaves it.
 * @example
 * decodeEsr(0xf2000800n).exceptionClass.code // 0x3c
 */
export function decodeEsr(value: bigint): Syndrome {
  const bits = bitsOf(value)
  const code = bits(26, 6)
  const [, name, text] = CLASSES.find(([known]) => known === code) ?? [
    code,
    `0x${code.toString(16)}`,
    'reserved exception class',
  ]
  const head = [
    field('EC', code, `${name}, ${text}`),
    field('IL', bits(25), bits(25) ? '32-bit instruction' : '16-bit instruction'),
  ]
  const syndrome = (iss: readonly RegisterField[]) => ({
    value,
    exceptionClass: { code, name, text },
    fields: [...head, ...iss],
  })
  if (name.startsWith('DABT')) return { ...syndrome(dataAbort(bits)), abort: abortOf(name, bits) }
  if (name.startsWith('IABT')) {
    const iss = [...abortTail(bits), field('IFSC', bits(0, 6), faultText(bits(0, 6)))]
    return { ...syndrome(iss), abort: abortOf(name, bits) }
  }
  if (name === 'BRK64') {
    const immediate = bits(0, 16)
    const use = brkUse(immediate)
    return { ...syndrome([field('Comment', immediate, use)]), brk: { immediate, use } }
  }
  return syndrome(ISS[name]?.(bits) ?? [field('ISS', bits(0, 25))])
}

type Bits = (low: number, count?: number) => number

/** Reads `count` bits of a register from bit `low` on. */
function bitsOf(value: bigint): Bits {
  return (low, count = 1) => Number((value >> BigInt(low)) & ((1n << BigInt(count)) - 1n))
}

/** DDI 0487, "ESR_EL2", "ISS encoding for an exception from a Data Abort". */
function dataAbort(bits: Bits): RegisterField[] {
  const fields = [
    field('ISV', bits(24), bits(24) ? 'the fields that follow describe the instruction' : 'no more of the instruction'),
  ]
  if (bits(24)) {
    fields.push(
      field('SAS', bits(22, 2), `${['byte', 'halfword', 'word', 'doubleword'][bits(22, 2)]}`),
      flag(bits, 'SSE', 21, 'sign-extended'),
      field('SRT', bits(16, 5), `${bits(15) ? 'x' : 'w'}${bits(16, 5)}`),
      field('SF', bits(15), bits(15) ? '64-bit register' : '32-bit register'),
      flag(bits, 'AR', 14, 'acquire/release'),
    )
  }
  fields.push(
    flag(bits, 'VNCR', 13, 'access through VNCR_EL2'),
    ...abortTail(bits),
    flag(bits, 'CM', 8, 'cache maintenance or address translation instruction'),
    field('WnR', bits(6), bits(6) ? 'write' : 'read'),
    field('DFSC', bits(0, 6), faultText(bits(0, 6))),
  )
  return fields
}

/** What data and instruction aborts have in common. */
function abortTail(bits: Bits): RegisterField[] {
  const set = ['recoverable', '', 'uncontainable', 'restartable'][bits(11, 2)]!
  return [
    field('SET', bits(11, 2), bits(0, 6) === 0x10 ? set : ''),
    field('FnV', bits(10), bits(10) ? 'FAR is not valid' : 'FAR is valid'),
    flag(bits, 'EA', 9, 'external abort type 1'),
    flag(bits, 'S1PTW', 7, 'stage 2 fault of a stage 1 table walk'),
  ]
}

function abortOf(name: string, bits: Bits): NonNullable<Syndrome['abort']> {
  const status = bits(0, 6)
  const kind = name.startsWith('D') ? 'data' : 'instruction'
  return {
    kind,
    current: name.endsWith('CUR'),
    status,
    text: faultText(status),
    ...(kind === 'data' && { write: bits(6) === 1 }),
    walk: bits(7) === 1,
    // FnV is defined for synchronous external aborts only, and 0 for all others.
    farValid: !(status === 0x10 && bits(10) === 1),
  }
}

const AET = ['uncontainable', 'unrecoverable', 'restartable', 'recoverable', '', '', 'corrected', '']

/** DDI 0487, "ESR_EL2": the ISS encodings of the other classes that EL2 can take. */
const ISS: Readonly<Record<string, (bits: Bits) => RegisterField[]>> = {
  WFx: (bits) => [field('TI', bits(0, 2), ['WFI', 'WFE', 'WFIT', 'WFET'][bits(0, 2)]!)],
  SVC64: immediate,
  HVC64: immediate,
  SMC64: immediate,
  SYS64: (bits) => {
    const name = `S${bits(20, 2)}_${bits(14, 3)}_C${bits(10, 4)}_C${bits(1, 4)}_${bits(17, 3)}`
    return [
      field('Op0', bits(20, 2), name),
      field('Op2', bits(17, 3)),
      field('Op1', bits(14, 3)),
      field('CRn', bits(10, 4)),
      field('Rt', bits(5, 5), `x${bits(5, 5)}`),
      field('CRm', bits(1, 4)),
      field('Direction', bits(0), bits(0) ? 'read (MRS)' : 'write (MSR)'),
    ]
  },
  ERET: (bits) => [
    field('ERET', bits(1), bits(1) ? 'ERETAA or ERETAB' : 'ERET'),
    field('ERETA', bits(0), bits(0) ? 'B key' : 'A key'),
  ],
  FPAC: (bits) => [
    field('Data', bits(1), bits(1) ? 'data key' : 'instruction key'),
    field('B', bits(0), bits(0) ? 'B key' : 'A key'),
  ],
  BTI: (bits) => [field('BTYPE', bits(0, 2))],
  SERROR: (bits) => [
    flag(bits, 'IDS', 24, 'the rest is implementation defined'),
    flag(bits, 'IESB', 13, 'synchronized by the implicit error barrier'),
    field('AET', bits(10, 3), AET[bits(10, 3)]),
    field('EA', bits(9)),
    field('DFSC', bits(0, 6), bits(0, 6) === 0x11 ? 'asynchronous SError' : 'uncategorized'),
  ],
}

function immediate(bits: Bits): RegisterField[] {
  return [field('imm16', bits(0, 16))]
}

/** BRK immediates: asm/brk-imm.h. */
const BRK_USES: ReadonlyMap<number, string> = new Map([
  [0x004, 'kprobe (KPROBES_BRK_IMM)'],
  [0x005, 'uprobe (UPROBES_BRK_IMM)'],
  [0x006, 'kprobe single step (KPROBES_BRK_SS_IMM)'],
  [0x007, 'kretprobe (KRETPROBES_BRK_IMM)'],
  [0x100, 'deliberate fault (FAULT_BRK_IMM)'],
  [0x400, 'kgdb, dynamic (KGDB_DYN_DBG_BRK_IMM)'],
  [0x401, 'kgdb, compiled in (KGDB_COMPILED_DBG_BRK_IMM)'],
  [0x800, 'BUG() or WARN() (BUG_BRK_IMM); at EL2 a WARN is fatal too'],
])

/** The checks behind the compiler's undefined-behaviour traps, in the order of enum ubsan_checks in lib/ubsan.h. */
const UBSAN_CHECKS = [
  'addition overflow',
  'unreachable code reached',
  'control-flow integrity check failed',
  'division or remainder overflow',
  'dynamic type cache miss',
  'float cast overflow',
  'function type mismatch',
  'implicit conversion',
  'invalid builtin',
  'invalid Objective-C cast',
  'load of an invalid value',
  'missing return',
  'multiplication overflow',
  'negation overflow',
  'nullability of an argument',
  'nullability of a return value',
  'non-null argument',
  'non-null return value',
  'array index out of bounds',
  'pointer overflow',
  'shift out of bounds',
  'subtraction overflow',
  'type mismatch',
  'alignment assumption',
  'bound of a variable length array not positive',
] as const

/** The kernel's use of a BRK immediate: asm/brk-imm.h; arch/arm64/kernel/traps.c and lib/ubsan.h for the fields inside it. */
function brkUse(imm: number): string {
  const single = BRK_USES.get(imm)
  if (single !== undefined) return single
  if ((imm & ~0xff) === 0x900) {
    // kasan_handler() of arch/arm64/kernel/traps.c: bit 5 recover, bit 4 write, bits 3:0 log2 of the size.
    const size = 1 << (imm & 0xf)
    return `KASAN tag check (KASAN_BRK_IMM): ${imm & 0x10 ? 'write' : 'read'} of ${size} byte${size === 1 ? '' : 's'}`
  }
  if ((imm & ~0xff) === 0x5500) {
    return `UBSAN (UBSAN_BRK_IMM): ${UBSAN_CHECKS[imm & 0xff] ?? `check ${imm & 0xff}`}`
  }
  if ((imm & ~0x3ff) === 0x8000) {
    return `CFI failure (CFI_BRK_IMM_BASE): target in x${imm & 0x1f}, expected type in w${(imm >> 5) & 0x1f}`
  }
  if (imm === 1 || imm === 0x3e8) return "not the kernel's: the compiler's __builtin_trap()"
  return 'no use in the kernel'
}

function field(name: string, value: number, text = ''): RegisterField {
  return { name, value: BigInt(value), text }
}

/** A field of one bit, with the meaning of 1. */
function flag(bits: Bits, name: string, bit: number, set: string): RegisterField {
  return field(name, bits(bit), bits(bit) ? set : '')
}

/** A saved program status, decoded. */
export interface ProgramStatus {
  readonly value: bigint
  /** `EL2h`: the exception level, and `h` if it used its own stack pointer, `t` if SP_EL0; `AArch32 …` for a 32-bit mode. */
  readonly mode: string
  /** Exception level: 0 to 3; undefined for a reserved mode. */
  readonly el: number | undefined
  readonly fields: readonly RegisterField[]
}

type Modes = Readonly<Record<number, string>>

/** DDI 0487, "SPSR_EL2", field M[3:0] of AArch64 state: level and stack pointer. */
const MODES: Modes = { 0: 'EL0t', 4: 'EL1t', 5: 'EL1h', 8: 'EL2t', 9: 'EL2h', 12: 'EL3t', 13: 'EL3h' }

/** The same of AArch32 state (M[4] set). Under an AArch64 EL2 all of these but User run at EL1. */
const MODES32: Modes = { 0: 'User', 1: 'FIQ', 2: 'IRQ', 3: 'Supervisor', 7: 'Abort', 11: 'Undefined', 15: 'System' }

/** DDI 0487, "SPSR_EL2", AArch64 state: bit, name, meaning of 1. */
const STATUS_BITS: readonly (readonly [number, string, string])[] = [
  [31, 'N', 'negative'],
  [30, 'Z', 'zero'],
  [29, 'C', 'carry'],
  [28, 'V', 'overflow'],
  [35, 'PACM', 'PACM'],
  [34, 'EXLOCK', 'exception return state locked'],
  [33, 'PPEND', 'PMU exception pending'],
  [32, 'PM', 'PMU exceptions masked'],
  [25, 'TCO', 'tag checks overridden'],
  [24, 'DIT', 'data independent timing'],
  [23, 'UAO', 'user access override'],
  [22, 'PAN', 'privileged access never'],
  [21, 'SS', 'software step'],
  [20, 'IL', 'illegal execution state'],
  [13, 'ALLINT', 'all interrupts masked'],
  [12, 'SSBS', 'speculative store bypass safe'],
  [9, 'D', 'debug exceptions masked'],
  [8, 'A', 'SErrors masked'],
  [7, 'I', 'IRQs masked'],
  [6, 'F', 'FIQs masked'],
]

/**
 * Decodes SPSR_EL2, which the panic prints as PS.
 * @example
 * decodePs(0x3c9n).mode // 'EL2h'
 */
export function decodePs(value: bigint): ProgramStatus {
  const number = Number(value & 0x1fn)
  const aarch32 = (number & 0x10) !== 0
  const known = (aarch32 ? MODES32 : MODES)[number & 0xf]
  const mode = `${aarch32 ? 'AArch32 ' : ''}${known ?? 'reserved mode'}`
  const el = known === undefined ? undefined : aarch32 ? Math.min(number & 0xf, 1) : number >> 2
  const where = el === undefined ? 'no exception level has this mode' : el === 2 ? 'EL2, the hypervisor' : `EL${el}`
  const bits = bitsOf(value)
  const set = STATUS_BITS.filter(([bit]) => bits(bit)).map(([, name, text]) => field(name, 1, text))
  if (bits(10, 2)) set.push(field('BTYPE', bits(10, 2), 'an indirect branch was just taken'))
  return {
    value,
    mode,
    el,
    fields: [field('M', number, `${mode}: ${where}`), ...(aarch32 ? [] : set)],
  }
}

/** PAR_EL1, decoded: the result of an address translation instruction. */
export interface TranslationResult {
  readonly value: bigint
  /** Whether the translation failed (F). */
  readonly failed: boolean
  /** Physical address of the 4 KiB page, when it did not fail. */
  readonly page?: bigint
  readonly fields: readonly RegisterField[]
  /** Explains a value that no translation left there. */
  readonly note?: string
}

/** KVM's value for a guest's registers that the architecture leaves unknown at reset: reset_unknown() of arch/arm64/kvm/sys_regs.c. */
const RESET_UNKNOWN = 0x1de7ec7edbadc0den

/**
 * Decodes PAR_EL1: DDI 0487, "PAR_EL1", the 64-bit format.
 * @example
 * decodePar(0x1n).failed // true
 */
export function decodePar(value: bigint): TranslationResult {
  const bits = bitsOf(value)
  const failed = bits(0) === 1
  const note =
    value === 0n
      ? 'no address translation instruction has left anything here'
      : value === RESET_UNKNOWN
        ? "KVM's reset value of a guest's PAR_EL1: no translation left this"
        : undefined
  if (failed) {
    return {
      value,
      failed,
      fields: [
        field('F', 1, 'the translation failed'),
        field('FST', bits(1, 6), faultText(bits(1, 6))),
        flag(bits, 'PTW', 8, 'stage 2 fault of a stage 1 table walk'),
        field('S', bits(9), bits(9) ? 'stage 2' : 'stage 1'),
      ],
      ...(note && { note }),
    }
  }
  const page = value & 0x000f_ffff_ffff_f000n
  return {
    value,
    failed,
    page,
    fields: [
      field('F', 0, 'the translation succeeded'),
      { name: 'PA', value: page, text: 'physical page' },
      field('SH', bits(7, 2), ['non-shareable', 'reserved', 'outer shareable', 'inner shareable'][bits(7, 2)]!),
      flag(bits, 'NS', 9, 'non-secure'),
      field('ATTR', bits(56, 8), 'memory attributes, as in MAIR'),
    ],
    ...(note && { note }),
  }
}

/**
 * HPFAR_EL2's FIPA, bits 47:4 (DDI 0487, "HPFAR_EL2"): the page of the intermediate physical address, in bytes.
 * @example
 * hpfarPage(0x4792000n) // 0x479200000n
 */
export function hpfarPage(hpfar: bigint): bigint {
  // Bit 63 is NS, the rest reserved.
  return (hpfar & 0x0000_ffff_ffff_fff0n) << 8n
}
