import { HypvaError } from '../errors.js'
import { fls64, formatU64, lowMask, type Range, wrap64 } from '../u64.js'
import {
  hypVaBitsOf,
  linearOfPhys,
  linearSizeOf,
  memstartAlignOf,
  pageOffsetOf,
  physOffsetBiasOf,
  randomisesTag,
  type Widths,
} from './address-space.js'
import { algorithmRange, generationOf, rulesOf } from './generations.js'
import { macroOf } from './macro.js'
import { clip, joinTouching, subtract } from './ranges.js'
import { imageInMemory, physvirtOffsetOf } from './spaces.js'
import type { Generation, HypLayout, Machine } from './types.js'
import { machineOf } from './validate.js'

/**
 * The layout that a kernel computes on a machine when it boots, by the algorithm of its generation (docs/kernel-facts.md, 1
 * and 3). A `generation` beside a `kernel` wins: that is how a vendor's backport is named.
 *
 * The AND-only case of 4.17 to 5.5 keeps bit V-1 of the kernel address where the region bit is set; its mask is then
 * 2^V - 1, which is expressed, and decoded from patched code, as tagLsb = V and tagVal = 0. A layout whose region bit is
 * lost (tagLsb >= V) is returned, not thrown: `layoutProblems` tells.
 * @returns every field that the machine determines; mode vhe has no tag
 * @throws HypvaError `HYPVA_MACHINE` for a bad or contradictory description, and when free tag bits are random but neither
 *   `random` nor `tagVal` is given; `HYPVA_KERNEL_VERSION` for an unknown version
 * @example
 * computeLayout(machine).tagVal // 0x11367n
 */
export function computeLayout(machine: Machine): HypLayout {
  machineOf(machine, 'bigint')
  return layoutIn(machine, geometryOf(machine))
}

/**
 * The sizes that the algorithm works with. They follow from a machine's generation and widths; a model of an address space
 * small enough to enumerate has its own.
 */
export interface Geometry {
  readonly generation: Generation
  readonly vaBits: number
  readonly vaBitsActual: number
  /** V. */
  readonly hypVaBits: number
  readonly pageOffset: bigint
  /** Bytes that the linear map can hold. */
  readonly linearSize: bigint
  /** ARM64_MEMSTART_ALIGN in bytes. */
  readonly memstartAlign: bigint
  /** By how many bytes memstart_addr is lowered. */
  readonly physOffsetBias: bigint
}

/** The geometry of a checked machine. */
export function geometryOf(machine: Machine): Geometry {
  const widths = widthsOf(machine)
  const { generation, vaBits, vaBitsActual } = widths
  return {
    generation,
    vaBits,
    vaBitsActual,
    hypVaBits: hypVaBitsOf(generation, vaBits, vaBitsActual),
    pageOffset: pageOffsetOf(generation, vaBits, vaBitsActual),
    linearSize: linearCapacity(machine, widths),
    memstartAlign: memstartAlignOf(widths.pageSize),
    physOffsetBias: physOffsetBiasOf(widths),
  }
}

/** How a tag is chosen: the kernel's way (`chooseTag`), or a proposal's. */
export type TagChoice = (machine: Machine, geometry: Geometry, dramBits: number) => Partial<HypLayout>

/**
 * `computeLayout` in a geometry, for a machine that has been checked.
 * @param choose gives the fields tagLsb and tagVal, or what stands for them; `dramBits` is the number of low bits in which
 *   the linear addresses of DRAM differ: the kernel's kva_msb, later tag_lsb
 */
export function layoutIn(machine: Machine, geometry: Geometry, choose: TagChoice = chooseTag): HypLayout {
  const { generation, vaBits, vaBitsActual, hypVaBits, pageOffset } = geometry
  const { pageSize, mode = 'nvhe' } = machine
  const { dram, physOffset } = arrangeMemory(machine, geometry)
  const common = { pageOffset, physOffset, dram, idmap: machine.idmap }
  const { image, kimageVoffset, kaslrOffset } = machine
  const given = {
    ...(image && { image }),
    ...(kimageVoffset !== undefined && { kimageVoffset }),
    ...(kaslrOffset !== undefined && { kaslrOffset }),
  }
  const sizes = { generation, mode, pageSize, vaBits, vaBitsActual, hypVaBits }
  if (mode === 'vhe') {
    if (machine.tagVal !== undefined) {
      const message = 'machine.tagVal: mode vhe has no tag, kern_hyp_va is the identity'
      throw new HypvaError('HYPVA_MACHINE', message, { field: 'tagVal', against: ['mode'] })
    }
    return { ...sizes, ...common, ...given }
  }
  const start = linearOfPhys(pageOffset, physOffset, dram[0]!.start)
  const last = linearOfPhys(pageOffset, physOffset, dram.at(-1)!.end - 1n)
  const tag = choose(machine, geometry, fls64(start ^ last))
  const layout: HypLayout = { ...sizes, ...tag, vaMask: macroOf(tag).mask, ...common, ...given }
  return { ...layout, hypPhysvirtOffset: physvirtOffsetOf(layout)! }
}

/**
 * The RAM that a machine has and its layout has not: what arm64_memblock_init() removed because the linear map cannot hold
 * it. Physical, half-open, ascending.
 * @param layout of `computeLayout(machine)`
 * @example
 * droppedMemory(machine, layout) // []
 */
export function droppedMemory(machine: Machine, layout: HypLayout): Range[] {
  return subtract(joinTouching(machine.dram), layout.dram ?? [])
}

/** The generation and widths of a checked machine, defaults filled in. */
function widthsOf(machine: Machine): Widths {
  const { pageSize, vaBits, vaBitsActual = vaBits } = machine
  return { generation: machine.generation ?? generationOf(machine.kernel!), pageSize, vaBits, vaBitsActual }
}

/** Bytes the linear map can hold on a machine, the cap of 2^51 for nVHE hosts with 52 bits included. */
function linearCapacity({ mode }: Machine, widths: Widths): bigint {
  const size = linearSizeOf(widths)
  const capped = rulesOf(widths.generation).cap51 && widths.vaBitsActual === 52 && mode !== 'vhe'
  return capped && size > 1n << 51n ? 1n << 51n : size
}

/** What arm64_memblock_init() leaves: the DRAM that stays, and PHYS_OFFSET (modulo 2^64). */
interface Memory {
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
function arrangeMemory(machine: Machine, geometry: Geometry): Memory {
  const { linearSize: size, physOffsetBias: bias } = geometry
  const banks = joinTouching(machine.dram)
  const memory =
    machine.physOffset === undefined
      ? byRule(machine, banks, geometry)
      : around(BigInt.asIntN(64, machine.physOffset + bias), banks, size, machine.physOffset)
  const holdsIdmap = (range: Range) => range.start <= machine.idmap && machine.idmap < range.end
  if (memory.dram.length === 0 || (banks.some(holdsIdmap) && !memory.dram.some(holdsIdmap))) {
    throw new HypvaError('HYPVA_MACHINE', lost(memory, size, bias), { field: 'physOffset', against: ['dram', 'idmap'] })
  }
  return memory
}

function byRule(machine: Machine, banks: readonly Range[], geometry: Geometry): Memory {
  const { linearSize: size, memstartAlign: align, physOffsetBias: bias } = geometry
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

interface Tag {
  readonly tagLsb: number
  readonly tagVal: bigint
}

function chooseTag(machine: Machine, { generation, hypVaBits }: Geometry, dramBits: number): Tag {
  const msb = 1n << BigInt(hypVaBits - 1)
  const region = ~machine.idmap & msb
  switch (rulesOf(generation).formula) {
    case 'mask':
      return fixedTag(machine, hypVaBits, 0n, generation)
    case 'high-or-low':
      return fixedTag(machine, machine.idmap >= msb ? hypVaBits - 1 : hypVaBits, 0n, generation)
    case 'tag-or-mask':
      if (dramBits === hypVaBits - 1) {
        return fixedTag(machine, region === 0n ? hypVaBits - 1 : hypVaBits, 0n, generation)
      }
  }
  const fixed = region >> BigInt(dramBits)
  const freeBits = lowMask(Math.max(0, hypVaBits - 1 - dramBits))
  if (freeBits === 0n || !randomisesTag(generation, machine.randomizeBase ?? true)) {
    return fixedTag(machine, dramBits, fixed, generation)
  }
  return randomTag(machine, dramBits, fixed, freeBits)
}

/** A tag that leaves nothing to chance; a `random` word is then never drawn. */
function fixedTag({ tagVal }: Machine, tagLsb: number, expected: bigint, generation: Generation): Tag {
  if (tagVal !== undefined && tagVal !== expected) {
    failTag(
      `.tagVal: expected ${formatU64(expected)} with tag_lsb ${tagLsb} (the layout algorithm of Linux ${algorithmRange(generation)} draws no random bits here), got ${formatU64(tagVal)}`,
    )
  }
  return { tagLsb, tagVal: expected }
}

/** A tag whose bits in `freeBits` (of tag_val) are random and whose others are those of `fixed`. */
function randomTag({ random, tagVal, physOffset }: Machine, tagLsb: number, fixed: bigint, freeBits: bigint): Tag {
  const drawn = random === undefined ? undefined : fixed | ((random >> BigInt(tagLsb)) & freeBits)
  if (tagVal === undefined) {
    if (drawn !== undefined) return { tagLsb, tagVal: drawn }
    failTag(
      `: bits ${formatU64(freeBits)} of the tag are random at each boot, so "tagVal" (what a boot was seen to have: in patched code, the variable tag_val, or a pair of addresses) or "random" (the word it drew) is needed`,
    )
  }
  if ((tagVal & ~freeBits) !== fixed) {
    failTag(
      `.tagVal: ${formatU64(tagVal)} is impossible with tag_lsb ${tagLsb}: outside the random bits ${formatU64(freeBits)} it must be ${formatU64(fixed)} (the half of the hyp VA space that idmap is not in)${physOffset === undefined ? '; or memstart_addr is not what the rule gives, as with a randomised linear map: give physOffset' : ''}`,
    )
  }
  if (drawn !== undefined && drawn !== tagVal) {
    failTag(`.tagVal: ${formatU64(tagVal)} contradicts machine.random, which gives ${formatU64(drawn)}`, ['random'])
  }
  return { tagLsb, tagVal }
}

function failTag(message: string, against: readonly (keyof Machine)[] = []): never {
  throw new HypvaError('HYPVA_MACHINE', `machine${message}`, { field: 'tagVal', against })
}
