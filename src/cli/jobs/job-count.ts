import { availableParallelism } from 'node:os'

/** Bytes in a block: large enough that handing it out costs nothing, small enough for the memory of a job. */
export const BLOCK = 1 << 21

/** Below this many bytes a second thread takes longer to start than it saves. */
const WORTH_IT = 128 << 20

/** The best number of jobs for a regular file of `size` bytes, at most `wanted` if given. 0: even one job is not worth its start. */
export function jobsFor(size: number, wanted: number | undefined): number {
  if (size <= BLOCK) return 0
  const most = Math.ceil(size / BLOCK)
  if (wanted !== undefined) return Math.min(wanted, most)
  return size < WORTH_IT ? 1 : Math.min(availableParallelism(), most)
}
