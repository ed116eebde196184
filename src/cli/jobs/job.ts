// One of the jobs of a translation of a regular file into another: takes blocks of the input in turn, reads and rewrites
// them, and writes what comes out behind what the blocks before have come to.
import { readSync } from 'node:fs'
import { ABI } from '../../engine/wasm.generated.js'
import type { Chunks } from '../../translate/chunks.js'
import { CUT_WINDOW, cutOffset } from '../../translate/cuts.js'
import { addCounts, newCounts, type RewriteCounts, type Truncation } from '../../translate/rewriter.js'
import { type TagReport, TagWatch } from '../../translate/tag-watch.js'
import { Failure, systemFailure } from '../failure.js'
import { newRewriter, type Translation } from '../format.js'
import { interrupted } from '../io/reading.js'
import { writeAll, writeAllLater } from '../io/writing.js'

/** Bytes by which a block may be longer for the sake of its cuts: CUT_WINDOW, up to a multiple of 8. */
const CUT_ROOM = (CUT_WINDOW + 7) & ~7

/** What every job of a translation is told. */
export interface JobData extends Translation {
  readonly input: { readonly name: string; readonly fd: number; readonly size: number }
  readonly output: { readonly name: string; readonly fd: number }
  /** Bytes a block, a multiple of 8. */
  readonly block: number
  /** Next block to take, the block whose turn it is to be written, and whether a job has failed. */
  readonly control: Int32Array
  /** Where in the output the next block goes. */
  readonly position: BigInt64Array
}

/** What a job has done in all. */
export interface JobResult extends RewriteCounts {
  /** Where the input stops inside a raw address: known to the job that had the last block. */
  truncated?: Truncation | undefined
  /** What it has seen of tags. */
  tags?: TagReport | undefined
}

const NEXT_BLOCK = 0
export const TURN = 1
const FAILED = 2

/** Scheduling options of a job. */
interface Scheduling {
  /** Writes while the next block is read and rewritten, rather than in between. */
  readonly overlap: boolean
  /** Waited for after each block, and now and then while the turn is another's. */
  pause?(): Promise<unknown>
}

/** Does blocks until there are no more. On an error the other jobs stop as well. */
export async function runJob(data: JobData, { overlap, pause }: Scheduling): Promise<JobResult> {
  const { input, output, block, control, position } = data
  const blocks = Math.ceil(input.size / block)
  const watch = data.clues && new TagWatch(data.clues)
  // A block must not change while it is being written: with overlap a second rewriter takes the next one.
  const rewriters = Array.from({ length: overlap ? 2 : 1 }, () => newRewriter(data, block + CUT_ROOM, watch))
  let writing: Promise<void> = Promise.resolve()
  let truncated: Truncation | undefined
  const failWriting = (error: unknown): never => {
    throw systemFailure('cannot write', output.name, error)
  }
  try {
    for (let turns = 0; ; turns++) {
      const index = Atomics.add(control, NEXT_BLOCK, 1)
      if (index >= blocks || Atomics.load(control, FAILED) !== 0) break
      const rewriter = rewriters[turns % rewriters.length]!
      const bytes = rewriteBlock(data, rewriter, index)
      // The length is known now: the next block's place follows from it, and the writing itself need not wait.
      if (!(await takeTurn(control, index, pause))) break
      const at = Number(Atomics.add(position, 0, BigInt(bytes.length)))
      Atomics.store(control, TURN, index + 1)
      Atomics.notify(control, TURN)
      if (overlap) {
        await writing
        writing = writeAllLater(output.fd, bytes, at).catch(failWriting)
        // It is waited for in the next turn; until then its failure is not unhandled.
        writing.catch(() => {})
      } else {
        try {
          writeAll(output.fd, bytes, at)
        } catch (error) {
          failWriting(error)
        }
      }
      truncated ??= rewriter.end()
      await pause?.()
    }
    await writing
  } catch (error) {
    stopJobs(control)
    // No write may be under way when the file is closed.
    await writing.catch(() => {})
    throw error
  }
  const counts = rewriters.reduce((sum, rewriter) => addCounts(sum, rewriter.counts), newCounts())
  return { ...counts, truncated, tags: watch?.report() }
}

/** Reads a block, cut where no token is, and rewrites it. */
function rewriteBlock(data: JobData, rewriter: Chunks, index: number): Uint8Array {
  const start = cutAt(data, index * data.block)
  const end = cutAt(data, (index + 1) * data.block)
  const context = new Uint8Array(Math.min(ABI.TEXT_CONTEXT, start))
  readAll(data, context, start - context.length)
  const space = rewriter.begin(start, context).subarray(0, end - start)
  readAll(data, space, start)
  return rewriter.commit(space.length, true)
}

/** Waits until the blocks before have got their places; false when another job has failed meanwhile. */
async function takeTurn(control: Int32Array, index: number, pause: Scheduling['pause']): Promise<boolean> {
  for (let turn = Atomics.load(control, TURN); turn !== index; turn = Atomics.load(control, TURN)) {
    if (Atomics.load(control, FAILED) !== 0) return false
    // The death of a thread arrives as an event, which needs a turn of the loop.
    if (Atomics.wait(control, TURN, turn, 100) === 'timed-out') await pause?.()
  }
  return true
}

/** Where the input is cut near a place: in text where no token is, in raw words at a whole one. */
function cutAt(data: JobData, place: number): number {
  const {
    format,
    input: { size },
  } = data
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
      count = readSync(input.fd, into, at, into.length - at, position + at)
    } catch (error) {
      if (interrupted(error)) continue
      throw systemFailure('cannot read', input.name, error)
    }
    if (count === 0) throw new Failure(`cannot read ${input.name}: the file has become shorter`)
    at += count
  }
}

/** Lets no job begin another block. */
export function stopJobs(control: Int32Array): void {
  Atomics.store(control, FAILED, 1)
  Atomics.notify(control, TURN)
}
