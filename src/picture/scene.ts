import { algorithmRange } from '../layout/generations.js'
import { macroOf } from '../layout/macro.js'
import { layoutProblems } from '../layout/problems.js'
import { byStart, clip, inOrder, rangeText, subtract, within } from '../layout/ranges.js'
import { hypRegions, kernelRegions, type LocatedRegion } from '../layout/regions.js'
import { convert } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import type { ProposalVerdict } from '../proposals/check.js'
import { compileSegments, type DirectedSegment } from '../translate/directions.js'
import { formatU64, type Range, wrap64 } from '../u64.js'
import { bitsOf, sizeText } from './size.js'

/** A layout, or the verdict of `checkProposals` about one. */
export type Subject = HypLayout | ProposalVerdict

export type BoxKind =
  | 'linear'
  | 'image'
  | 'modules'
  | 'idmap'
  | 'private'
  | 'vmemmap'
  /** Linear addresses without memory. */
  | 'hole'
  /** Addresses of nothing. */
  | 'gap'
  /** Two mappings want the same hyp VA. */
  | 'collision'
  /** Memory without a hyp VA, and memory that the kernel gives up at boot. */
  | 'lost'

/** The name of each kind in the legend of a picture. */
export const LEGEND: Readonly<Record<BoxKind, string>> = {
  linear: 'linear memory',
  image: 'kernel image',
  modules: 'modules',
  idmap: 'idmap',
  private: 'private',
  vmemmap: 'page metadata',
  hole: 'linear, no memory',
  gap: 'unused',
  collision: 'collision',
  lost: 'not mapped',
}

/** A stretch of one address space, in the order of addresses. */
export interface Box {
  readonly kind: BoxKind
  /** Absent for memory that has no address in this space. */
  readonly range?: Range
  readonly title: string
  /** The title in ten characters, for a narrow terminal. */
  readonly short: string
  readonly size: bigint
}

interface PlacedBox extends Box {
  readonly range: Range
}

/** Addresses that translate: a stretch of the left side and the stretch of the right side that it becomes. */
export interface Ribbon {
  readonly kind: 'linear' | 'image' | 'collision'
  readonly left: Range
  readonly right: Range
}

export interface Scene {
  readonly title: string
  /** What it is, in a line; may be empty. */
  readonly summary: string
  /** The description for screen readers. */
  readonly description: string
  readonly formula: string
  /** Absent where there is nothing to judge by. */
  readonly sound?: boolean
  readonly left: readonly Box[]
  readonly right: readonly Box[]
  readonly ribbons: readonly Ribbon[]
  readonly remarks: readonly string[]
}

/** Both address spaces of a subject as boxes, and what maps where. */
export function sceneOf(subject: Subject): Scene {
  const verdict = 'layout' in subject ? subject : undefined
  const layout = 'layout' in subject ? subject.layout : subject
  const segments = segmentsOf(layout)
  const collisions = layout.mode === 'vhe' ? [] : collisionsOf(layout, segments)
  const left = leftBoxes(layout, segments, collisions, verdict)
  const right = layout.mode === 'vhe' ? left.filter(({ range }) => range !== undefined) : rightBoxes(layout, collisions)
  const ribbons = [
    ...segments.map((segment): Ribbon => ({ kind: segment.from === 'image' ? 'image' : 'linear', ...ends(segment) })),
    ...collisions.filter(({ harmless }) => !harmless).map((collision): Ribbon => ({ kind: 'collision', ...collision })),
  ]
  const problems = verdict?.reasons ?? layoutProblems(layout)
  const dropped = verdict?.banks.flatMap((bank) => bank.dropped) ?? []
  const remarks = [
    ...problems.map(({ message }) => message),
    ...dropped.map(
      (range) => `the kernel gives up physical ${rangeText(range)} at boot: the linear map cannot hold it`,
    ),
  ]
  const title = verdict?.name ?? layout.proposal ?? titleOf(layout)
  const sound = verdict?.sound ?? (left.some(({ kind }) => kind === 'linear') ? problems.length === 0 : undefined)
  return {
    title,
    summary: verdict === undefined ? modeText(layout) : verdict.summary,
    description: describe(title, sound, left, right, remarks),
    formula: formulaOf(layout),
    ...(sound !== undefined && { sound }),
    left,
    right,
    ribbons,
    remarks,
  }
}

interface Meeting {
  readonly left: Range
  readonly right: Range
  readonly harmless: boolean
}

/** Kernel to hyp; empty where the layout lacks a field. */
function segmentsOf(layout: HypLayout): DirectedSegment[] {
  const { pageOffset, physOffset, dram } = layout
  if (pageOffset === undefined || physOffset === undefined || dram === undefined) return []
  return compileSegments(layout, 'kernel', 'hyp').filter(({ from, to }) => from !== 'image' || to !== 'image')
}

function ends({ start, end, delta }: DirectedSegment): { left: Range; right: Range } {
  const hyp = wrap64(start + delta)
  return { left: { start, end }, right: { start: hyp, end: hyp + (end - start) } }
}

/** Linear memory that meets the idmap page. */
function collisionsOf(layout: HypLayout, segments: readonly DirectedSegment[]): Meeting[] {
  const { idmap, pageSize = 4096 } = layout
  if (idmap === undefined) return []
  const page = { start: idmap, end: idmap + BigInt(pageSize) }
  return segments
    .filter(({ from }) => from === 'linear')
    .flatMap((segment) =>
      clip([ends(segment).right], page.start, page.end).map((right) => {
        const left = { start: wrap64(right.start - segment.delta), end: wrap64(right.end - segment.delta) }
        return { left, right, harmless: convert(layout, 'linear', 'phys', left.start) === right.start }
      }),
    )
}

function leftBoxes(
  layout: HypLayout,
  segments: readonly DirectedSegment[],
  collisions: readonly Meeting[],
  verdict: ProposalVerdict | undefined,
): Box[] {
  const mapped = segments.map(({ start, end }) => ({ start, end }))
  const meeting = collisions.filter(({ harmless }) => !harmless).map(({ left }) => left)
  const boxes = kernelRegions(layout)
    .filter(({ kind }) => kind !== 'user')
    .flatMap((region): PlacedBox[] => {
      if (region.kind !== 'linear') return [boxOf(region)]
      const met = within(meeting, region.range.start, region.range.end)
      const parts = met.map((range) => box('collision', range, "idmap's image: keep free", 'keep free'))
      for (const range of subtract([region.range], met)) {
        const known = layout.dram !== undefined
        const reached = within(mapped, range.start, range.end)
        for (const part of known ? reached : [range]) {
          parts.push(box('linear', part, ...linearTitle(region)))
        }
        if (!known) continue
        for (const part of subtract([range], reached))
          parts.push(box('lost', part, 'memory without a hyp VA', 'NO HYP VA'))
      }
      return parts.toSorted(byStart)
    })
    .toSorted(byStart)
  const placed = withGaps(boxes)
  if (placed.length === 0) placed.push({ kind: 'gap', title: 'the layout does not tell', short: 'not known', size: 0n })
  const dropped = verdict?.banks.flatMap((bank) => bank.dropped) ?? []
  return [
    ...placed,
    ...dropped.map(
      ({ start, end }): Box => ({ kind: 'lost', title: 'given up at boot', short: 'given up', size: end - start }),
    ),
  ]
}

/** The regions of EL2 cut at each other's edges, so that no two boxes share an address. */
function rightBoxes(layout: HypLayout, collisions: readonly Meeting[]): Box[] {
  const regions = hypRegions(layout)
  const edges = [...new Set(regions.flatMap(({ range }) => [range.start, range.end]))].sort((a, b) => (a < b ? -1 : 1))
  const boxes: PlacedBox[] = []
  const covering = new Covering(regions)
  const harmless = inOrder(collisions.filter((collision) => collision.harmless).map(({ right }) => right))
  edges.slice(1).forEach((end, i) => {
    const range = { start: edges[i]!, end }
    if (!covering.moveTo(range)) return
    const next = covered(range, covering, harmless)
    const last = boxes.at(-1)
    const joins = last?.range.end === range.start && last.kind === next.kind && last.title === next.title
    if (joins) boxes[boxes.length - 1] = box(next.kind, { start: last.range.start, end }, next.title, next.short)
    else boxes.push(next)
  })
  return withGaps(boxes)
}

/** Which regions cover a stretch that moves upwards from edge to edge: of each kind the first. */
class Covering {
  private readonly queues = new Map<string, { readonly regions: LocatedRegion[]; head: number }>()
  private readonly regions: readonly LocatedRegion[]
  private next = 0

  /** @param regions ascending by start */
  constructor(regions: readonly LocatedRegion[]) {
    this.regions = regions
  }

  /** Moves to a stretch that no region's edge cuts; false when none covers it. */
  moveTo({ start, end }: Range): boolean {
    for (; this.next < this.regions.length && this.regions[this.next]!.range.start <= start; this.next++) {
      const region = this.regions[this.next]!
      const queue = this.queues.get(region.kind)
      if (queue === undefined) this.queues.set(region.kind, { regions: [region], head: 0 })
      else queue.regions.push(region)
    }
    let any = false
    for (const queue of this.queues.values()) {
      // What ends before this stretch covers none of those that follow.
      while (queue.head < queue.regions.length && queue.regions[queue.head]!.range.end < end) queue.head++
      any ||= queue.head < queue.regions.length
    }
    return any
  }

  of(kind: LocatedRegion['kind']): LocatedRegion | undefined {
    const queue = this.queues.get(kind)
    return queue?.regions[queue.head]
  }
}

function covered(range: Range, covering: Covering, harmless: readonly Range[]): PlacedBox {
  const linear = covering.of('hyp-linear')
  const own = covering.of('idmap') ?? covering.of('private') ?? covering.of('hyp-vmemmap')
  if (own !== undefined && linear !== undefined) {
    if (own.kind !== 'idmap') return box('collision', range, `${boxOf(own).title} over memory`, `${boxOf(own).short} ╳`)
    return within(harmless, range.start, range.start + 1n).length > 0
      ? box('idmap', range, 'idmap = its own memory', 'idmap')
      : box('collision', range, 'idmap page over memory', 'idmap ╳')
  }
  return { ...boxOf(own ?? linear ?? covering.of('hyp-linear-hole')!), range, size: range.end - range.start }
}

const TITLES: Readonly<Record<string, readonly [kind: BoxKind, title: string, short: string]>> = {
  'linear-hole': ['hole', 'no memory', 'no memory'],
  image: ['image', 'kernel image', 'image'],
  modules: ['modules', 'modules', 'modules'],
  idmap: ['idmap', 'idmap page', 'idmap'],
  private: ['private', 'private', 'private'],
  'hyp-vmemmap': ['vmemmap', 'page metadata', 'metadata'],
  'hyp-linear-hole': ['hole', 'no memory', 'no memory'],
}

function boxOf(region: LocatedRegion): PlacedBox {
  const [kind, title, short] = TITLES[region.kind] ?? (['linear', ...linearTitle(region)] as const)
  return box(kind, region.range, title, short)
}

function linearTitle({ bank }: LocatedRegion): readonly [title: string, short: string] {
  return bank === undefined ? ['linear memory', 'linear'] : [`linear memory, bank ${bank}`, `bank ${bank}`]
}

function box(kind: BoxKind, range: Range, title: string, short: string): PlacedBox {
  return { kind, range, title, short, size: range.end - range.start }
}

function withGaps(boxes: readonly PlacedBox[]): Box[] {
  return boxes.flatMap((next, i) => {
    const before = boxes[i - 1]?.range.end
    const start = next.range.start
    return before !== undefined && before < start
      ? [box('gap', { start: before, end: start }, 'unused', 'unused'), next]
      : [next]
  })
}

function titleOf({ generation }: HypLayout): string {
  return generation === undefined ? 'EL2 layout' : `EL2 layout, algorithm of Linux ${algorithmRange(generation)}`
}

function modeText({ mode, pageSize, vaBits, vaBitsActual = vaBits }: HypLayout): string {
  const widths = vaBits === vaBitsActual ? `${vaBits} bits` : `${vaBits} bits, ${vaBitsActual} in use`
  return [mode, pageSize && `pages of ${pageSize / 1024} KiB`, vaBits && widths].filter(Boolean).join(', ')
}

function formulaOf(layout: HypLayout): string {
  if (layout.mode === 'vhe') return 'kern_hyp_va(x) = x'
  const { mask, tag } = macroOf(layout)
  return `kern_hyp_va(x) = (x & ${formatU64(mask)}) + ${formatU64(tag)}`
}

function describe(
  title: string,
  sound: boolean | undefined,
  left: readonly Box[],
  right: readonly Box[],
  remarks: readonly string[],
): string {
  const list = (boxes: readonly Box[]) =>
    boxes
      .filter(({ kind }) => kind !== 'gap' && kind !== 'hole')
      .map(({ title, range, size }) => `${title}${range ? ` at ${formatU64(range.start)}` : ''}, ${sizeText(size)}`)
      .join('; ')
  const verdict = sound === undefined ? '' : sound ? ' Sound.' : ` Unsound: ${remarks.join('. ')}.`
  return `${title}.${verdict} At EL1: ${list(left)}. At EL2: ${list(right)}.`
}

/** How large a box is beside others, by the logarithm of its size: the bits above a page of 4 KiB. */
export function weightOf({ size }: Box): number {
  return Math.max(0, bitsOf(size) - 12)
}
