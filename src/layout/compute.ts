import { HypvaError } from '../errors.js'
import { fls64, formatU64, lowMask, type Range, wrap64 } from '../u64.js'
import {
  hypVaBitsOf,
  linearOfPhys,
  linearSizeOf,
  machineWidths,
  memstartAlignOf,
  pageOffsetOf,
  physOffsetBiasOf,
  randomisesTag,
  type Widths,
} from './address-space.js'
import { algorithmRange, rulesOf } from './generations.js'
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
 * 2^V - 1, which hypva writes, and decodes from patched code, as tagLsb = V and tagVal = 0. A layout whose region bit is
 * lost (tagLsb >= V) is returned, not thrown: `layoutProblems` reports it.
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
export interface Geometry extends Omit<Widths, 'pageSize'> {
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
  const widths = machineWidths(machine)
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

/** Chooses a tag: the kernel's way (`chooseTag`), or a proposal's. */
export type TagChoice = (machine: Machine, geometry: Geometry, dramBits: number) => Partial<HypLayout>

/**
 * `computeLayout` in a geometry, for a machine that has been checked.
 * @param choose gives the fields tagLsb and tagVal, or their equivalent; `dramBits` is the number of low bits in which
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
 * The RAM of a machine that is not in its layout: arm64_memblock_init() removed it because the linear map cannot hold
 * it. Physical, half-open, ascending.
 * @param layout of `computeLayout(machine)`
 * @example
 * droppedMemory(machine, layout) // []
 */
export function droppedMemory(machine: Machine, layout: HypLayout): Range[] {
  return subtract(joinTouching(machine.dram), layout.dram ?? [])
}

/** Bytes the linear map can hold on a machine, the cap of 2^51 for nVHE hosts with 52 bits included. */
function linearCapacity({ mode }: Machine, widths: Widths): bigint {
  const size = linearSizeOf(widths)
  const capped = rulesOf(widths.generation).cap51 && widths.vaBitsActual === 52 && mode !== 'vhe'
  return capped && size > 1n << 51n ? 1n << 51n : size
}

/** The result of arm64_memblock_init(): the DRAM that stays, and PHYS_OFFSET (modulo 2^64). */
interface Memory {
  readonly dram: readonly Range[]
  readonly physOffset: bigint
}

/**
 * Fits a machine's DRAM into the linear map as arm64_memblock_init() does. memstart_addr is the first DRAM address rounded
 * down. The kernel removes memory above the linear map's size, but never its own image: when the image is that high, it moves
 * memstart_addr up and removes memory below instead. With a given `physOffset` the linear map begins there, and the memory
 * that it covers stays.
 *
 * Without the image's physical end, the end of the idmap page serves: it lies inside the image.
 * @throws HypvaError `HYPVA_MACHINE` when no DRAM, or not the kernel's own, is left
 */
function arrangeMemory(machine: Machine, geometry: Geometry): Memory {
  const { linearSize: size, physOffsetBias: bias } = geometry
  const banks = joinTouching(machine.dram)
  const { physOffset } = machine
  const start = physOffset === undefined ? 0n : BigInt.asIntN(64, physOffset + bias)
  const memory =
    physOffset === undefined ? byRule(machine, banks, geometry) : { dram: clip(banks, start, start + size), physOffset }
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
  const imageEnd = imageInMemory(machine)?.end ?? machine.idmap + BigInt(machine.pageSize)
  const end = memstart + size
  let dram = clip(banks, 0n, end)
  if (imageEnd > end) dram = clip(banks, 0n, imageEnd)
  const dramEnd = dram.at(-1)?.end ?? 0n
  if (dramEnd <= end) return { dram, physOffset: wrap64(memstart - bias) }
  const lowest = dramEnd - size
  const moved = ((lowest + align - 1n) / align) * align
  return { dram: clip(dram, moved, dramEnd), physOffset: wrap64(moved - bias) }
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

/** A tag without random bits: the kernel draws no `random` word. */
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
      `: bits ${formatU64(freeBits)} of the tag are random at each boot: give "tagVal" (from patched code, the variable tag_val, or a pair of addresses) or "random" (the word that the kernel drew)`,
    )
  }
  if ((tagVal & ~freeBits) !== fixed) {
    failTag(
      `.tagVal: ${formatU64(tagVal)} is impossible with tag_lsb ${tagLsb}: outside the random bits ${formatU64(freeBits)} it must be ${formatU64(fixed)} (the half of the hyp VA space without the idmap)${physOffset === undefined ? '; or the linear map is randomised: give physOffset' : ''}`,
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
