import { HypvaError, HypvaRangeError, HypvaTypeError } from '../errors.js'
import type { HypLayout } from '../layout/types.js'
import { describe } from '../u64.js'
import { loadPlan, macroPlan, type Plan } from './plan.js'
import { Kernel } from './wasm.js'

/** What a batch came to. */
export interface BatchResult {
  /** The addresses that came out: the `output` given, or a new array. */
  readonly output: BigUint64Array
  /** How many addresses translated. */
  readonly translated: number
  /** How many lay in no segment and were left as they were. */
  readonly missed: number
  /** Index of the first of these; -1 when there is none. */
  readonly firstMiss: number
}

/**
 * Addresses a tile: what one turn works on stays in the cache, and the copies in and out of WASM memory
 * cost little beside the memory traffic they would have caused anyway.
 */
const TILE = 4096

// One instance for all batches that live in JavaScript memory; the plan it holds is that of its last user.
let shared: Kernel | undefined
let sharedPlan: Plan | undefined
let tile: BigUint64Array
/** The first n addresses of the tile, for the n that have been asked for: making a view costs more than a short batch. */
let views: (BigUint64Array | undefined)[]

function sharedKernel(plan: Plan): Kernel {
  if (shared === undefined) {
    shared = new Kernel(TILE * 8)
    tile = new BigUint64Array(shared.exports.memory.buffer, shared.heap, TILE)
    views = new Array(TILE + 1)
    views[TILE] = tile
  }
  if (sharedPlan !== plan) {
    loadPlan(shared, plan)
    sharedPlan = plan
  }
  return shared
}

/** Runs a plan over addresses in JavaScript memory, tile by tile. `output` may be `input` itself. */
export function runBatch(plan: Plan, input: BigUint64Array, output?: BigUint64Array): BatchResult {
  assertBatch(input, 'input')
  if (output === undefined) output = new BigUint64Array(input.length)
  else assertOutput(input, output)

  const kernel = sharedKernel(plan)
  const { heap } = kernel
  const { maskTag, translateBatch } = kernel.exports
  const length = input.length
  let missed = 0
  let firstMiss = -1
  for (let at = 0; at < length; at += TILE) {
    const count = length - at < TILE ? length - at : TILE
    tile.set(count === length ? input : input.subarray(at, at + count))
    if (plan.kind === 'macro') {
      maskTag(heap, heap, count)
    } else {
      translateBatch(heap, heap, count, plan.segments.length)
      const found = kernel.counts()
      if (found.missed > 0) {
        if (firstMiss < 0) firstMiss = at + found.firstMiss
        missed += found.missed
      }
    }
    const view = views[count] ?? tile.subarray(0, count)
    views[count] = view
    output.set(view, at)
  }
  return { output, translated: length - missed, missed, firstMiss }
}

/**
 * kern_hyp_va over a whole array, unchecked, at memory speed.
 * @param layout needs only tagLsb and tagVal (or mode vhe)
 * @param input kernel addresses; any u64 gives an output (KERNEL-FACTS section 1)
 * @param output where the hyp VAs go, at least as long; `input` itself is allowed; a new array when absent
 * @returns output
 * @throws HypvaTypeError, HypvaRangeError (`HYPVA_ARGUMENT`) for other arrays or a short or overlapping output
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
  let kernel: Kernel
  try {
    kernel = new Kernel(length * 8)
  } catch (cause) {
    throw new HypvaError('HYPVA_ARGUMENT', `length: no memory for a resident batch of ${length} addresses (${cause})`)
  }
  loadPlan(kernel, plan)
  const { heap } = kernel
  return {
    addresses: new BigUint64Array(kernel.exports.memory.buffer, heap, length),
    translate(count = length) {
      if (!Number.isSafeInteger(count) || count < 0 || count > length) {
        throw new HypvaRangeError('HYPVA_ARGUMENT', `count: expected 0 … ${length}, got ${describe(count)}`)
      }
      if (plan.kind === 'macro') {
        kernel.exports.maskTag(heap, heap, count)
        return { translated: count, missed: 0, firstMiss: -1 }
      }
      kernel.exports.translateBatch(heap, heap, count, plan.segments.length)
      return kernel.counts()
    },
  }
}

export function assertBatch(value: unknown, what: string): asserts value is BigUint64Array {
  if (value instanceof BigUint64Array) return
  // An array of another realm (a frame, a vm context) is one as well, by its tag.
  if (!ArrayBuffer.isView(value) || Object.prototype.toString.call(value) !== '[object BigUint64Array]') {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `${what}: expected a BigUint64Array, got ${describe(value)}`)
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
  const shift = output.byteOffset - input.byteOffset
  if (output.buffer === input.buffer && shift !== 0 && Math.abs(shift) < input.byteLength) {
    throw new HypvaRangeError('HYPVA_ARGUMENT', 'output: overlaps the input without being the same array')
  }
}
