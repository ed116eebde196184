import { HypvaError } from '../errors.js'
import { GENERATIONS } from './generations.js'
import { type HypLayout, type Machine, MODES, PROPOSALS } from './types.js'

/** The type of a field of a layout or a machine description. */
export type FieldKind =
  /** A 64-bit value. */
  | { readonly type: 'word' }
  /** An address range, half-open; and a list of them. */
  | { readonly type: 'range' }
  | { readonly type: 'ranges' }
  /** A number of bits, from `low` to `high`. */
  | { readonly type: 'bits'; readonly low: number; readonly high: number }
  | { readonly type: 'choice'; readonly names: readonly string[] }
  /** Bytes: 4096, 16384 or 65536. */
  | { readonly type: 'pageSize' }
  | { readonly type: 'boolean' }
  /** A kernel version like "6.12". */
  | { readonly type: 'version' }

/** One field of a layout, of a machine description, or of both. */
export interface Field {
  readonly kind: FieldKind
  /** A layout has it. */
  readonly layout?: true
  /** A machine has it, and needs it or not. */
  readonly machine?: 'required' | 'optional'
  /** Half a line of help for the flag that sets it (a boolean: that makes it false); absent for a field without a flag. */
  readonly help?: string
  /** The value of a machine that lacks it, for the same help. */
  readonly machineDefault?: string
  /** How a person learns it: ends the sentence "the layout has no FIELD; ". */
  readonly learn: string
}

export type FieldName = keyof HypLayout | keyof Machine

const WORD = { type: 'word' } as const
const VA_BITS = { type: 'bits', low: 36, high: 52 } as const
const TEXT_SHOWS_IT = 'the patched instructions in kernel text show it (memory image, core, /proc/kcore)'

/**
 * Every field of layouts and machine descriptions, in the order in which their JSON has them. The JSON schemas, the messages
 * about missing fields and the flags of the command line are made from this table.
 */
export const FIELDS: Readonly<Record<FieldName, Field>> = {
  kernel: {
    kind: { type: 'version' },
    machine: 'optional',
    help: 'kernel version, such as 6.12; a vendor kernel may need the generation instead',
    learn: 'uname -r',
  },
  generation: {
    kind: { type: 'choice', names: GENERATIONS },
    layout: true,
    machine: 'optional',
    help: 'layout algorithm, by the first mainline version that has it',
    learn: 'hypva computes it from the kernel version (uname -r), unless a vendor has backported',
  },
  proposal: {
    kind: { type: 'choice', names: PROPOSALS },
    layout: true,
    learn: 'you choose it: one of the layouts that were proposed in 2021',
  },
  mode: {
    kind: { type: 'choice', names: MODES },
    layout: true,
    machine: 'optional',
    help: 'how the hypervisor runs',
    machineDefault: 'nvhe',
    learn: 'the boot log: "Hyp nVHE mode", "Protected nVHE mode" or "VHE mode initialized successfully"',
  },
  pageSize: {
    kind: { type: 'pageSize' },
    layout: true,
    machine: 'required',
    help: 'page size',
    learn: 'getconf PAGE_SIZE on the host, or PAGESIZE in vmcoreinfo',
  },
  vaBits: {
    kind: VA_BITS,
    layout: true,
    machine: 'required',
    help: 'CONFIG_ARM64_VA_BITS',
    learn: 'NUMBER(VA_BITS) in vmcoreinfo, or CONFIG_ARM64_VA_BITS',
  },
  vaBitsActual: {
    kind: VA_BITS,
    layout: true,
    machine: 'optional',
    help: 'vabits_actual, where a 52-bit build runs with fewer',
    learn: '64 - NUMBER(TCR_EL1_T1SZ) in vmcoreinfo',
  },
  randomizeBase: {
    kind: { type: 'boolean' },
    machine: 'optional',
    help: 'the kernel was built without CONFIG_RANDOMIZE_BASE',
    learn: 'CONFIG_RANDOMIZE_BASE in the kernel configuration',
  },
  hypVaBits: {
    kind: VA_BITS,
    layout: true,
    help: 'hyp VA bits of the layout',
    learn: 'hypva computes it from the generation and vaBitsActual',
  },
  tagLsb: { kind: { type: 'bits', low: 1, high: 63 }, layout: true, help: 'tag_lsb', learn: TEXT_SHOWS_IT },
  tagVal: {
    kind: WORD,
    layout: true,
    machine: 'optional',
    help: 'the tag_val of the boot',
    learn: TEXT_SHOWS_IT,
  },
  tag: { kind: WORD, layout: true, learn: 'hypva computes it from the proposal' },
  vaMask: { kind: WORD, layout: true, help: 'va_mask', learn: 'hypva computes it from tagLsb' },
  pageOffset: {
    kind: WORD,
    layout: true,
    help: 'PAGE_OFFSET',
    learn: 'hypva computes it from vaBits: -(2^vaBits) since Linux 5.4',
  },
  physOffset: {
    kind: WORD,
    layout: true,
    machine: 'optional',
    help: 'PHYS_OFFSET',
    machineDefault: "computed by the kernel's rule",
    learn: '"PHYS_OFFSET:" in a panic log, or NUMBER(PHYS_OFFSET) in vmcoreinfo (memstart_addr)',
  },
  dram: {
    kind: { type: 'ranges' },
    layout: true,
    machine: 'required',
    help: 'a bank of DRAM, end exclusive (repeatable)',
    learn: '"System RAM" in /proc/iomem read as root, or the memory ranges of the boot log',
  },
  idmap: {
    kind: WORD,
    layout: true,
    machine: 'required',
    help: 'physical address of the idmap page',
    learn: 'the physical address of __hyp_idmap_text_start (/proc/kallsyms and kimage_voffset)',
  },
  image: {
    kind: { type: 'range' },
    layout: true,
    machine: 'optional',
    help: 'virtual addresses of _text and _end',
    learn: '_text and _end in /proc/kallsyms read as root',
  },
  kimageVoffset: {
    kind: WORD,
    layout: true,
    machine: 'optional',
    help: 'kimage_voffset',
    learn: 'NUMBER(kimage_voffset) in vmcoreinfo, or the kernel segment of /proc/kcore',
  },
  kaslrOffset: {
    kind: WORD,
    layout: true,
    machine: 'optional',
    help: 'KASLR offset of the image',
    learn: '"Kernel Offset:" in a panic log, or KERNELOFFSET in vmcoreinfo',
  },
  hypPhysvirtOffset: {
    kind: WORD,
    layout: true,
    help: 'hyp_physvirt_offset',
    learn: 'hypva computes it from tag, dram, pageOffset and physOffset, or from a panic\'s "Hyp Offset"',
  },
  random: {
    kind: WORD,
    machine: 'optional',
    help: 'the random 64-bit word that the kernel drew',
    learn: 'no kernel shows it; tagVal does as well',
  },
}

/** The fields of a layout, in the order in which its JSON has them. */
export const LAYOUT_FIELDS = fieldsOf('layout') as readonly (keyof HypLayout)[]

/** The same for a machine description. */
export const MACHINE_FIELDS = fieldsOf('machine') as readonly (keyof Machine)[]

function fieldsOf(what: 'layout' | 'machine'): FieldName[] {
  return (Object.keys(FIELDS) as FieldName[]).filter((name) => FIELDS[name][what] !== undefined)
}

/**
 * The error for a translation that needs fields the layout does not have: it names each and how to learn it.
 * @example
 * createTranslator({ tagLsb: 31, tagVal: 0x11367n }, { from: 'hyp', to: 'phys' }) // throws HYPVA_MISSING_FIELD
 */
export class MissingFieldError extends HypvaError {
  readonly fields: readonly (keyof HypLayout)[]
  constructor(what: string, fields: readonly (keyof HypLayout)[]) {
    const ways = fields.map((field) => `${field} (${FIELDS[field].learn})`)
    super('HYPVA_MISSING_FIELD', `${what} needs a field that the layout does not have: ${ways.join(', ')}`)
    this.name = 'MissingFieldError'
    this.fields = fields
  }
}
