import { HypvaError } from '../errors.js'
import { type Range, U64_MAX } from '../u64.js'
import type { Plan, Segment } from './segments.js'
import { ABI, WASM_BASE64 } from './wasm.generated.js'

/** What assembly/index.ts exports besides the constants of ABI. Pointers, counts and flags are u32. */
interface EngineExports {
  readonly memory: WebAssembly.Memory
  maskTag(src: number, dst: number, count: number): void
  swapBytes(at: number, count: number): void
  translateBatch(src: number, dst: number, count: number, segments: number): void
  watchBatch(src: number, count: number): void
  scanPatch(start: number, end: number, hits: number, capacity: number): number
  rewriteText(src: number, length: number, dst: number, last: number, segments: number, minDigits: number): number
  nameBatch(src: number, entries: number, offsets: number, count: number, segments: number, before: number): void
  nameText(
    src: number,
    length: number,
    dst: number,
    last: number,
    segments: number,
    minDigits: number,
    translate: number,
    before: number,
  ): void
  hexLines(src: number, dst: number, count: number): void
  tokenValues(src: number, length: number, dst: number, last: number): number
  countText(src: number, length: number, last: number, table: number, ranges: number, minDigits: number): void
  tally(src: number, count: number, segments: number, counters: number): void
}

const WASM_PAGE = 65536
const SIGN = 1n << 63n
/** Words of 32 bits of the block at RESULT: it ends with two counts of 64 bits. */
const RESULT_WORDS = (ABI.RESULT_WATCHED + 16) / 4

let compiled: WebAssembly.Module | undefined

/** The WASM module, compiled once. Synchronous: it is some kilobytes and comes embedded. */
export function engineModule(): WebAssembly.Module {
  if (compiled === undefined) {
    const text = atob(WASM_BASE64)
    const bytes = new Uint8Array(text.length)
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i)
    compiled = new WebAssembly.Module(bytes)
  }
  return compiled
}

/** Gives a thread the module that another has compiled. */
export function useModule(module: WebAssembly.Module): void {
  compiled = module
}

/** Counts of the last checked batch or text chunk. */
export interface EngineResult {
  readonly translated: number
  readonly missed: number
  /** Index of the first address, or byte offset of the first token, that did not translate; -1 when none. */
  readonly firstMiss: number
}

/**
 * One instance of the WASM module with a memory of its own, sized at the start: views on it never detach.
 * `heap` is the offset of the first of `heapBytes` bytes that are the caller's.
 */
export class Engine {
  readonly exports: EngineExports
  readonly heap = ABI.HEAP
  readonly bytes: Uint8Array
  private readonly view: DataView
  /** The block at RESULT. */
  private readonly result: Uint32Array

  constructor(heapBytes: number) {
    const instance = new WebAssembly.Instance(engineModule())
    this.exports = instance.exports as unknown as EngineExports
    const { memory } = this.exports
    const pages = Math.ceil((this.heap + heapBytes) / WASM_PAGE)
    const have = memory.buffer.byteLength / WASM_PAGE
    if (pages > have) memory.grow(pages - have)
    this.bytes = new Uint8Array(memory.buffer)
    this.view = new DataView(memory.buffer)
    this.result = new Uint32Array(memory.buffer, ABI.RESULT, RESULT_WORDS)
  }

  /**
   * Puts a plan into the tables.
   * @returns the `segments` argument of the text functions: how many segments to look up, or BY_MACRO
   * @throws HypvaError `HYPVA_LAYOUT` for more segments than the engine has room for
   */
  load(plan: Plan): number {
    if (plan.kind === 'macro') {
      this.view.setBigUint64(ABI.MACRO, plan.mask, true)
      this.view.setBigUint64(ABI.MACRO + 8, plan.tag, true)
      return ABI.BY_MACRO
    }
    const { segments } = plan
    if (segments.length > ABI.SEGMENT_CAPACITY) {
      throw new HypvaError(
        'HYPVA_LAYOUT',
        `layout: ${segments.length} separate ranges of memory; at most ${ABI.SEGMENT_CAPACITY} fit the engine: merge neighbouring dram banks`,
      )
    }
    this.putSegments(ABI.SEGMENTS, segments)
    return segments.length
  }

  /** The two ranges whose addresses rewriteText, nameText and watchBatch count; see WATCH of assembly/memory.ts. */
  setWatch(...ranges: readonly [Range, Range]): void {
    ranges.forEach(({ start, end }, i) => {
      this.view.setBigUint64(ABI.WATCH + 8 * i, start ^ SIGN, true)
      this.view.setBigUint64(ABI.WATCH + 16 + 8 * i, (end - start) ^ SIGN, true)
    })
  }

  /** Puts a table of ascending, disjoint segments at a place; ranges without a delta lead nowhere. */
  putSegments(at: number, segments: readonly (Range & Partial<Segment>)[]): void {
    for (const { start, end, delta = 0n } of segments) {
      // A size of 2^64 is 0 in 64 bits, and would match nothing. No checked layout has a range as large.
      if (end - start > U64_MAX) throw new HypvaError('HYPVA_LAYOUT', 'layout: a range of 2^64 bytes')
      this.view.setBigUint64(at, start, true)
      this.view.setBigUint64(at + 8, end - start, true)
      this.view.setBigUint64(at + 16, delta, true)
      at += ABI.SEGMENT_BYTES
    }
  }

  /** Counts of the last call; firstMiss is that of translateBatch, nameBatch and countText, which alone look for it. */
  counts(): EngineResult {
    // Counts of one call fit 32 bits, and "none" is all ones: the lower halves suffice, without a bigint.
    const { result } = this
    return {
      missed: result[ABI.RESULT_MISSED / 4]!,
      translated: result[ABI.RESULT_TRANSLATED / 4]!,
      firstMiss: result[ABI.RESULT_FIRST_MISS / 4]! | 0,
    }
  }

  /** How many addresses of the last call lay in the ranges of setWatch. */
  watched(): readonly [number, number] {
    const at = ABI.RESULT_WATCHED / 4
    return [this.result[at]!, this.result[at + 2]!]
  }

  get consumed(): number {
    return this.result[ABI.RESULT_CONSUMED / 4]!
  }

  get produced(): number {
    return this.result[ABI.RESULT_PRODUCED / 4]!
  }
}

/** The next multiple of 8: where tables and addresses stand in an engine's memory. */
export function roundUp(bytes: number): number {
  return (bytes + 7) & ~7
}
