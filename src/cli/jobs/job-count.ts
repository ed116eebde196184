import { availableParallelism } from 'node:os'

/** Bytes a block: large enough that handing it out costs nothing, small enough that jobs stay within their memory. */
export const BLOCK = 1 << 21

/** Below this many bytes a second thread takes longer to start than it saves. */
const WORTH_IT = 128 << 20

/**
 * How many jobs a regular file of `size` bytes is best translated by, at most `wanted` if that is given. 0: what there is to
 * do is not worth setting up even one.
 */
export function jobsFor(size: number, wanted: number | undefined): number {
  if (size <= BLOCK) return 0
  const most = Math.ceil(size / BLOCK)
  if (wanted !== undefined) return Math.min(wanted, most)
  return size < WORTH_IT ? 1 : Math.min(availableParallelism(), most)
}
