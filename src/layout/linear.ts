import { type Range, wrap64 } from '../u64.js'
import type { HypLayout } from './types.js'

/** linear(pa) = (pa - PHYS_OFFSET) OR PAGE_OFFSET, the kernel's phys_to_virt. Any 64-bit `pa`; meaningful for DRAM only. */
export function linearOfPhys(pageOffset: bigint, physOffset: bigint, pa: bigint): bigint {
  return wrap64(pa - physOffset) | pageOffset
}

/** Where the linear map puts physical memory, when a layout says enough for it. */
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
