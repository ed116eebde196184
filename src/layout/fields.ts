import { HypvaError } from '../errors.js'
import type { HypLayout } from './types.js'

/** How a person learns a field of a layout: ends the sentence "the layout has no FIELD; ". */
export const HOW_TO_LEARN: Readonly<Partial<Record<keyof HypLayout, string>>> = {
  generation: 'it follows from the kernel version (uname -r), unless a vendor has backported',
  proposal: 'you choose it: `hypva check` has the layouts that were proposed in 2021',
  mode: 'the boot log says it: "Hyp nVHE mode", "Protected nVHE mode" or "VHE mode initialized successfully"',
  pageSize: 'getconf PAGE_SIZE on the host, or PAGESIZE in vmcoreinfo',
  vaBits: 'NUMBER(VA_BITS) in vmcoreinfo, or CONFIG_ARM64_VA_BITS',
  vaBitsActual: '64 - NUMBER(TCR_EL1_T1SZ) of vmcoreinfo',
  hypVaBits: 'it follows from the generation and vaBitsActual',
  tagLsb: 'the patched instructions in kernel text show it (memory image, core, /proc/kcore)',
  tagVal: 'the patched instructions in kernel text show it (memory image, core, /proc/kcore)',
  tag: 'it follows from the proposal',
  pageOffset: 'it follows from vaBits: -(2^vaBits) since Linux 5.4',
  physOffset: '"PHYS_OFFSET:" in a panic log, or NUMBER(PHYS_OFFSET) in vmcoreinfo (memstart_addr)',
  dram: '"System RAM" in /proc/iomem read as root, or the memory ranges of the boot log',
  idmap: 'the physical address of __hyp_idmap_text_start (/proc/kallsyms and kimage_voffset)',
  image: '_text and _end in /proc/kallsyms read as root',
  kimageVoffset: 'NUMBER(kimage_voffset) in vmcoreinfo, or the kernel segment of /proc/kcore',
  kaslrOffset: '"Kernel Offset:" in a panic log, or KERNELOFFSET in vmcoreinfo',
  hypPhysvirtOffset: 'it follows from tag, dram, pageOffset and physOffset, or from a panic\'s "Hyp Offset"',
}

/**
 * The error for a translation that needs fields the layout does not have: it names each and how to learn it.
 * @example
 * createTranslator({ tagLsb: 31, tagVal: 0x11367n }, { from: 'hyp', to: 'phys' }) // throws HYPVA_MISSING_FIELD
 */
export class MissingFieldError extends HypvaError {
  readonly fields: readonly (keyof HypLayout)[]
  constructor(what: string, fields: readonly (keyof HypLayout)[]) {
    const ways = fields.map((field) => `${field} (${HOW_TO_LEARN[field] ?? 'see the layout JSON in the README'})`)
    super('HYPVA_MISSING_FIELD', `${what} needs a field that the layout does not have: ${ways.join(', ')}`)
    this.name = 'MissingFieldError'
    this.fields = fields
  }
}
