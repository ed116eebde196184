import type { AddressFacts } from './addresses.js'
import type { DecodedPanic, Need } from './decoded.js'
import type { Names } from './naming.js'
import { ranVcpu } from './registers.js'

/** Something that log, layout and symbols do not tell. */
export interface Unknown {
  readonly text: string
  /** What to supply to learn it; absent where nothing helps. */
  readonly need?: Need
}

const REGISTERS = { pc: 'PC', esr: 'ESR', ps: 'PS', far: 'FAR', hpfar: 'HPFAR', par: 'PAR', vcpu: 'VCPU' } as const

/** Lists what is not known of a panic, and what would tell it. */
export function unknownOf(
  { printed, pc, vcpu, far }: Pick<DecodedPanic, 'printed' | 'pc' | 'vcpu' | 'far'>,
  facts: AddressFacts,
  names: Names,
): Unknown[] {
  const list: Unknown[] = []
  const layout = (text: string) => list.push({ text: `${text}; supply a layout`, need: 'layout' })
  const cut = (Object.keys(REGISTERS) as (keyof typeof REGISTERS)[]).filter(
    (register) => printed[register] === undefined && !(register === 'vcpu' && printed.vcpuHashed),
  )
  if (cut.length > 0) {
    list.push({ text: `${cut.map((register) => REGISTERS[register]).join(', ')}: not in this part of the log` })
  }
  if (printed.vcpuHashed && printed.vcpu === undefined) {
    list.push({ text: 'VCPU: a vCPU was running, but the kernel printed no address of it' })
  }
  if (facts.hypOffset === undefined && pc?.of === 'hyp') {
    layout('link-time addresses of PC: "Hyp Offset:" is not in the log (kernels up to 5.11 do not print it)')
  }
  if (facts.offsets.kaslrOffset === undefined && pc?.link !== undefined) {
    layout('run-time addresses: "Kernel Offset:" is not in the log')
  }
  if (
    facts.offsets.hypPhysvirtOffset === undefined &&
    (pc?.of === 'hyp' || (!printed.vcpuHashed && ranVcpu(printed)))
  ) {
    list.push({
      text: 'physical and linear addresses of PC and VCPU: they need kimage_voffset or the tag; supply a layout, recovered from this log with the vmcoreinfo and /proc/iomem of that boot',
      need: 'layout',
    })
  } else if (vcpu?.phys !== undefined && vcpu.linear === undefined) {
    layout('VCPU as a kernel pointer: it needs PAGE_OFFSET and PHYS_OFFSET')
  }
  const kernelFar = (far?.kind === 'host' || far?.kind === 'hyp') && far.value >> 55n === 0x1ffn
  if (kernelFar && far.phys === undefined) {
    layout('the physical address of FAR: it needs PAGE_OFFSET and PHYS_OFFSET, or kimage_voffset')
  }
  if (pc?.link !== undefined && pc.printed === undefined) {
    if (!names.given) {
      const text = 'the name of PC: supply symbols (System.map, vmlinux or /proc/kallsyms of this kernel)'
      list.push({ text, need: 'symbols' })
    } else if (names.withoutHyp !== undefined && pc.of === 'hyp') {
      list.push({ text: 'the name of PC: supply symbols (System.map or vmlinux of this kernel)', need: 'symbols' })
    }
  }
  return list
}
