import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { Plan } from '../translate/plan.js'
import { kernelModule } from '../translate/wasm.js'
import { Failure, systemFailure } from './failure.js'
import type { JobData, JobFailure, JobResult } from './job.js'

/** Bytes a block: large enough that handing it out costs nothing, small enough that jobs stay within their memory. */
const BLOCK = 1 << 20

/** Below this many bytes a second thread takes longer to start than it saves. */
const WORTH_IT = 24 << 20

/** How many jobs a file of `size` bytes is best translated by, at most `wanted` if that is given. */
export function jobsFor(size: number, wanted: number | undefined): number {
  const most = Math.max(1, Math.ceil(size / BLOCK))
  if (wanted !== undefined) return Math.min(wanted, most)
  return size < WORTH_IT ? 1 : Math.min(availableParallelism(), most)
}

/** A regular file to translate into another one by several threads, each reading and writing where its blocks are. */
export interface JobsRequest {
  readonly jobs: number
  readonly input: { readonly name: string; readonly fd: number; readonly size: number }
  readonly output: { readonly name: string; readonly fd: number; readonly position: number }
  readonly plan: Plan
  readonly format: 'text' | 'u64le' | 'u64be'
  readonly countAll: boolean
  /** Called with the bytes dealt with so far, now and then. */
  onProgress(bytes: number): void
}

/** Runs the jobs and adds up what they did. The output is the same bytes that one job would write. */
export async function runJobs(request: JobsRequest): Promise<JobResult> {
  const { jobs, input, output, plan, format, countAll } = request
  const control = new Int32Array(new SharedArrayBuffer(12))
  const position = new BigInt64Array(new SharedArrayBuffer(8))
  position[0] = BigInt(output.position)
  const data: JobData = {
    input: input.fd,
    output: output.fd,
    size: input.size,
    block: BLOCK,
    plan,
    format,
    countAll,
    module: kernelModule(),
    control,
    position,
  }
  const timer = setInterval(() => request.onProgress(Math.min(input.size, Atomics.load(control, 1) * BLOCK)), 200)
  try {
    const results = await Promise.all(Array.from({ length: jobs }, () => runJob(data, input.name, output.name)))
    return results.reduce((sum, one) => ({
      bytesIn: sum.bytesIn + one.bytesIn,
      bytesOut: sum.bytesOut + one.bytesOut,
      translated: sum.translated + one.translated,
      missed: sum.missed + one.missed,
      firstMiss:
        sum.firstMiss < 0 ? one.firstMiss : one.firstMiss < 0 ? sum.firstMiss : Math.min(sum.firstMiss, one.firstMiss),
    }))
  } finally {
    clearInterval(timer)
  }
}

function runJob(data: JobData, inputName: string, outputName: string): Promise<JobResult> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./job.js', import.meta.url), { workerData: data })
    worker.once('error', reject)
    worker.once('message', ({ result, failure }: { result?: JobResult; failure?: JobFailure }) => {
      if (result !== undefined) resolve(result)
      else reject(inWords(failure!, inputName, outputName))
    })
  })
}

function inWords({ side, message, code }: JobFailure, inputName: string, outputName: string): Error {
  if (side === 'read') return systemFailure('cannot read', inputName, { message, code })
  if (side === 'write') return systemFailure('cannot write', outputName, { message, code })
  return new Failure(`${inputName}: ${message}`)
}
