import { Engine, type EngineResult } from '../engine/engine.js'
import type { Plan } from '../engine/segments.js'
import { HypvaError, HypvaRangeError, HypvaTypeError } from '../errors.js'
import type { HypLayout } from '../layout/types.js'
import { describe } from '../u64.js'
import { macroPlan } from './directions.js'

/** The result of a batch. */
export interface BatchResult {
  /** The translated addresses: the `output` given, or a new array. */
  readonly output: BigUint64Array
  /** How many addresses translated. */
  readonly translated: number
  /** How many lay in no segment and were left as they were. */
  readonly missed: number
  /** Index of the first of these; -1 when there is none. */
  readonly firstMiss: number
}

/**
 * Addresses a tile. A tile fits the first-level cache; for batches larger than the caches, larger tiles in the
 * second-level cache mean fewer turns (bench/batch.ts).
 */
const TILE = 4096
const LARGE_TILE = 32768
/** Addresses from which on a batch is a large one. */
const LARGE = 262144

/**
 * Bytes from the beginning of the engine's heap to the tile. Large arrays begin at a page or sixteen bytes behind; were the
 * tile to begin like that as well, each load of a copy would wait for a store that looks as if it went to the same address
 * (processors compare the lower twelve bits first), which costs up to a third of the speed.
 */
const TILE_OFFSET = 2064

// One instance for all batches that live in JavaScript memory; the plan it holds is that of its last user.
let shared: Engine | undefined
let sharedPlan: Plan | undefined
let tile: BigUint64Array
let largeTile: BigUint64Array
/** One view per length, created on first use: making a view costs more than a short batch. */
let views: (BigUint64Array | undefined)[]

function sharedEngine(plan: Plan): Engine {
  if (shared === undefined) {
    shared = new Engine(TILE_OFFSET + LARGE_TILE * 8)
    tile = new BigUint64Array(shared.exports.memory.buffer, shared.heap + TILE_OFFSET, TILE)
    largeTile = new BigUint64Array(shared.exports.memory.buffer, shared.heap + TILE_OFFSET, LARGE_TILE)
    views = new Array(TILE + 1)
    views[TILE] = tile
  }
  if (sharedPlan !== plan) {
    shared.load(plan)
    sharedPlan = plan
  }
  return shared
}

/** Runs a plan over addresses in JavaScript memory, tile by tile. `output` may overlap `input`. */
export function runBatch(plan: Plan, input: BigUint64Array, output?: BigUint64Array): BatchResult {
  assertBatch(input, 'input')
  if (output === undefined) output = new BigUint64Array(input.length)
  else assertOutput(input, output)

  const engine = sharedEngine(plan)
  const { length } = input
  if (length > TILE) return { output, ...runTiles(engine, plan, input, output) }
  const view = views[length] ?? tile.subarray(0, length)
  views[length] = view
  view.set(input)
  const { translated, missed, firstMiss } = runAt(engine, engine.heap + TILE_OFFSET, plan, length)
  output.set(view)
  return { output, translated, missed, firstMiss }
}

/** A batch of more than one tile. */
function runTiles(engine: Engine, plan: Plan, input: BigUint64Array, output: BigUint64Array): EngineResult {
  const { length } = input
  const whole = length < LARGE ? tile : largeTile
  const size = whole.length
  // Where the output begins inside of the input, what it would overwrite is read first.
  const backwards = input.buffer === output.buffer && output.byteOffset > input.byteOffset
  const tiles = Math.ceil(length / size)
  let missed = 0
  let firstMiss = -1
  for (let i = 0; i < tiles; i++) {
    const at = (backwards ? tiles - 1 - i : i) * size
    const view = length - at < size ? whole.subarray(0, length - at) : whole
    view.set(input.subarray(at, at + view.length))
    const found = runAt(engine, engine.heap + TILE_OFFSET, plan, view.length)
    if (found.missed > 0 && (backwards || missed === 0)) firstMiss = at + found.firstMiss
    missed += found.missed
    output.set(view, at)
  }
  return { translated: length - missed, missed, firstMiss }
}

/** Translates `count` addresses at a place in an engine's memory. */
function runAt(engine: Engine, at: number, plan: Plan, count: number): EngineResult {
  const { exports } = engine
  if (plan.kind === 'macro') {
    exports.maskTag(at, at, count)
    return { translated: count, missed: 0, firstMiss: -1 }
  }
  exports.translateBatch(at, at, count, plan.segments.length)
  return engine.counts()
}

/**
 * kern_hyp_va over a whole array, unchecked, at memory speed.
 * @param layout needs only tagLsb and tagVal (or mode vhe)
 * @param input kernel addresses; any u64 gives an output (docs/kernel-facts.md, 1)
 * @param output where the hyp VAs go, at least as long; `input` itself or one that overlaps it is
 * allowed; a new array when absent
 * @returns output
 * @throws HypvaTypeError, HypvaRangeError (`HYPVA_ARGUMENT`) for other arrays, one without memory (its buffer transferred or
 * made smaller), or a short output
 * @example
 * kernHypVaBatch({ tagLsb: 31, tagVal: 0x11367n }, BigUint64Array.of(0n))[0] // 0x89b380000000n
 */
export function kernHypVaBatch(layout: HypLayout, input: BigUint64Array, output?: BigUint64Array): BigUint64Array {
  if (lastMacro === undefined || !sameMacro(lastMacro.layout, layout)) {
    lastMacro = { plan: macroPlan(layout), layout: { ...layout } }
  }
  return runBatch(lastMacro.plan, input, output).output
}

// Callers come with the same layout again and again.
let lastMacro: { readonly layout: HypLayout; readonly plan: Plan } | undefined

/** Whether all that the macro depends on is the same. */
function sameMacro(a: HypLayout, b: HypLayout): boolean {
  return a.tagLsb === b?.tagLsb && a.tagVal === b.tagVal && a.tag === b.tag && a.mode === b.mode
}

/** A batch that stays in WASM memory: written and read there, translated in place with no copy. */
export interface ResidentBatch {
  /** The addresses, `length` of them; a view that stays valid as long as the batch. */
  readonly addresses: BigUint64Array
  /** Translates the first `count` addresses (default all) in place. */
  translate(count?: number): Omit<BatchResult, 'output'>
}

/** The most addresses one resident batch holds: WASM memory ends at 4 GiB. */
const MAX_RESIDENT = 2 ** 29 - 2 ** 15

export function allocateResident(plan: Plan, length: number): ResidentBatch {
  if (!Number.isSafeInteger(length) || length < 0 || length > MAX_RESIDENT) {
    throw new HypvaRangeError(
      'HYPVA_ARGUMENT',
      `length: expected a whole number from 0 to ${MAX_RESIDENT}, got ${describe(length)}`,
    )
  }
  let engine: Engine
  try {
    engine = new Engine(length * 8)
  } catch (cause) {
    throw new HypvaError('HYPVA_ARGUMENT', `length: no memory for a resident batch of ${length} addresses (${cause})`)
  }
  engine.load(plan)
  return {
    addresses: new BigUint64Array(engine.exports.memory.buffer, engine.heap, length),
    translate(count = length) {
      if (!Number.isSafeInteger(count) || count < 0 || count > length) {
        throw new HypvaRangeError('HYPVA_ARGUMENT', `count: expected 0 … ${length}, got ${describe(count)}`)
      }
      return runAt(engine, engine.heap, plan, count)
    },
  }
}

export function assertBatch(value: unknown, what: string): asserts value is BigUint64Array {
  if (!(value instanceof BigUint64Array)) {
    // An array of another realm (a frame, a vm context) is one as well, by its tag.
    if (!ArrayBuffer.isView(value) || Object.prototype.toString.call(value) !== '[object BigUint64Array]') {
      throw new HypvaTypeError('HYPVA_ARGUMENT', `${what}: expected a BigUint64Array, got ${describe(value)}`)
    }
  }
  if ((value as BigUint64Array).length === 0) assertMemory(value as BigUint64Array, what)
}

/**
 * Tells an empty array from one that has lost its memory: both have length 0. Every method of an array that reads it throws
 * for the latter; Node 20 has no other way to ask.
 */
function assertMemory(array: BigUint64Array, what: string): void {
  try {
    BigUint64Array.prototype.keys.call(array)
  } catch {
    throw new HypvaTypeError(
      'HYPVA_ARGUMENT',
      `${what}: the buffer of the array was transferred (to a worker, perhaps) or shrunk: pass an array that still has its memory`,
    )
  }
}

function assertOutput(input: BigUint64Array, output: unknown): asserts output is BigUint64Array {
  assertBatch(output, 'output')
  if (output.length < input.length) {
    throw new HypvaRangeError(
      'HYPVA_ARGUMENT',
      `output: has room for ${output.length} addresses, the input has ${input.length}`,
    )
  }
}
