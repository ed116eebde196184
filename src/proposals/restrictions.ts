import { HypvaError } from '../errors.js'
import { privatePlace } from '../layout/hyp-ranges.js'
import { hypVaRange, macroOf } from '../layout/macro.js'
import { clip, sizeOf } from '../layout/ranges.js'
import type { HypLayout, Machine } from '../layout/types.js'
import type { Range } from '../u64.js'
import { type LayoutName, namedLayout, type Scale } from './layouts.js'
import { type Verdict, verdictOf } from './verdict.js'

/** A restriction that makes a layout sound on a machine. */
export interface Restriction {
  /** The kernel, and with it the idmap page, is loaded below this physical address, wherever memory is there. */
  readonly kernelBelow?: bigint
  /** Memory at and above this physical address is not used. */
  readonly dramBelow?: bigint
  /** Physical ranges that EL1 never allocates. */
  readonly keepFree?: readonly Range[]
  /** Bytes of memory that are given up. */
  readonly cost: bigint
  /** With kernelBelow: bytes of memory below it, which is what firmware has to choose from. */
  readonly choice?: bigint
}

/**
 * The restrictions that make an unsound layout sound: each single one that does, and when none does, each pair of a limit for
 * the kernel with one for memory. Of limits for memory always the highest. Empty for a sound layout, and when nothing helps.
 */
export function restrictionsFor(machine: Machine, verdict: Verdict, scale: Scale): Restriction[] {
  if (verdict.sound) return []
  const { name } = verdict
  const single: Restriction[] = []
  if (verdict.reasons.every(({ kind }) => kind === 'idmap-collision')) {
    single.push({ keepFree: verdict.keepFree, cost: sizeOf(verdict.keepFree) })
  }
  const kernelLimits = Object.values(scale.windowBits).map((bits) => 1n << BigInt(bits))
  for (const limit of kernelLimits) {
    const places = kernelPlaces(machine, verdict, limit, scale)
    if (places.length > 0 && places.every((idmap) => isSound(withKernelAt(machine, idmap), name, scale))) {
      single.push({ kernelBelow: limit, cost: 0n, choice: memoryBelow(machine, limit) })
    }
  }
  const dramBelow = highestLimit(machine, verdict, scale, (clipped) => isSound(clipped, name, scale))
  if (dramBelow !== undefined) single.push({ dramBelow, cost: memoryAbove(machine, dramBelow) })
  if (single.length > 0) return single

  return kernelLimits.flatMap((limit): Restriction[] => {
    const lowest = kernelPlaces(machine, verdict, limit, scale)[0]
    if (lowest === undefined) return []
    const below = highestLimit(withKernelAt(machine, lowest), verdict, scale, (clipped) => {
      const places = kernelPlaces(clipped, verdict, limit, scale)
      return places.length > 0 && places.every((idmap) => isSound(withKernelAt(clipped, idmap), name, scale))
    })
    if (below === undefined) return []
    const choice = memoryBelow(machine, limit < below ? limit : below)
    return [{ kernelBelow: limit, dramBelow: below, cost: memoryAbove(machine, below), choice }]
  })
}

/** Whether a layout is sound on a machine; not so when the kernel's own memory would not fit. */
function isSound(machine: Machine, name: LayoutName, scale: Scale): boolean {
  try {
    return verdictOf(machine, namedLayout(machine, name, scale)).sound
  } catch (error) {
    if (error instanceof HypvaError && error.code === 'HYPVA_MACHINE') return false
    throw error
  }
}

/** The same machine, its kernel loaded elsewhere. */
export function withKernelAt(
  { image: _, kimageVoffset: __, kaslrOffset: ___, ...machine }: Machine,
  idmap: bigint,
): Machine {
  return { ...machine, idmap }
}

/**
 * Places for the idmap page, in memory below a limit, such that a layout is sound at all places when it is at these. The
 * verdict depends on the place by comparisons with the edges of memory and of its hyp VAs, and by the half it lies in; so it
 * changes only there, and a page to either side of each edge stands for all between.
 */
function kernelPlaces(machine: Machine, { name }: Verdict, limit: bigint, scale: Scale): bigint[] {
  const page = BigInt(machine.pageSize)
  const allowed = clip(machine.dram, 0n, limit)
    .map(({ start, end }) => ({ start: roundUp(start, page), end: end - (end % page) }))
    .filter(({ start, end }) => start < end)
  if (allowed.length === 0) return []
  const edges = allowed.flatMap(({ start, end }) => [start, end])
  for (const idmap of [allowed[0]!.start, allowed.at(-1)!.end - page]) {
    const { layout, geometry } = namedLayout(withKernelAt(machine, idmap), name, scale)
    const delta = layout.hypPhysvirtOffset ?? 0n
    const hyp = (layout.dram ?? []).flatMap(({ start, end }) =>
      [start, end].map((edge) => BigInt.asUintN(64, edge - delta)),
    )
    const range = hypVaRange(layout)
    edges.push(...hyp, macroOf(layout).tag, 1n << BigInt(geometry.hypVaBits - 1))
    if (range !== undefined) edges.push(range.start, range.end)
  }
  const around = edges.flatMap((edge) => [-1n, 0n, 1n].map((pages) => edge - (edge % page) + pages * page))
  return [...new Set(around)]
    .filter((place) => allowed.some(({ start, end }) => place >= start && place < end))
    .sort((a, b) => (a < b ? -1 : 1))
}

/**
 * The highest limit for memory that keeps the kernel and satisfies a test. Where several limits leave the same memory, the
 * one that comes of the layout (its capacity, or a power of two above the beginning of the linear map).
 */
function highestLimit(
  machine: Machine,
  verdict: Verdict,
  scale: Scale,
  satisfies: (clipped: Machine) => boolean,
): bigint | undefined {
  const page = BigInt(machine.pageSize)
  const { layout, geometry } = namedLayout(machine, verdict.name, scale)
  /** The tag follows the highest bit in which linear addresses differ: it is the same up to the next power of two. */
  const tagBelow = (limit: bigint): bigint | undefined => {
    if (limit < machine.idmap + page) return undefined
    return macroOf(namedLayout(belowLimit(machine, limit), verdict.name, scale).layout).tag
  }
  const memstart = BigInt.asIntN(64, layout.physOffset! + geometry.physOffsetBias)
  const bits = Array.from({ length: geometry.hypVaBits + 1 }, (_, bit) => 1n << BigInt(bit))
  const round = [...bits, verdict.capacity]
  // Beside these the verdict changes where memory begins to meet the idmap, which also is where the start-up check begins to
  // refuse, or the first page of the private range: the page at that hyp VA less the tag. The tag is that of the machine with
  // the limit, or lacks some other region bit.
  const targets = [machine.idmap, ...privateStarts(layout, geometry.linearSize)]
  const tags = new Set([0n, macroOf(layout).tag, ...bits.flatMap((bit) => tagBelow(memstart + bit) ?? [])])
  const meeting = targets.flatMap((target) =>
    [...tags].flatMap((tag) => [0n, ...bits].flatMap((bit) => [target - tag - bit, target - tag + bit])),
  )
  const edges = [...round, ...meeting].flatMap((offset) =>
    [-1n, 0n, 1n].map((pages) => memstart + offset + pages * page),
  )
  const limits = [...edges, ...machine.dram.map(({ end }) => end)].map((limit) => limit - (limit % page))
  const highest = [...new Set(limits)]
    .filter((limit) => limit > machine.idmap)
    .sort((a, b) => (a > b ? -1 : 1))
    .find((limit) => satisfies(belowLimit(machine, limit)))
  if (highest === undefined) return undefined
  const kept = memoryBelow(machine, highest)
  const named = round.map((offset) => memstart + offset).filter((limit) => memoryBelow(machine, limit) === kept)
  return named.length === 0 ? highest : named.reduce((best, limit) => (limit > best ? limit : best))
}

/** Where the first private page may be: of the two quarters that pKVM has for them the half that the idmap is in decides. */
function privateStarts(layout: HypLayout, linearSize: bigint): bigint[] {
  const page = BigInt(layout.pageSize!)
  const quarter = 1n << BigInt(layout.hypVaBits! - 2)
  const up = privatePlace(layout, 'up', linearSize)
  const down = privatePlace(layout, 'down', linearSize)
  return [0n, quarter, ...(up ? [up.range.start] : []), ...(down ? [down.range.end - page] : [])]
}

function belowLimit(machine: Machine, limit: bigint): Machine {
  return { ...machine, dram: clip(machine.dram, 0n, limit) }
}

function memoryBelow({ dram }: Machine, limit: bigint): bigint {
  return sizeOf(clip(dram, 0n, limit))
}

function memoryAbove({ dram }: Machine, limit: bigint): bigint {
  return sizeOf(dram) - memoryBelow({ dram } as Machine, limit)
}

function roundUp(value: bigint, step: bigint): bigint {
  return ((value + step - 1n) / step) * step
}
