import type { Geometry } from '../layout/compute.js'
import { type PrivatePlace, privatePlace } from '../layout/hyp-ranges.js'
import { hypVaEnd, hypVaRange, macroOf } from '../layout/macro.js'
import { layoutProblems, refusedAtStartUp } from '../layout/problems.js'
import { clip, inOrder, joinTouching, rangeText, sizeOf, subtract } from '../layout/ranges.js'
import { convert } from '../layout/spaces.js'
import type { HypLayout, Machine } from '../layout/types.js'
import { compileSegments } from '../translate/directions.js'
import { formatU64, type Range, wrap64 } from '../u64.js'
import type { NamedLayout } from './layouts.js'

/** Why a layout is unsound on a machine. */
export type ReasonKind =
  /** EL1 uses memory that EL2 cannot map: it fails at run time, when a page there is given to EL2. */
  | 'memory-not-mapped'
  /** The idmap page's hyp VA is that of a page of memory as well, and not of the same page. */
  | 'idmap-collision'
  /** The kernel's own check refuses to start KVM. */
  | 'start-up-check'
  /** The first private page would lie where memory is mapped. */
  | 'private-collision'
  /** Not one private page fits: -ENOMEM. */
  | 'no-private-room'
  /** Two pages of memory share a hyp VA. */
  | 'dram-aliases'
  /** The patched code cannot carry the tag. */
  | 'tag-overflow'

/** One reason why a layout does not work on a machine. */
export interface Reason {
  readonly kind: ReasonKind
  /** One line, with the numbers. */
  readonly message: string
}

/** The parts of one bank of DRAM; ranges are physical. */
export interface BankVerdict {
  readonly bank: Range
  /** Mapped at EL2. */
  readonly mapped: readonly Range[]
  /** In EL1's linear map, but without a hyp VA. */
  readonly unmapped: readonly Range[]
  /** Given up at boot: not in EL1's linear map either. */
  readonly dropped: readonly Range[]
}

/** Memory whose hyp VA is the idmap page's. */
export interface Collision {
  readonly hyp: Range
  readonly linear: Range
  readonly phys: Range
  /** The memory is the idmap page itself: both mappings say the same. */
  readonly harmless: boolean
}

/**
 * The EL1 linear addresses that kern_hyp_va takes to the idmap page, whether or not there is memory: `count` pages, `step`
 * bytes apart.
 */
export interface CongruentSet {
  readonly first: Range
  readonly step: bigint
  readonly count: bigint
}

/** How far private mappings can grow. */
export interface PrivateVerdict {
  /** Where the first of them goes: they grow down from here in nVHE, up in pKVM. */
  readonly start: bigint
  readonly grows: 'down' | 'up'
  /** Where they can grow no further. */
  readonly end: bigint
  /** Bytes between the two. */
  readonly room: bigint
  /** Whether the kernel's check notices: otherwise mappings collide in silence. */
  readonly noticed: boolean
  /** The memory it would run into, as hyp VAs. */
  readonly meets?: Range
  /** pKVM: page metadata, and the memory mapped where it is. */
  readonly vmemmap?: Range
  readonly vmemmapMeets?: readonly Range[]
}

/** The effects of a layout on a machine. Hyp, linear and physical addresses; ranges half-open. */
export interface Verdict extends Omit<NamedLayout, 'geometry'> {
  readonly sound: boolean
  /** Empty when sound. */
  readonly reasons: readonly Reason[]
  /** The idmap page at EL2. */
  readonly idmap: Range
  /** Where EL2 maps linear memory, or would; absent for vhe. */
  readonly linear?: Range
  /** The HYP VA range that the kernel prints; absent for vhe. */
  readonly hypVaRange?: Range
  /** Bytes that EL1's linear map can hold. */
  readonly linearSize: bigint
  /** Bytes of it that EL2 can map. */
  readonly capacity: bigint
  /** Offsets in EL1's linear map that have no hyp VA. */
  readonly missing?: Range
  readonly banks: readonly BankVerdict[]
  /** The same, summed. */
  readonly bytes: { readonly mapped: bigint; readonly unmapped: bigint; readonly dropped: bigint }
  readonly collisions: readonly Collision[]
  readonly congruent?: CongruentSet
  /**
   * The thread's question: physical memory that EL1 must never allocate, so that nothing is mapped over the idmap page. Empty
   * when nothing is in the way.
   */
  readonly keepFree: readonly Range[]
  /** The result of the start-up check of real kernels. */
  readonly startUpCheck: 'pass' | '-EINVAL'
  /** The layout cannot come without another check, so that this one's refusal is no reason against it. */
  readonly startUpCheckReplaced: boolean
  /** Growing down, and growing up; absent for vhe. */
  readonly privateNvhe?: PrivateVerdict
  readonly privatePkvm?: PrivateVerdict
}

/** Judges a layout on a machine. */
export function verdictOf(machine: Machine, named: NamedLayout): Verdict {
  const { geometry, ...rest } = named
  const { layout } = rest
  const { linearSize } = geometry
  const { pageSize } = machine
  const idmap = { start: machine.idmap, end: machine.idmap + BigInt(pageSize) }
  const segments = compileSegments(layout, 'phys', 'hyp').map((segment) => ({
    phys: { start: segment.start, end: segment.end },
    delta: segment.delta,
  }))
  const mapped = joinTouching(segments.map(({ phys }) => phys))
  const banks = machine.dram.map((bank): BankVerdict => {
    const kept = (layout.dram ?? []).flatMap((range) => clip([range], bank.start, bank.end))
    return {
      bank,
      mapped: clip(mapped, bank.start, bank.end),
      unmapped: subtract(kept, mapped),
      dropped: subtract([bank], kept),
    }
  })
  const bytes = {
    mapped: sizeOf(banks.flatMap((bank) => bank.mapped)),
    unmapped: sizeOf(banks.flatMap((bank) => bank.unmapped)),
    dropped: sizeOf(banks.flatMap((bank) => bank.dropped)),
  }
  if (layout.mode === 'vhe') {
    const vhe = { idmap, linearSize, capacity: linearSize, banks, bytes, collisions: [], keepFree: [] }
    return { ...rest, ...vhe, sound: true, reasons: [], startUpCheck: 'pass', startUpCheckReplaced: false }
  }
  const hyp = segments.map(({ phys, delta }) => ({
    start: wrap64(phys.start + delta),
    end: wrap64(phys.start + delta) + (phys.end - phys.start),
    delta,
  }))
  const collisions = hyp.flatMap((memory) => collisionsOf(layout, memory, idmap))
  const capacity = capacityOf(layout, linearSize)
  const congruent = congruentSet(layout, geometry, idmap)
  const occupied = joinTouching(inOrder(hyp))
  const privateNvhe = privateVerdict(layout, 'down', linearSize, occupied)
  const privatePkvm = privateVerdict(layout, 'up', linearSize, occupied)
  const reasons = [
    ...notMapped(layout, banks),
    ...harmful(collisions),
    ...startUp(layout),
    ...privateRoom(layout.mode === 'protected' ? privatePkvm : privateNvhe, BigInt(pageSize)),
    ...layoutProblems(layout).flatMap(({ kind, message }) =>
      kind === 'dram-aliases' || kind === 'tag-overflow' ? [{ kind, message }] : [],
    ),
  ]
  const range = hypVaRange(layout)
  return {
    ...rest,
    sound: reasons.length === 0,
    reasons,
    idmap,
    linear: linearPlace(layout, linearSize),
    ...(range && { hypVaRange: range }),
    linearSize,
    capacity,
    ...(capacity < linearSize && { missing: { start: capacity, end: linearSize } }),
    banks,
    bytes,
    collisions,
    ...(congruent && { congruent }),
    keepFree: collisions.filter(({ harmless }) => !harmless).map(({ phys }) => phys),
    startUpCheck: refusedAtStartUp(layout) ? '-EINVAL' : 'pass',
    startUpCheckReplaced: replacesCheck(layout),
    ...(privateNvhe && { privateNvhe }),
    ...(privatePkvm && { privatePkvm }),
  }
}

/** Where the linear map's own beginning comes to lie, and as much above as it takes there. */
function linearPlace(layout: HypLayout, linearSize: bigint): Range {
  const { mask, tag } = macroOf(layout)
  const size = mask < linearSize ? mask + 1n : linearSize
  const limit = hypVaEnd(layout)
  return { start: tag, end: tag + size < limit ? tag + size : limit }
}

/** Only an added tag loses memory, by carrying it beyond the hyp VA bits: a mask aliases instead. */
function capacityOf(layout: HypLayout, linearSize: bigint): bigint {
  const room = hypVaEnd(layout) - macroOf(layout).tag
  return layout.tag !== undefined && room < linearSize ? room : linearSize
}

interface MappedMemory extends Range {
  /** Physical to hyp. */
  readonly delta: bigint
}

function collisionsOf(layout: HypLayout, memory: MappedMemory, idmap: Range): Collision[] {
  return clip([memory], idmap.start, idmap.end).map((hyp) => {
    const start = wrap64(hyp.start - memory.delta)
    const phys = { start, end: start + (hyp.end - hyp.start) }
    const linearStart = convert(layout, 'phys', 'linear', start)!
    const linear = { start: linearStart, end: linearStart + (hyp.end - hyp.start) }
    return { hyp, linear, phys, harmless: start === hyp.start }
  })
}

/** Pages x of the linear map with (x AND mask) + tag = idmap. */
function congruentSet(layout: HypLayout, geometry: Geometry, idmap: Range): CongruentSet | undefined {
  const { mask, tag } = macroOf(layout)
  const rest = idmap.start - tag
  if (rest < 0n || rest > mask) return undefined
  const begin = geometry.pageOffset + geometry.physOffsetBias
  const first = begin + ((rest - begin) & mask)
  const room = begin + geometry.linearSize - first
  if (room <= 0n) return undefined
  const step = mask + 1n
  return { first: { start: first, end: first + (idmap.end - idmap.start) }, step, count: (room + mask) / step }
}

function privateVerdict(
  layout: HypLayout,
  grows: 'down' | 'up',
  linearSize: bigint,
  occupied: readonly Range[],
): PrivateVerdict | undefined {
  const place = privatePlace(layout, grows, linearSize)
  if (place === undefined) return undefined
  const met = clip(occupied, place.range.start, place.range.end)
  const meets = grows === 'down' ? met.at(-1) : met[0]
  const vmemmap = place.vmemmap && {
    vmemmap: place.vmemmap,
    vmemmapMeets: clip(occupied, place.vmemmap.start, place.vmemmap.end),
  }
  return { grows, ...extent(place, grows, meets), ...(meets && { meets }), ...vmemmap }
}

function extent({ range, checked }: PrivatePlace, grows: 'down' | 'up', meets: Range | undefined) {
  const [start, last] = grows === 'down' ? [range.end, range.start] : [range.start, range.end]
  const end = meets === undefined ? last : grows === 'down' ? meets.end : meets.start
  return { start, end, room: grows === 'down' ? start - end : end - start, noticed: checked && meets === undefined }
}

function notMapped(layout: HypLayout, banks: readonly BankVerdict[]): Reason[] {
  return banks.flatMap(({ unmapped }) =>
    unmapped.map((range): Reason => {
      const message = `physical ${rangeText(range)} is in EL1's linear map and has no hyp VA within ${layout.hypVaBits} bits`
      return { kind: 'memory-not-mapped', message }
    }),
  )
}

function harmful(collisions: readonly Collision[]): Reason[] {
  return collisions
    .filter(({ harmless }) => !harmless)
    .map(({ hyp, phys, linear }) => {
      const message = `hyp VA ${rangeText(hyp)} is the idmap page and also linear ${rangeText(linear)}, physical ${rangeText(phys)}`
      return { kind: 'idmap-collision', message }
    })
}

/** A layout that has the idmap amid linear memory on purpose has to come with another check. */
function replacesCheck({ proposal }: HypLayout): boolean {
  return proposal === 'overlap-top-window'
}

function startUp(layout: HypLayout): Reason[] {
  if (replacesCheck(layout)) return []
  return layoutProblems(layout)
    .filter(({ kind }) => kind === 'idmap-in-hyp-range')
    .map(({ message }) => ({ kind: 'start-up-check', message }))
}

function privateRoom(place: PrivateVerdict | undefined, page: bigint): Reason[] {
  if (place === undefined || place.room >= page) return []
  if (place.meets === undefined) {
    const message = `private mappings begin at ${formatU64(place.start)}, grow ${place.grows}, and end there: not one fits (-ENOMEM)`
    return [{ kind: 'no-private-room', message }]
  }
  const message = `private mappings begin at ${formatU64(place.start)} and grow ${place.grows}, into linear memory at hyp VA ${rangeText(place.meets)}`
  return [{ kind: 'private-collision', message }]
}
