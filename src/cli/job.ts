// One of the threads of a translation in several jobs: takes blocks of the input in turn, reads and rewrites them, and
// writes what comes out behind what the blocks before have come to.
import { readSync, writeSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { BinaryRewriter } from '../translate/binary.js'
import { CUT_CONTEXT, CUT_WINDOW, cutOffset } from '../translate/cuts.js'
import type { Plan } from '../translate/plan.js'
import { TextRewriter } from '../translate/text.js'
import { useModule } from '../translate/wasm.js'

/** What every job of a translation is told. */
export interface JobData {
  readonly input: number
  readonly output: number
  /** Bytes of input. */
  readonly size: number
  /** Bytes a block, a multiple of 8. */
  readonly block: number
  readonly plan: Plan
  readonly format: 'text' | 'u64le' | 'u64be'
  readonly countAll: boolean
  readonly module: WebAssembly.Module
  /** Next block to take, the block whose turn it is to be written, and whether a job has failed. */
  readonly control: Int32Array
  /** Where in the output the next block goes. */
  readonly position: BigInt64Array
}

/** What a job has done in all. */
export interface JobResult {
  readonly bytesIn: number
  readonly bytesOut: number
  readonly translated: number
  readonly missed: number
  readonly firstMiss: number
}

export const NEXT_BLOCK = 0
export const TURN = 1
export const FAILED = 2

/** An error on the way to the main thread, which says it in words: `read` or `write` of which side, or a plain message. */
export interface JobFailure {
  readonly side: 'read' | 'write' | undefined
  readonly code: string | undefined
  readonly message: string
}

class SideError extends Error {
  readonly side: 'read' | 'write'
  readonly code: string | undefined
  constructor(side: 'read' | 'write', error: unknown) {
    super((error as Error).message)
    this.side = side
    this.code = (error as NodeJS.ErrnoException).code
  }
}

function run(data: JobData): JobResult {
  useModule(data.module)
  const { size, block, control, position } = data
  const blocks = Math.ceil(size / block)
  const rewriter = newRewriter(data)
  for (;;) {
    const index = Atomics.add(control, NEXT_BLOCK, 1)
    if (index >= blocks || Atomics.load(control, FAILED) !== 0) break
    const start = cutAt(data, index * block)
    const end = cutAt(data, (index + 1) * block)
    const context = new Uint8Array(Math.min(CUT_CONTEXT, start))
    readAll(data, context, start - context.length)
    const space = rewriter.begin(start, context).subarray(0, end - start)
    readAll(data, space, start)
    const bytes = rewriter.commit(space.length, true)

    // The length is known now: the next block's place follows from it, and the writing itself need not wait.
    for (let turn = Atomics.load(control, TURN); turn !== index; turn = Atomics.load(control, TURN)) {
      if (Atomics.load(control, FAILED) !== 0) return rewriter.counts
      Atomics.wait(control, TURN, turn, 100)
    }
    const at = Number(Atomics.add(position, 0, BigInt(bytes.length)))
    Atomics.store(control, TURN, index + 1)
    Atomics.notify(control, TURN)
    writeAll(data, bytes, at)
    rewriter.end()
  }
  return rewriter.counts
}

function newRewriter({ plan, format, countAll, block }: JobData): TextRewriter | BinaryRewriter {
  if (format === 'text') return new TextRewriter(plan, { countAll, chunk: block + CUT_WINDOW })
  return new BinaryRewriter(plan, format === 'u64le' ? 'le' : 'be', block)
}

/** Where the input is cut near a place: in text where no token is, in raw words at a whole one. */
function cutAt(data: JobData, place: number): number {
  const { size, format } = data
  if (place === 0 || place >= size) return Math.min(place, size)
  if (format !== 'text') return place
  const window = new Uint8Array(Math.min(CUT_WINDOW, size - place))
  readAll(data, window, place)
  return place + cutOffset(window)
}

function readAll({ input }: JobData, into: Uint8Array, position: number): void {
  for (let at = 0; at < into.length; ) {
    let count: number
    try {
      count = readSync(input, into, at, into.length - at, position + at)
    } catch (error) {
      throw new SideError('read', error)
    }
    if (count === 0) throw new SideError('read', new Error('the file has become shorter'))
    at += count
  }
}

function writeAll({ output }: JobData, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(output, bytes, at, bytes.length - at, position + at)
    } catch (error) {
      throw new SideError('write', error)
    }
  }
}

const data = workerData as JobData
try {
  parentPort!.postMessage({ result: run(data) })
} catch (error) {
  Atomics.store(data.control, FAILED, 1)
  Atomics.notify(data.control, TURN)
  const { message } = error as Error
  const { side, code } = error as Partial<SideError>
  parentPort!.postMessage({ failure: { side, code, message } satisfies JobFailure })
}
