import { HypvaError } from '../errors.js'
import { memstartAlignOf, physBitsOf } from '../layout/address-space.js'
import { clip } from '../layout/ranges.js'
import type { Machine } from '../layout/types.js'
import type { Range } from '../u64.js'
import { placedMachine } from './check.js'
import { LAYOUT_NAMES, type LayoutName, namedLayout, REAL } from './layouts.js'
import { withKernelAt } from './restrictions.js'
import { type ReasonKind, verdictOf } from './verdict.js'

/** The problems of a layout at one place of a sweep; empty when it is sound and keeps all memory. */
export type SweepState = readonly (ReasonKind | 'memory-given-up' | 'kernel-does-not-fit')[]

/** A place where a verdict changes. */
export interface SweepChange {
  readonly name: LayoutName
  /** What is moved: the kernel with its idmap page, or the end of a bank of memory beside those there are. */
  readonly moved: 'kernel' | 'memory'
  /** The first place (idmap page, or end of the bank; physical) with the new verdict. */
  readonly at: bigint
  readonly before: SweepState
  readonly after: SweepState
}

/**
 * Moves the kernel, and then a bank of memory, over the boundaries that the layouts are about (half and end of each low
 * window, half of the hyp VA space, and what each window leaves of it) and one page to either side, as physical addresses and
 * as offsets in the linear map, and finds each place where a verdict changes. What is moved has a bank of its own, of the
 * size to which memstart_addr is aligned.
 * @throws HypvaError as `checkProposals` does
 * @example
 * sweepProposals(machine52, ['cap-51']).length > 0 // true
 */
export function sweepProposals(machine: Machine, names: readonly LayoutName[] = LAYOUT_NAMES): SweepChange[] {
  const { physOffset: _, ...placed } = placedMachine(machine)
  return names.flatMap((name) =>
    (['kernel', 'memory'] as const).flatMap((moved) => {
      const stateAt = memoised((at) => stateOf(moved === 'kernel' ? kernelAt(placed, at) : memoryTo(placed, at), name))
      const points = pointsOf(placed)
      return points.slice(1).flatMap((point, i) => {
        const changes = changesBetween(points[i]!, point, BigInt(placed.pageSize), stateAt)
        return changes.map(([before, at]) => ({ name, moved, at, before: stateAt(before), after: stateAt(at) }))
      })
    }),
  )
}

/** Ascending; all of them places for a page. */
function pointsOf(machine: Machine): bigint[] {
  const { layout, geometry } = namedLayout(machine, 'extended-linear')
  const { 'low-window-48': high, 'low-window-47': low } = REAL.windowBits
  const space = 1n << BigInt(geometry.hypVaBits)
  const boundaries = [1n << BigInt(low - 1), 1n << BigInt(low), 1n << BigInt(high), space >> 1n]
  boundaries.push(space - (1n << BigInt(high)), space - (1n << BigInt(low)))
  const memstart = BigInt.asIntN(64, layout.physOffset! + geometry.physOffsetBias)
  const page = BigInt(machine.pageSize)
  const align = memstartAlignOf(machine.pageSize)
  const limit = 1n << BigInt(physBitsOf(machine.pageSize, machine.vaBits))
  const points = boundaries.flatMap((at) => [at, at + memstart]).flatMap((at) => [at - page, at, at + page])
  const inside = [align, ...points, limit - page].filter((at) => at >= align && at < limit)
  return [...new Set(inside)].sort((a, b) => (a < b ? -1 : 1))
}

function kernelAt(machine: Machine, idmap: bigint): Machine {
  const align = memstartAlignOf(machine.pageSize)
  const start = idmap - (idmap % align)
  const moved = withKernelAt(machine, idmap)
  return { ...moved, dram: withBank(machine.dram, { start, end: start + align }) }
}

function memoryTo(machine: Machine, end: bigint): Machine {
  return { ...machine, dram: withBank(machine.dram, { start: end - memstartAlignOf(machine.pageSize), end }) }
}

function withBank(dram: readonly Range[], bank: Range): Range[] {
  const below = clip(dram, 0n, bank.start)
  const above = dram.flatMap((range) => clip([range], bank.end, range.end))
  return [...below, bank, ...above]
}

function stateOf(machine: Machine, name: LayoutName): SweepState {
  try {
    const { reasons, banks } = verdictOf(machine, namedLayout(machine, name))
    const kinds = [...new Set(reasons.map(({ kind }) => kind))]
    return banks.some(({ dropped }) => dropped.length > 0) ? [...kinds, 'memory-given-up'] : kinds
  } catch (error) {
    if (error instanceof HypvaError && error.code === 'HYPVA_MACHINE') return ['kernel-does-not-fit']
    throw error
  }
}

/** Pairs of neighbouring pages between which the state changes, by halving wherever the two ends differ. */
function changesBetween(
  low: bigint,
  high: bigint,
  page: bigint,
  stateAt: (at: bigint) => SweepState,
): [before: bigint, at: bigint][] {
  if (String(stateAt(low)) === String(stateAt(high))) return []
  if (high - low <= page) return [[low, high]]
  const middle = low + ((high - low) / page / 2n) * page
  return [...changesBetween(low, middle, page, stateAt), ...changesBetween(middle, high, page, stateAt)]
}

function memoised(compute: (at: bigint) => SweepState): (at: bigint) => SweepState {
  const known = new Map<bigint, SweepState>()
  return (at) => {
    let state = known.get(at)
    if (state === undefined) {
      state = compute(at)
      known.set(at, state)
    }
    return state
  }
}
