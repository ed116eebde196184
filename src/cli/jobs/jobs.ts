import { Worker } from 'node:worker_threads'
import { engineModule } from '../../engine/engine.js'
import { addCounts, newCounts } from '../../translate/rewriter.js'
import type { TagWatch } from '../../translate/tag-watch.js'
import { Failure } from '../failure.js'
import type { Translation } from '../format.js'
import { type JobData, type JobResult, runJob, stopJobs, TURN } from './job.js'
import { BLOCK } from './job-count.js'

/** A regular file to translate into another one by jobs, each reading and writing where its blocks are. */
interface JobsRequest extends Translation, Pick<JobData, 'input'> {
  readonly jobs: number
  /** Told what the jobs have seen, to notice a layout of another boot. */
  readonly watch: TagWatch | undefined
  readonly output: { readonly name: string; readonly fd: number; readonly position: number }
  /** Called with about the bytes dealt with so far, after each block of the first job. */
  onProgress(bytes: number): void
}

/**
 * Runs the jobs, one of them in this thread, and adds up what they did. The output is the same bytes however many they are.
 */
export async function runJobs(request: JobsRequest): Promise<JobResult> {
  const { jobs, input, output, plan, format, countAll, gaps, clues } = request
  const control = new Int32Array(new SharedArrayBuffer(12))
  const position = new BigInt64Array(new SharedArrayBuffer(8))
  position[0] = BigInt(output.position)
  const data: JobData = { input, output, block: BLOCK, plan, format, countAll, gaps, clues, control, position }
  const pause = () => {
    request.onProgress(Math.min(input.size, Atomics.load(control, TURN) * BLOCK))
    return new Promise(setImmediate)
  }
  const others = Array.from({ length: jobs - 1 }, () => runInThread(data))
  // A single job leaves the writing to another processor; several are busy on all of them.
  const own = runJob(data, { overlap: jobs === 1, pause })
  // All of them are awaited, so that none writes any more when the first failure is passed on.
  const ends = await Promise.allSettled([own, ...others])
  return ends.reduce((sum: JobResult, end) => {
    if (end.status === 'rejected') throw end.reason
    if (end.value.tags !== undefined) request.watch?.add(end.value.tags)
    return { ...addCounts(sum, end.value), truncated: sum.truncated ?? end.value.truncated }
  }, newCounts())
}

function runInThread(data: JobData): Promise<JobResult> {
  return new Promise((resolve, reject) => {
    // The command line is shipped bundled as CommonJS: scripts/build.mjs.
    const worker = new Worker(new URL('./job-worker.cjs', import.meta.url), {
      workerData: { data, module: engineModule() },
    })
    let told = false
    worker.once('message', ({ result, failure }: { result?: JobResult; failure: string }) => {
      told = true
      if (result !== undefined) resolve(result)
      else reject(new Failure(failure))
    })
    const fail = (error: unknown) => {
      if (told) return
      stopJobs(data.control)
      reject(new Failure(`${data.input.name}: ${(error as Error).message}`))
    }
    worker.once('error', fail)
    worker.once('exit', () => fail(new Error('a thread ended before its work was done')))
  })
}
