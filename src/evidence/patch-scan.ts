import { Engine } from '../engine/engine.js'
import { ABI } from '../engine/wasm.generated.js'
import { decodePatch } from '../layout/patch.js'
import type { ByteSource } from '../source.js'
import type { Tag } from './facts.js'

/**
 * Finds the patched sequence in memory.
 *
 * A hit is hardly ever false. Of the 160 bits of five words, 35 are free: 11 in the first word (tag_lsb and the register), 12 in the
 * third, 12 in the fourth. The instructions and the first 11 bits fix the other 125, so one in 2^125 random places matches. A GiB has
 * 2^28 places: the odds of a false hit in it are 2^-97. An AND with four NOPs leaves 11 bits free: 2^-121 per GiB. But code is not
 * random, and compilers pad with NOPs after an AND. So that form counts only if its mask has 25 bits or more (every KVM host has at
 * least 32 MiB) and the scan finds no full form.
 */

/** Bytes read at a time: few enough to stay in the cache until the scan. */
const CHUNK = 1 << 18
const PAGE = 4096
const CAPACITY = 1024
/** Room before a chunk for the unfinished end of the last one: less than a sequence, rounded up to keep chunks aligned. */
const CARRY = 64
/** Offsets kept of each group of hits. */
const KEPT = 8
/** Most groups kept; hostile input may show any number of tags. */
const GROUPS = 64
/** After so many unreadable chunks in a row the scan gives up the rest of the range. */
const UNREADABLE_CHUNKS = 16
/** An AND with a shorter mask, followed by NOPs, is other code. */
const LEAST_MASK_ONLY = 25
/** After so many hits that agree, and none that disagrees, a scan may stop. */
const OVERWHELMING = 16
/** So many are enough where every further read is a risk: even one hit does not occur by chance. */
const AGREED = 2

/** Sequences that show the same mask and tag. */
export interface HitGroup extends Tag {
  /** `full`: five instructions. `mask-only`: an AND and four NOPs, as patched when the tag is zero. */
  readonly form: 'full' | 'mask-only'
  /** The bytes of every word are reversed. */
  readonly swapped: boolean
  count: number
  /** Places of the first few. */
  readonly at: bigint[]
}

/** Scans any number of ranges and collects the hits. Memory use does not depend on the size of the ranges. */
export class PatchScanner {
  readonly groups: HitGroup[] = []
  /** Sequences that the kernel has not patched yet, and the place of the first. */
  unpatched: { count: number; first: bigint; swapped: boolean } | undefined
  /** Bytes read. */
  scanned = 0
  /** Bytes that could not be read. */
  unreadable = 0
  private readonly engine = new Engine(CARRY + CHUNK + PAGE + CAPACITY * ABI.HIT_BYTES)
  private readonly buffer = this.engine.heap + CARRY
  private readonly hits = this.buffer + CHUNK + PAGE
  private readonly view = new DataView(this.engine.bytes.buffer)

  /** Whether more scanning could not change the verdict. */
  get overwhelming(): boolean {
    return this.agree(OVERWHELMING)
  }

  /** Whether two sequences at different places agree, and none disagrees. */
  get agreed(): boolean {
    return this.agree(AGREED)
  }

  private agree(least: number): boolean {
    const full = this.groups.filter(({ form }) => form === 'full')
    return full.length === 1 && full[0]!.count >= least
  }

  /**
   * Scans `length` bytes of `source` from `offset`, or all of them if undefined. Reports call the byte at `offset` `place`. Skips
   * unreadable bytes a page at a time.
   */
  scan(source: ByteSource, offset: number, length: number | undefined, place: bigint, until?: () => boolean): void {
    const { engine, buffer } = this
    let carried = 0
    let done = 0
    let failing = 0
    while (length === undefined || done < length) {
      const want = length === undefined ? CHUNK : Math.min(CHUNK, length - done)
      const got = this.fill(source, offset + done, want)
      if (got === 0) break
      failing = got < 0 ? failing + 1 : 0
      if (failing >= UNREADABLE_CHUNKS) break
      if (got < 0) {
        // An unreadable chunk continues no sequence.
        done += want
        carried = 0
        continue
      }
      const start = buffer - carried
      const end = buffer + got
      const consumed = this.look(start, end, place + BigInt(done - carried))
      done += got
      this.scanned += got
      // The rest is shorter than a sequence, but for odd bytes after a short read.
      carried = end - (start + consumed)
      if (carried > CARRY) carried = 0
      engine.bytes.copyWithin(buffer - carried, end - carried, end)
      if (until?.() === true) break
    }
  }

  /** Fills the chunk; returns the number of bytes, or -1 if none of them can be read. */
  private fill(source: ByteSource, offset: number, want: number): number {
    const { bytes } = this.engine
    try {
      return source.read(offset, bytes.subarray(this.buffer, this.buffer + want))
    } catch (error) {
      if (source.sequential !== undefined) throw error
      // Page by page: a bad one reads as zeros.
    }
    let readable = 0
    let end = 0
    for (let at = 0; at < want; at += PAGE) {
      const size = Math.min(PAGE, want - at)
      const page = bytes.subarray(this.buffer + at, this.buffer + at + size)
      try {
        const got = source.read(offset + at, page)
        if (got === 0) break
        page.fill(0, got)
        readable++
      } catch {
        page.fill(0)
        this.unreadable += size
      }
      end = at + size
    }
    return readable > 0 ? end : end > 0 ? -1 : 0
  }

  /** Scans [start, end) of the module's memory; returns how many bytes of it are finished. */
  private look(start: number, end: number, place: bigint): number {
    const { exports } = this.engine
    let from = start
    for (;;) {
      const count = exports.scanPatch(from, end, this.hits, CAPACITY)
      for (let i = 0; i < count; i++) this.add(this.hits + i * ABI.HIT_BYTES, from, place + BigInt(from - start))
      from += this.engine.consumed
      if (count < CAPACITY) return from - start
    }
  }

  private add(entry: number, from: number, place: bigint): void {
    const { view } = this
    const offset = view.getUint32(entry, true)
    const kind = view.getUint32(entry + 4, true)
    const tagLsb = view.getUint32(entry + 8, true) & 63
    const tagVal = BigInt(view.getUint32(entry + 12, true))
    const swapped = (kind & 4) !== 0
    const form = (kind & 3) === 2 ? 'mask-only' : 'full'
    const at = place + BigInt(offset)
    const group = this.groups.find(
      (known) => known.tagLsb === tagLsb && known.tagVal === tagVal && known.form === form && known.swapped === swapped,
    )
    if (group !== undefined) {
      group.count++
      if (group.at.length < KEPT) group.at.push(at)
      return
    }
    const words = Array.from({ length: 5 }, (_, i) => view.getUint32(from + offset + 4 * i, !swapped))
    const decoded = decodePatch(words)
    if (decoded.kind === 'unpatched') {
      if (this.unpatched === undefined) this.unpatched = { count: 1, first: at, swapped }
      else this.unpatched.count++
      return
    }
    if (decoded.kind !== 'patched') return
    if (form === 'mask-only' && tagLsb < LEAST_MASK_ONLY) return
    if (this.groups.length < GROUPS) this.groups.push({ tagLsb, tagVal, form, swapped, count: 1, at: [at] })
  }
}

/** A group this many times smaller than the largest is stray: leftovers of an earlier boot, or damage. */
const STRAY_SHARE = 8

/**
 * Weighs the groups: `best` if one is far larger than all others, which are `strays`; else `rivals`, the text of several kernels.
 * Groups of the mask-only form count only if there is no full form.
 */
export function weigh(groups: readonly HitGroup[]) {
  const full = groups.filter(({ form }) => form === 'full')
  const counted = (full.length > 0 ? full : groups).toSorted((a, b) => b.count - a.count)
  const isLarge = ({ count }: HitGroup) => count * STRAY_SHARE >= counted[0]!.count
  const large = counted.filter(isLarge)
  const strays = counted.filter((group) => !isLarge(group))
  return large.length > 1 ? { strays, rivals: large } : { best: large[0], strays, rivals: [] }
}
