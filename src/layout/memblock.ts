import { HypvaError } from '../errors.js'
import { formatU64, type Range, wrap64 } from '../u64.js'
import { clip, joinTouching } from './ranges.js'
import { imageInMemory } from './spaces.js'
import type { Machine } from './types.js'

/** What decides how much memory fits, in bytes: `Geometry` in compute.ts explains each. */
interface Sizes {
  readonly linearSize: bigint
  readonly memstartAlign: bigint
  readonly physOffsetBias: bigint
}

/** What arm64_memblock_init() leaves: the DRAM that stays, and PHYS_OFFSET (modulo 2^64). */
export interface Memory {
  readonly dram: readonly Range[]
  readonly physOffset: bigint
}

/**
 * Fits a machine's DRAM into the linear map as arm64_memblock_init() does. memstart_addr is the first DRAM address rounded
 * down; what lies above the linear map's size is removed, but never the kernel image, and when the image is that high
 * memstart_addr moves up and what lies below is removed instead. A given `physOffset` is where the linear map begins, and
 * the memory that it covers stays.
 *
 * Where the machine does not tell the image's physical end, the end of the idmap page stands in: it lies inside the image.
 * @throws HypvaError `HYPVA_MACHINE` when no DRAM, or not the kernel's own, is left
 */
export function arrangeMemory(machine: Machine, sizes: Sizes): Memory {
  const { linearSize: size, physOffsetBias: bias } = sizes
  const banks = joinTouching(machine.dram)
  const memory =
    machine.physOffset === undefined
      ? byRule(machine, banks, sizes)
      : around(BigInt.asIntN(64, machine.physOffset + bias), banks, size, machine.physOffset)
  const holdsIdmap = (range: Range) => range.start <= machine.idmap && machine.idmap < range.end
  if (memory.dram.length === 0 || (banks.some(holdsIdmap) && !memory.dram.some(holdsIdmap))) {
    throw new HypvaError('HYPVA_MACHINE', lost(memory, size, bias), { field: 'physOffset', against: ['dram', 'idmap'] })
  }
  return memory
}

function byRule(machine: Machine, banks: readonly Range[], sizes: Sizes): Memory {
  const { linearSize: size, memstartAlign: align, physOffsetBias: bias } = sizes
  const start = banks[0]!.start
  const memstart = start - (start % align)
  const imageEnd = physicalImageEnd(machine)
  const end = memstart + size
  let dram = clip(banks, 0n, end)
  if (imageEnd > end) dram = clip(banks, 0n, imageEnd)
  const dramEnd = dram.at(-1)?.end ?? 0n
  if (dramEnd <= end) return { dram, physOffset: wrap64(memstart - bias) }
  const lowest = dramEnd - size
  const moved = ((lowest + align - 1n) / align) * align
  return { dram: clip(dram, moved, dramEnd), physOffset: wrap64(moved - bias) }
}

function around(memstart: bigint, banks: readonly Range[], size: bigint, physOffset: bigint): Memory {
  return { dram: clip(banks, memstart, memstart + size), physOffset }
}

function physicalImageEnd(machine: Machine): bigint {
  const { idmap, pageSize } = machine
  return imageInMemory(machine)?.end ?? idmap + BigInt(pageSize)
}

function lost({ dram, physOffset }: Memory, size: bigint, bias: bigint): string {
  const what = dram.length === 0 ? 'no DRAM' : 'not the DRAM that holds idmap'
  const hint =
    bias === 0n
      ? ''
      : ` (a 52-bit build on smaller hardware lowers physOffset by ${formatU64(bias)}: memory at 0 would have ${formatU64(wrap64(-bias))})`
  return `machine.physOffset: a linear map of ${formatU64(size)} bytes at ${formatU64(physOffset)} covers ${what}${hint}`
}
