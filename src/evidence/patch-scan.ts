import { Engine } from '../engine/engine.js'
import { ABI } from '../engine/wasm.generated.js'
import { decodePatch } from '../layout/patch.js'
import type { ByteSource } from '../source.js'
import type { Tag } from './facts.js'

/**
 * Finding the patched sequence in memory.
 *
 * How sure a hit is. Of the 160 bits of five words, 11 are free in the first (tag_lsb and the register), 12 in the third and
 * 12 (and the shift bit, at one value) in the fourth; the other 125 are fixed, by the instructions or by those first 11 bits.
 * So of random words one place in 2^125 matches: a GiB has 2^28 places, and the odds of a false hit in it are 2^-97. The form with
 * four NOPs leaves 11 bits free: 2^-121 per GiB at random. But code is not random, and an AND followed by padding NOPs
 * exists, so that form counts only when its mask has 25 bits or more (no host of KVM has less than 32 MiB) and nothing shows
 * the full form.
 */

/** Bytes read at a time: little enough to be in the cache still when they are scanned. */
const CHUNK = 1 << 18
const PAGE = 4096
const CAPACITY = 1024
/** Room in front of a chunk for what the last one left: less than a sequence, rounded to keep chunks aligned. */
const CARRY = 64
/** Offsets kept of each group of hits. */
const KEPT = 8
/** Different tags told apart; hostile input may show any number. */
const GROUPS = 64
/** Chunks in a row that cannot be read before the rest of a range is given up. */
const UNREADABLE_CHUNKS = 16
/** A mask of fewer bits followed by NOPs is code that has nothing to do with KVM. */
const LEAST_MASK_ONLY = 25
/** Agreeing hits, with none that disagrees, after which a scan may stop. */
const OVERWHELMING = 16
/** As many prove the tag where every further read is a risk: by chance not even one would be there. */
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

/** What scans found. Scan as many ranges as there are; memory use does not depend on their size. */
export class PatchScanner {
  readonly groups: HitGroup[] = []
  /** Sequences before patching, and where the first was. */
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
   * Scans `length` bytes of `source` from `offset` (to its end when undefined); `place` is what the byte at `offset` is called
   * in reports. Bytes that cannot be read are skipped a page at a time.
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
        // Nothing of it could be read: whatever was carried has no continuation.
        done += want
        carried = 0
        continue
      }
      const start = buffer - carried
      const end = buffer + got
      const consumed = this.look(start, end, place + BigInt(done - carried))
      done += got
      this.scanned += got
      // What is left is shorter than a sequence; a short read may leave a few odd bytes more.
      carried = end - (start + consumed)
      if (carried > CARRY) carried = 0
      engine.bytes.copyWithin(buffer - carried, end - carried, end)
      if (until?.() === true) break
    }
  }

  /** Fills the chunk: how many bytes, or -1 when none of them can be read. */
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

  /** Scans [start, end) of the module's memory; how many bytes of it need not be seen again. */
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

/** What the hits of a file amount to. */
interface ScanVerdict {
  /** The group that all evidence agrees on, or nearly all. */
  readonly best: HitGroup | undefined
  /** Groups that disagree with it but are too few to be a second kernel. */
  readonly strays: readonly HitGroup[]
  /** Groups large enough that the memory must hold the text of several kernels, `best` not chosen among them. */
  readonly rivals: readonly HitGroup[]
}

/** A group this much smaller than the largest is stray: leftovers of an earlier boot, or damage. */
const STRAY_SHARE = 8

/** Weighs the groups. The full form counts; mask-only hits do when there is nothing else. */
export function weigh(groups: readonly HitGroup[]): ScanVerdict {
  const full = groups.filter(({ form }) => form === 'full')
  const counted = (full.length > 0 ? full : [...groups]).sort((a, b) => b.count - a.count)
  const [largest] = counted
  if (largest === undefined) return { best: undefined, strays: [], rivals: [] }
  const large = counted.filter(({ count }) => count * STRAY_SHARE >= largest.count)
  const strays = counted.filter((group) => !large.includes(group))
  return large.length === 1 ? { best: largest, strays, rivals: [] } : { best: undefined, strays, rivals: large }
}
