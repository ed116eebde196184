import type { Engine } from '../engine/engine.js'
import type { Segment } from '../engine/segments.js'
import { memstartAlignOf } from '../layout/address-space.js'
import { type TagSpace, tagSpace, userRanges } from '../layout/hyp-ranges.js'
import type { HypLayout } from '../layout/types.js'
import type { SymbolTable } from '../symbols/table.js'
import { type Range, wrap64 } from '../u64.js'
import { compileSegments } from './directions.js'

/** What a watch goes by: all that it needs of a layout, as plain data that another thread can be sent. */
export interface TagClues {
  readonly space: TagSpace
  /** Where programs have their addresses by default, and where they may have them. */
  readonly users: { readonly byDefault: readonly Range[]; readonly atMost: readonly Range[] }
  /** The kernel image at EL2, and the hypervisor's text in it, with the layout's own tag; absent where it does not tell. */
  readonly image?: Range
  readonly text?: Range
  /**
   * Bytes by whose multiples another boot may move linear memory at EL2, besides by its tag: PHYS_OFFSET is random in kernels up
   * to 6.15, and with it tag_lsb.
   */
  readonly step: number
  /** What addresses become: a text that is looked at afterwards holds these as well. */
  readonly outputs: readonly Range[]
}

/** The idmap's text and the hypervisor's behind it: 64 to 108 KiB in kernels from 6.1 to 7.3. */
const MOST_TEXT = 1n << 17n

/**
 * The clues of a layout; undefined where tags tell nothing (see tagSpace).
 * @param segments the segments of the translation; empty when hypva translates nothing
 * @param symbols at run-time addresses: where the hypervisor's text is exactly
 */
export function tagClues(layout: HypLayout, segments: readonly Segment[], symbols?: SymbolTable): TagClues | undefined {
  const space = tagSpace(layout)
  if (space === undefined) return undefined
  return {
    space,
    users: { byDefault: userRanges(layout, 'default'), atMost: userRanges(layout, 'most') },
    ...imageClues(layout, symbols),
    step: Math.min(2 ** space.tagLsb, Number(memstartAlignOf(layout.pageSize ?? 65536))),
    outputs: segments
      .map(({ start, end, delta }) => ({ start: wrap64(start + delta), end: wrap64(start + delta) + (end - start) }))
      .filter((range) => overlaps(range, space.region)),
  }
}

function imageClues(layout: HypLayout, symbols: SymbolTable | undefined): { image?: Range; text?: Range } {
  let pieces: readonly Segment[]
  try {
    pieces = compileSegments(layout, 'hyp', 'image')
  } catch {
    return {}
  }
  if (pieces.length !== 1) return {}
  const [{ start, end, delta }] = pieces as [Segment]
  const { idmap, kimageVoffset } = layout
  const landmark = (name: string) => symbols?.landmarks.get(name)
  const first = landmark('__hyp_idmap_text_start') ?? (idmap === undefined ? undefined : wrap64(idmap + kimageVoffset!))
  if (first === undefined) return { image: { start, end } }
  const last = landmark('__hyp_text_end') ?? first + MOST_TEXT
  const text = { start: wrap64(first - delta), end: wrap64(last - delta) }
  return { image: { start, end }, text: { start: text.start, end: text.end < end ? text.end : end } }
}

/** What a watch has counted and seen: those of several jobs add up. */
export interface TagReport {
  /** Addresses in the half of the hyp VA space that linear memory is in, and those of them with the layout's own tag. */
  readonly inRegion: number
  readonly own: number
  /** Whether all that there was has been counted. */
  readonly complete: boolean
  /** Of a sample: addresses with another tag, and how often each was seen. */
  readonly seen: ReadonlyMap<number, number>
}

/** That a layout is of another boot. */
interface ForeignTag {
  /** The other boot's tag, in place, and as the kernel holds it. */
  readonly tag: bigint
  readonly tagVal: bigint
  /** By which both are told from the rest of an address: the layout's, since the other boot's is not known. */
  readonly tagLsb: number
  /** The layout's. */
  readonly ownTag: bigint
  readonly ownTagVal: bigint
  /** Addresses that carry another tag than the layout's; most of them this one. */
  readonly others: number
  /** Addresses that carry the layout's. */
  readonly own: number
  /** Whether that is all of them, or there may be more. */
  readonly complete: boolean
}

/** The layout is doubted only when it accounts for less than one in so many. */
const OWN_SHARE = 64
/** Bytes that are looked at as they come; beyond, only when there are twice as many addresses with another tag. */
const LOOKED_FIRST = 4 << 20
/** Bytes of raw words that are counted in any case. */
const WORDS_FIRST = 1 << 20
/** Bytes that most of the hypervisor's text lies within, twice over. */
const MOST_SPAN = 1 << 18
/** Distinct addresses that one look adds at most, and that are kept in all. */
const MOST_ADDED = 1024
const MOST_SEEN = 16384

/**
 * Notices that a trace is of another boot than the layout. All hyp addresses of linear memory of one boot carry one tag, which
 * is random; those of the layout's boot carry the layout's. What else a trace holds (addresses of programs and of guests,
 * numbers) must not pass for such a tag: see `verdict`.
 *
 * The engine counts each address, which is cheap; the addresses themselves are looked at in a sample, and only while the counts
 * leave the layout in doubt.
 */
export class TagWatch {
  /** Ranges whose addresses the engine counts: the region, and in it the layout's own tag. */
  readonly ranges: readonly [Range, Range]
  private readonly clues: TagClues
  private inRegion = 0
  private own = 0
  private complete = true
  private readonly seen = new Map<number, number>()
  private looked = 0
  private judged = -1
  private offered = 0
  private lastLook = 0

  constructor(clues: TagClues) {
    this.clues = clues
    this.ranges = [clues.space.region, clues.space.own]
  }

  /** Whether what was counted so far could mean another boot. */
  get doubtful(): boolean {
    return this.own * OWN_SHARE < this.inRegion - this.own
  }

  /**
   * Adds what the engine counted in a chunk of `bytes` bytes, in the two ranges.
   * @returns whether the chunk's addresses are to be shown to `look`
   */
  count([inRegion, own]: readonly [number, number], bytes: number): boolean {
    this.inRegion += inRegion
    this.own += own
    const others = this.inRegion - this.own
    if (inRegion === own || !this.doubtful) return false
    if (this.looked >= LOOKED_FIRST && others < 2 * this.lastLook) return false
    this.looked += bytes
    this.lastLook = others
    return true
  }

  /** Whether more has been looked at since this was last asked: a verdict may have become possible. */
  get changed(): boolean {
    const changed = this.judged !== this.looked
    this.judged = this.looked
    return changed
  }

  /**
   * Whether a chunk of raw words is to be counted, where that takes time: while it looks like another boot; otherwise at the
   * beginning, then whenever twice as much has gone by.
   */
  wants(bytes: number): boolean {
    const before = this.offered
    this.offered += bytes
    if (this.doubtful || before < WORDS_FIRST || Math.floor(Math.log2(before)) !== Math.floor(Math.log2(this.offered)))
      return true
    this.complete = false
    return false
  }

  /** Counts `count` raw addresses at a place in an engine's memory, `bytes` bytes of input, and looks at them where need be. */
  see(engine: Engine, at: number, count: number, bytes: number): void {
    engine.exports.watchBatch(at, count)
    if (this.count(engine.watched(), bytes)) this.look(new Uint32Array(engine.bytes.buffer, at, 2 * count), count)
  }

  /** Looks at `count` addresses, low half first. Returns false when it has seen enough of this chunk. */
  look(words: Uint32Array, count: number): boolean {
    const { seen } = this
    const { space, outputs } = this.clues
    const [start, end] = numbers(space.region)
    const own = numbers(space.own)
    const others = outputs.map(numbers)
    const most = Math.min(MOST_SEEN, seen.size + MOST_ADDED)
    for (let i = 0; i < count; i++) {
      const high = words[2 * i + 1]!
      // Hyp addresses have at most 52 bits: exact as a number.
      if (high >= 0x10_0000) continue
      const x = high * 0x1_0000_0000 + words[2 * i]!
      if (x < start || x >= end || (x >= own[0] && x < own[1])) continue
      if (others.some(([from, to]) => x >= from && x < to)) continue
      const times = seen.get(x)
      if (times === undefined && seen.size >= most) return false
      seen.set(x, (times ?? 0) + 1)
    }
    return true
  }

  report(): TagReport {
    const { inRegion, own, complete, seen } = this
    return { inRegion, own, complete, seen }
  }

  add({ inRegion, own, complete, seen }: TagReport): void {
    this.inRegion += inRegion
    this.own += own
    this.complete &&= complete
    for (const [x, times] of seen) this.seen.set(x, (this.seen.get(x) ?? 0) + times)
  }

  /**
   * The tag of another boot, or undefined unless nothing else explains the addresses. That is: hardly any carries the layout's
   * own tag; more than half of the others, counted once each and but for addresses that programs have by default, share one
   * tag; and either
   *
   * - with the layout's tag in place of that one at least two, and half of them, are in the kernel image, a third of them in
   *   the hypervisor's text, and hardly any in front of it, where EL2 maps nothing. That holds where the image is in the
   *   same place in every boot. A single program's addresses lie so once in about 2^14: 2^17 bytes in 2^31. Where no program
   *   has addresses, linear memory may have moved as well; or
   * - the image has moved: at least 64 share the tag, and nine in ten; programs never have such addresses; they are seen
   *   again and again, and look like code (see `looksLikeCode`), not like times.
   *
   * @param soFar more may come, which could still explain them: only the first of the two counts
   */
  verdict(soFar = false): ForeignTag | undefined {
    if (!this.doubtful) return undefined
    const { space, users, image, text, step } = this.clues
    const size = 2 ** space.tagLsb
    const programs = users.byDefault.map(numbers)
    const groups = new Map<number, number[]>()
    let all = 0
    for (const x of this.seen.keys()) {
      if (programs.some(([from, to]) => x >= from && x < to)) continue
      all++
      const block = Math.floor(x / size)
      const group = groups.get(block)
      if (group === undefined) groups.set(block, [x])
      else group.push(x)
    }
    const [block, group] = [...groups].reduce((a, b) => (b[1].length > a[1].length ? b : a), [0, [] as number[]])
    const tag = BigInt(block) << BigInt(space.tagLsb)
    const range = { start: tag, end: tag + BigInt(size) }
    // No random bit set: a physical address with one high bit, such as the shared ones of realms.
    if (2 * group.length <= all || tag === space.region.start) return undefined
    if (users.byDefault.some((user) => overlaps(user, range))) return undefined

    const program = users.atMost.some((user) => overlaps(user, range))
    const period = program ? size : step
    const within = (place: Range | undefined) => {
      if (place === undefined || image === undefined) return 0
      const base = Number(image.start)
      const [from, to] = [Number(place.start) - base, Number(place.end) - base]
      return group.filter((x) => {
        const offset = (((x - base) % period) + period) % period
        return offset >= from && offset < to
      }).length
    }
    const inImage = within(image)
    const inFront = within(image && text && { start: image.start, end: text.start })
    const falls =
      inImage >= 2 && 2 * inImage >= group.length && 3 * within(text) >= group.length && 10 * inFront <= group.length
    if (!falls) {
      if (soFar) return undefined
      const times = group.reduce((sum, x) => sum + this.seen.get(x)!, 0)
      const many = group.length >= 64 && 10 * group.length >= 9 * all && times >= 2 * group.length
      if (!many || program || space.region.end < 1n << 47n || !looksLikeCode(group)) return undefined
    }
    const { own, inRegion, complete } = this
    const { tag: ownTag, tagLsb } = space
    return {
      tag,
      tagVal: BigInt(block),
      tagLsb,
      ownTag,
      ownTagVal: ownTag >> BigInt(tagLsb),
      others: inRegion - own,
      own,
      complete,
    }
  }
}

/**
 * Whether addresses, in the order of the trace, are those of the hypervisor's code. They lie in its text, close together;
 * at multiples of four but of nothing larger; they go back and forth; and they have hexadecimal digits. Times lack some of
 * that: in decimal they have no letters, timers expire at whole ticks, clocks count by eights and more, and all of them rise.
 */
function looksLikeCode(group: readonly number[]): boolean {
  const share = (is: (x: number, i: number) => boolean) => group.filter(is).length / group.length
  const sorted = group.toSorted((a, b) => a - b)
  const span = sorted[Math.floor(sorted.length * 0.95)]! - sorted[Math.floor(sorted.length * 0.05)]!
  return (
    span <= MOST_SPAN &&
    share((x) => x % 4 === 0) >= 0.75 &&
    share((x) => x % 8 === 0) <= 0.75 &&
    share((x) => /[a-f]/.test((x % 0x1000_0000).toString(16))) >= 0.5 &&
    share((x, i) => i > 0 && x > group[i - 1]!) <= 0.9
  )
}

function overlaps(a: Range, b: Range): boolean {
  return a.start < b.end && b.start < a.end
}

/** A range of addresses below 2^53. */
function numbers({ start, end }: Range): readonly [number, number] {
  return [Number(start), Number(end)]
}
