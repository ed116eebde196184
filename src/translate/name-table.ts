import { type Engine, roundUp } from '../engine/engine.js'
import type { Segment } from '../engine/segments.js'
import { ABI } from '../engine/wasm.generated.js'
import { HypvaError } from '../errors.js'
import { type NameOptions, nameParts, type SymbolTable } from '../symbols/table.js'

/** At most so many buckets: a megabyte, which stays in a second-level cache. */
const MOST_BUCKETS = 2 ** 18

/** A symbol table in the form that the engine reads (assembly/names.ts), to be loaded into one engine or several. */
export class NameTable {
  readonly symbols: SymbolTable
  readonly segments: readonly Segment[]
  /** Length of the longest text with all digits that an offset can have. */
  readonly longest: number
  /** Bytes it takes, a multiple of 8. */
  readonly bytes: number
  private readonly base: bigint
  private readonly span: bigint
  private readonly shift: number
  private readonly buckets: Uint32Array
  private readonly blob: Uint8Array
  private readonly texts: Uint32Array

  /**
   * @param segments from the addresses to come to those of the table, ascending
   * @param texts how names are written; absent: nobody will write them
   */
  constructor(symbols: SymbolTable, segments: readonly Segment[], texts: NameOptions | undefined) {
    this.symbols = symbols
    this.segments = segments
    const { starts } = symbols
    this.base = starts[0]!
    // The last entry is a hole and covers nothing.
    this.span = starts.at(-1)! - this.base
    let shift = 0
    while (this.span >> BigInt(shift) >= BigInt(MOST_BUCKETS)) shift++
    this.shift = shift
    this.buckets = bucketsOf(starts, this.base, this.span, shift)
    const { blob, places, longest } = texts === undefined ? noTexts(symbols) : textsOf(symbols, texts)
    this.blob = blob
    this.texts = places
    this.longest = longest
    this.bytes =
      starts.byteLength + roundUp(this.texts.byteLength + this.buckets.byteLength) + roundUp(blob.length) + 16
  }

  /** Puts the table at `at`, a multiple of 8, where `bytes` bytes are free. */
  load(engine: Engine, at: number): void {
    const capacity = ABI.NAME_SEGMENT_CAPACITY
    if (this.segments.length > capacity) {
      throw new HypvaError(
        'HYPVA_LAYOUT',
        `layout: ${this.segments.length} separate ranges hold the kernel image; at most ${capacity} fit the engine`,
      )
    }
    const { buffer } = engine.exports.memory
    const { starts } = this.symbols
    const textsAt = at + starts.byteLength
    const bucketsAt = textsAt + this.texts.byteLength
    const blobAt = at + starts.byteLength + roundUp(this.texts.byteLength + this.buckets.byteLength)
    new BigUint64Array(buffer, at, starts.length).set(starts)
    // 0 is "no text"; every other place counts from the blob's.
    new Uint32Array(buffer, textsAt, this.texts.length).set(
      this.texts.map((place) => (place === 0 ? 0 : place + blobAt)),
    )
    new Uint32Array(buffer, bucketsAt, this.buckets.length).set(this.buckets)
    new Uint8Array(buffer, blobAt, this.blob.length).set(this.blob)
    const names = new DataView(buffer, ABI.NAMES)
    names.setUint32(0, starts.length, true)
    names.setUint32(ABI.NAMES_STARTS, at, true)
    names.setUint32(ABI.NAMES_TEXTS, textsAt, true)
    names.setUint32(ABI.NAMES_BUCKETS, bucketsAt, true)
    names.setBigUint64(ABI.NAMES_BASE, this.base, true)
    names.setBigUint64(ABI.NAMES_SPAN, this.span, true)
    names.setUint32(ABI.NAMES_SHIFT, this.shift, true)
    engine.putSegments(ABI.NAME_SEGMENTS, this.segments)
  }
}

/** For each bucket the entry that holds its first address, and one more so that a bucket knows its last. */
function bucketsOf(starts: BigUint64Array, base: bigint, span: bigint, shift: number): Uint32Array {
  const buckets = new Uint32Array(Number(span >> BigInt(shift)) + 2)
  let entry = 0
  for (let i = 0; i < buckets.length; i++) {
    const first = base + (BigInt(i) << BigInt(shift))
    while (entry + 1 < starts.length && starts[entry + 1]! <= first) entry++
    buckets[i] = entry
  }
  return buckets
}

/** Entries with a name have an empty text, holes have none. */
function noTexts({ names }: SymbolTable): { blob: Uint8Array; places: Uint32Array; longest: number } {
  return { blob: new Uint8Array(16), places: Uint32Array.from(names, (name) => (name === '' ? 0 : 8)), longest: 0 }
}

function textsOf(
  symbols: SymbolTable,
  options: NameOptions,
): { blob: Uint8Array; places: Uint32Array; longest: number } {
  const { names } = symbols
  const places = new Uint32Array(names.length)
  const encoder = new TextEncoder()
  let blob = new Uint8Array(names.length * 48 + 4096)
  // Place 0 means none.
  let at = 8
  let longest = 0
  for (let i = 0; i < names.length; i++) {
    const symbol = symbols.at(i)
    if (symbol === undefined) continue
    const [front, behind] = nameParts(symbol, options)
    const most = 4 + 3 * (front.length + behind.length)
    if (at + most + 16 > blob.length) {
      const larger = new Uint8Array(blob.length * 2 + most)
      larger.set(blob)
      blob = larger
    }
    const first = encoder.encodeInto(front, blob.subarray(at + 4)).written
    const second = encoder.encodeInto(behind, blob.subarray(at + 4 + first)).written
    blob[at] = first & 0xff
    blob[at + 1] = first >> 8
    blob[at + 2] = second & 0xff
    blob[at + 3] = second >> 8
    places[i] = at
    at += 4 + first + second
    if (first + second + 16 > longest) longest = first + second + 16
  }
  return { blob: blob.subarray(0, at + 16), places, longest }
}
