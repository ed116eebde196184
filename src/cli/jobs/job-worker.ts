// A thread for one job.
import { parentPort, workerData } from 'node:worker_threads'
import { useModule } from '../../engine/engine.js'
import { type JobData, runJob } from './job.js'

const { data, module } = workerData as { data: JobData; module: WebAssembly.Module }
useModule(module)
runJob(data, { overlap: false }).then(
  (result) => parentPort!.postMessage({ result }),
  (error) => parentPort!.postMessage({ failure: error.message }),
)
