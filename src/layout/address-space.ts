import { type Range, wrap64 } from '../u64.js'
import { generationOf, rulesOf } from './generations.js'
import type { Generation, HypLayout, Machine, PageSize } from './types.js'

/** The facts that decide the kernel's own address space. */
export interface Widths {
  readonly generation: Generation
  readonly pageSize: PageSize
  readonly vaBits: number
  readonly vaBitsActual: number
}

/** The widths of a layout; undefined unless it has all of them. */
export function widthsOf({ generation, pageSize, vaBits, vaBitsActual }: HypLayout): Widths | undefined {
  // Only a 52-bit build leaves vabits_actual open.
  const actual = vaBitsActual ?? (vaBits === 52 ? undefined : vaBits)
  if (generation === undefined || pageSize === undefined || vaBits === undefined || actual === undefined)
    return undefined
  return { generation, pageSize, vaBits, vaBitsActual: actual }
}

/** The generation and widths of a checked machine, defaults filled in. */
export function machineWidths(machine: Machine): Widths {
  const { pageSize, vaBits, vaBitsActual = vaBits } = machine
  return { generation: machine.generation ?? generationOf(machine.kernel!), pageSize, vaBits, vaBitsActual }
}

/** The choices of CONFIG_ARM64_VA_BITS, by page size in bytes (docs/kernel-facts.md, 3). */
export const VA_BITS: Readonly<Record<PageSize, readonly number[]>> = {
  4096: [39, 48, 52],
  16384: [36, 47, 48, 52],
  65536: [42, 48, 52],
}

/** The values vabits_actual can take: a 52-bit build also runs with 48 bits, and with 47 when its pages are 16K. */
export function vaBitsActualChoices(pageSize: PageSize, vaBits: number): readonly number[] {
  if (vaBits !== 52) return [vaBits]
  return pageSize === 16384 ? [52, 48, 47] : [52, 48]
}

/** The largest CONFIG_ARM64_PA_BITS: 52 with 64K pages or 52-bit VAs, otherwise 48. */
export function physBitsOf(pageSize: PageSize, vaBits: number): number {
  return pageSize === 65536 || vaBits === 52 ? 52 : 48
}

/** V, the bits of hyp VA that the layout algorithm uses (36 to 52). */
export function hypVaBitsOf(generation: Generation, vaBits: number, vaBitsActual: number): number {
  switch (rulesOf(generation).width) {
    case 'build':
      return vaBits
    case 'actual':
      return vaBitsActual
    case 'actual-or-48':
      return Math.max(48, vaBitsActual)
  }
}

/**
 * The PAGE_OFFSET of linear(pa) = (pa - PHYS_OFFSET) OR PAGE_OFFSET. Up to 5.3 it is -(2^(VA_BITS-1)), since then
 * -(2^VA_BITS). 5.4 to 5.10 place the linear map of a 52-bit build on smaller hardware by _PAGE_OFFSET(vabits_actual), though
 * their PAGE_OFFSET macro says -(2^52): a layout of those generations holds the effective value.
 */
export function pageOffsetOf(generation: Generation, vaBits: number, vaBitsActual: number): bigint {
  const rules = rulesOf(generation)
  if (rules.linearMap === 'top') return negativePower(vaBits - 1)
  return negativePower(rules.biasedPhysOffset ? vaBits : vaBitsActual)
}

/** Where linear addresses can begin: _PAGE_OFFSET(vabits_actual), above PAGE_OFFSET for a 52-bit build on smaller hardware. */
export function linearStartOf(generation: Generation, vaBits: number, vaBitsActual: number): bigint {
  return rulesOf(generation).linearMap === 'top' ? negativePower(vaBits - 1) : negativePower(vaBitsActual)
}

/**
 * PAGE_END, where the linear map must end: -(2^(vabits_actual-1)) from 5.4 to 5.10, -(2^(VA_BITS_MIN-1)) since; 2^64 up to
 * 5.3, whose linear map is the top half. VA_BITS_MIN of a 52-bit build is 48, or 47 with 16K pages: those have 52 bits only
 * since 6.9, so the generation alone decides.
 */
export function pageEndOf({ generation, pageSize, vaBits, vaBitsActual }: Widths): bigint {
  switch (rulesOf(generation).pageEnd) {
    case 'none':
      return 1n << 64n
    case 'vabits-actual':
      return negativePower(vaBitsActual - 1)
    case 'va-bits-min':
      return negativePower((vaBits !== 52 ? vaBits : pageSize === 16384 ? 47 : 48) - 1)
  }
}

/** Bytes the linear map can cover: PAGE_END - _PAGE_OFFSET(vabits_actual), before any cap. */
export function linearSizeOf(widths: Widths): bigint {
  return pageEndOf(widths) - linearStartOf(widths.generation, widths.vaBits, widths.vaBitsActual)
}

/**
 * How far a 52-bit build on smaller hardware lowers memstart_addr, so that the hardware can address DRAM:
 * _PAGE_OFFSET(vabits_actual) - PAGE_OFFSET since 5.11, 0 otherwise.
 */
export function physOffsetBiasOf({ generation, vaBits, vaBitsActual }: Omit<Widths, 'pageSize'>): bigint {
  return linearStartOf(generation, vaBits, vaBitsActual) - pageOffsetOf(generation, vaBits, vaBitsActual)
}

/** ARM64_MEMSTART_ALIGN in bytes: 1 GiB, with 64K pages 512 MiB. */
export function memstartAlignOf(pageSize: PageSize): bigint {
  return pageSize === 65536 ? 1n << 29n : 1n << 30n
}

/** linear(pa) = (pa - PHYS_OFFSET) OR PAGE_OFFSET, the kernel's phys_to_virt. Any 64-bit `pa`; meaningful for DRAM only. */
export function linearOfPhys(pageOffset: bigint, physOffset: bigint, pa: bigint): bigint {
  return wrap64(pa - physOffset) | pageOffset
}

/** Where the linear map puts physical memory. */
interface LinearMemory {
  /** Linear VAs of the DRAM banks, one range a bank, in the order of `dram`. */
  readonly banks: readonly Range[]
  /** high_memory - 1: the linear VA of DRAM's last byte. */
  readonly last: bigint
}

/** Linear VAs of a layout's DRAM; undefined unless pageOffset, physOffset and dram are known. */
export function linearMemory({ pageOffset, physOffset, dram }: HypLayout): LinearMemory | undefined {
  if (pageOffset === undefined || physOffset === undefined || dram === undefined || dram.length === 0) return undefined
  const banks = dram.map((bank) => {
    const start = linearOfPhys(pageOffset, physOffset, bank.start)
    return { start, end: start + (bank.end - bank.start) }
  })
  return { banks, last: banks.at(-1)!.end - 1n }
}

/** Whether the kernel fills free tag bits at random. */
export function randomisesTag(generation: Generation, randomizeBase: boolean): boolean {
  const { random } = rulesOf(generation)
  return random === 'always' || (random === 'randomize-base' && randomizeBase)
}

function negativePower(bits: number): bigint {
  return wrap64(-(1n << BigInt(bits)))
}
