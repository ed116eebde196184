import type { Plan, Segment } from '../engine/segments.js'
import { HypvaError } from '../errors.js'
import { MissingFieldError } from '../layout/fields.js'
import { hypVaEnd, macroOf } from '../layout/macro.js'
import { inOrder, subtract } from '../layout/ranges.js'
import { type ConcreteSpace, convert, imageInMemory, missingFields, type Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import { formatU64, type Range, U64_MAX, wrap64 } from '../u64.js'

/** A segment of a direction, with what its addresses are before and after. */
export interface DirectedSegment extends Segment {
  readonly from: ConcreteSpace
  readonly to: ConcreteSpace
}

/** Physically contiguous memory, and whether it is the kernel image. */
interface Piece extends Range {
  readonly image: boolean
}

type Field = keyof HypLayout

/**
 * Compiles one direction of a layout to the list that every kernel, `explain` and the pictures read: ascending, disjoint.
 * Within a range every translation of docs/kernel-facts.md, 3 is the addition of a constant. Empty when nothing is missing
 * and yet no memory has both addresses.
 * @throws MissingFieldError when the layout lacks what the direction needs; HypvaError `HYPVA_LAYOUT` when the direction is
 * ambiguous (two kernel addresses share a hyp VA)
 */
export function compileSegments(layout: HypLayout, from: Space, to: Space): DirectedSegment[] {
  const source = canonical(layout, from)
  const target = canonical(layout, to)
  if ([source, target].every((space) => space === 'image' || space === 'link')) {
    // Wherever the image lies in memory, its two addresses differ by the KASLR offset alone.
    layout = { ...layout, kimageVoffset: layout.kimageVoffset ?? 0n }
  }
  const offsets = new Offsets(layout)
  const wanting = new Set<Field>(wantingMemory(layout, source, target))
  const segments: DirectedSegment[] = []

  for (const piece of memory(layout)) {
    for (const sourceSpace of viewsOf(piece, source)) {
      for (const targetSpace of to === 'hyp' && layout.mode === 'vhe'
        ? sameView(sourceSpace, piece)
        : targetsOf(piece, target)) {
        const missing = [...missingFields(layout, sourceSpace), ...missingFields(layout, targetSpace)]
        for (const field of missing) wanting.add(field)
        if (missing.length > 0) continue
        for (const segment of directed(offsets, piece, sourceSpace, targetSpace)) segments.push(segment)
      }
    }
  }
  if (segments.length === 0 && wanting.size > 0) {
    throw new MissingFieldError(`translating ${from} to ${to} addresses`, [...wanting])
  }
  return tidy(segments, from)
}

/**
 * The source spaces when the caller names none: kernel addresses for `hyp`, kernel and hyp addresses alike for every other space.
 * The two never meet: kernel addresses are in the upper half of 2^64, hyp addresses below 2^52. The caller has to ask
 * for hyp addresses that look like any number.
 */
export function sourceSpaces(layout: HypLayout, from: Space | undefined, to: Space): readonly Space[] {
  if (from !== undefined) return [from]
  return to === 'hyp' || layout.mode === 'vhe' || hypLooksLikeNumbers(layout) ? ['kernel'] : ['kernel', 'hyp']
}

/** Whether linear memory begins at 0 at EL2, so that counters and sizes are hyp addresses as well. */
export function hypLooksLikeNumbers({ mode, tag, tagVal }: HypLayout): boolean {
  return mode !== 'vhe' && (tag ?? tagVal) === 0n
}

/** The segments that lead into a space, and the source spaces without any. */
interface Directions {
  readonly segments: readonly DirectedSegment[]
  /** The source spaces that the layout does not lead from, each with the reason. */
  readonly refusals: readonly { readonly from: Space; readonly error: HypvaError }[]
}

/**
 * Compiles the directions from one space, or from all that `sourceSpaces` gives, to one list.
 * @throws as `compileSegments`, when the layout leads from none of them
 */
export function compileDirections(layout: HypLayout, from: Space | undefined, to: Space): Directions {
  const segments: DirectedSegment[] = []
  const refusals: { from: Space; error: HypvaError }[] = []
  const sources = sourceSpaces(layout, from, to)
  for (const source of sources) {
    try {
      segments.push(...compileSegments(layout, source, to))
    } catch (error) {
      if (!(error instanceof HypvaError)) throw error
      refusals.push({ from: source, error })
    }
  }
  if (refusals.length === sources.length) throw refusals[0]!.error
  return { segments: inOrder(segments), refusals }
}

/** @param from absent: kernel and hyp addresses alike, or kernel addresses when they become hyp addresses */
export function checkedPlan(layout: HypLayout, from: Space | undefined, to: Space): Plan & { kind: 'checked' } {
  const { segments } = compileDirections(layout, from, to)
  if (segments.length === 0) {
    const source = from ?? (to === 'hyp' ? 'kernel' : 'kernel or hyp')
    throw new HypvaError('HYPVA_LAYOUT', `layout: none of its memory has both a ${source} and a ${to} address`)
  }
  return { kind: 'checked', segments }
}

export function macroPlan(layout: HypLayout): Plan {
  return { kind: 'macro', ...macroOf(layout) }
}

/**
 * kern_hyp_va as the plan of a direction.
 * @throws HypvaError `HYPVA_ARGUMENT` for a direction in which it does not go
 */
export function uncheckedPlan(layout: HypLayout, from: Space, to: Space): Plan {
  if (to !== 'hyp' || (from !== 'kernel' && from !== 'linear')) {
    throw new HypvaError('HYPVA_ARGUMENT', `unchecked: kern_hyp_va goes from kernel to hyp, not from ${from} to ${to}`)
  }
  return macroPlan(layout)
}

/** With VHE the host itself runs at EL2: hyp addresses are kernel addresses. */
function canonical(layout: HypLayout, space: Space): Space {
  return space === 'hyp' && layout.mode === 'vhe' ? 'kernel' : space
}

/** All memory that the layout knows, in pieces that are the image or are not. */
function memory(layout: HypLayout): Piece[] {
  const banks: Piece[] = (layout.dram ?? []).map(({ start, end }) => ({ start, end, image: false }))
  const image = imageInMemory(layout)
  if (image === undefined) return banks
  return [...subtract(banks, [image]).map((part) => ({ ...part, image: false })), { ...image, image: true }]
}

/** The absent fields without which the direction lacks memory. */
function wantingMemory(layout: HypLayout, source: Space, target: Space): Field[] {
  const imageOnly = [source, target].some((space) => space === 'image' || space === 'link')
  const fields: Field[] = imageOnly ? ['image', 'kimageVoffset'] : ['dram']
  return fields.filter((field) => layout[field] === undefined)
}

/** The spaces a piece's source addresses can be in: the image's pages have two kernel addresses, others no image address. */
function viewsOf(piece: Piece, source: Space): ConcreteSpace[] {
  if (source === 'kernel') return piece.image ? ['linear', 'image'] : ['linear']
  return piece.image || (source !== 'image' && source !== 'link') ? [source] : []
}

/** The space that a piece's addresses are translated to: at most one. */
function targetsOf(piece: Piece, target: Space): ConcreteSpace[] {
  if (target === 'kernel') return piece.image ? ['image'] : ['linear']
  return piece.image || (target !== 'image' && target !== 'link') ? [target] : []
}

/** With VHE kern_hyp_va is the identity: a kernel address stays the one it is. */
function sameView(source: ConcreteSpace, piece: Piece): ConcreteSpace[] {
  return source === 'linear' || source === 'image' ? [source] : targetsOf(piece, 'kernel')
}

/** The segments of a piece of memory, by the formulas from physical addresses to either space. */
function directed(offsets: Offsets, piece: Piece, from: ConcreteSpace, to: ConcreteSpace): DirectedSegment[] {
  const blocks = offsets.uniform(piece)
  const reached = from === 'hyp' || to === 'hyp' ? blocks.flatMap((block) => offsets.reached(block)) : blocks
  return reached.flatMap((block) => {
    const start = offsets.address(from, block.start)
    const size = block.end - block.start
    const delta = wrap64(offsets.address(to, block.start) - start)
    const room = U64_MAX + 1n - start
    if (size <= room) return [{ start, end: start + size, delta, from, to }]
    // A range that wraps past 2^64 is two.
    return [
      { start, end: start + room, delta, from, to },
      { start: 0n, end: size - room, delta, from, to },
    ]
  })
}

/** The addresses of physical memory in each space. */
class Offsets {
  private readonly layout: HypLayout
  private readonly mask: bigint
  /** Blocks that all pieces were cut into, beyond one a piece. */
  private cuts = 0

  constructor(layout: HypLayout) {
    this.layout = layout
    this.mask = macroOf(layout).mask
  }

  /** The address of a byte of memory in a space of which the layout lacks no field. */
  address(space: ConcreteSpace, phys: bigint): bigint {
    return convert(this.layout, 'phys', space, phys)!
  }

  /** The part of a uniform block that has hyp VAs: an added tag can carry its end beyond the last of them. */
  reached(block: Range): Range[] {
    const limit = hypVaEnd(this.layout) - this.address('hyp', block.start)
    if (limit >= block.end - block.start) return [block]
    return limit <= 0n ? [] : [{ start: block.start, end: block.start + limit }]
  }

  /**
   * Cuts a piece where its linear address leaves a block of va_mask + 1 bytes. In a sound layout all of DRAM lies in one
   * block; beyond it kern_hyp_va starts again from the tag.
   */
  uniform(piece: Piece): Range[] {
    const { layout, mask } = this
    const linear = convert(layout, 'phys', 'linear', piece.start)
    if (linear === undefined || mask === U64_MAX) return [piece]
    const block = mask + 1n
    const parts: Range[] = []
    for (let start = piece.start; start < piece.end; ) {
      const next = start + (block - (wrap64(linear + start - piece.start) & mask))
      const end = next < piece.end ? next : piece.end
      parts.push({ start, end })
      start = end
      if (parts.length > 1 && ++this.cuts >= MAX_BLOCKS) {
        throw new HypvaError(
          'HYPVA_LAYOUT',
          `layout: the bank ${formatU64(piece.start)}–${formatU64(piece.end)} spans more than ${MAX_BLOCKS} blocks of 2^tagLsb bytes; tagLsb or dram is wrong`,
        )
      }
    }
    return parts
  }
}

/** No kernel makes a layout whose DRAM spans more blocks. */
const MAX_BLOCKS = 4096

/** Sorts, refuses overlaps, merges neighbours with one delta. */
function tidy(segments: DirectedSegment[], from: Space): DirectedSegment[] {
  const merged: DirectedSegment[] = []
  for (const segment of inOrder(segments)) {
    const last = merged[merged.length - 1]
    if (last !== undefined && segment.start < last.end) {
      throw new HypvaError(
        'HYPVA_LAYOUT',
        `layout: ${from} addresses from ${formatU64(segment.start)} to ${formatU64(last.end < segment.end ? last.end : segment.end)} would translate to two places in memory: dram spans more than 2^tagLsb bytes, or a range is wrong`,
      )
    }
    if (
      last !== undefined &&
      segment.start === last.end &&
      segment.delta === last.delta &&
      segment.from === last.from &&
      segment.to === last.to
    ) {
      merged[merged.length - 1] = { ...last, end: segment.end }
    } else {
      merged.push(segment)
    }
  }
  // The WASM kernels refuse such a segment; single addresses are refused alike.
  const [first] = merged
  if (first !== undefined && first.end - first.start > U64_MAX) {
    throw new HypvaError('HYPVA_LAYOUT', `layout: one range of all 2^64 ${from} addresses; dram or image is wrong`)
  }
  return merged
}
