import { readSync, statSync } from 'node:fs'
import {
  addCounts,
  describeTruncation,
  newCounts,
  type RewriteCounts,
  type Rewriter,
  type Truncation,
} from '../translate/rewriter.js'
import { type TagClues, TagWatch } from '../translate/tag-watch.js'
import { warnOfAnotherBoot } from './another-boot.js'
import { Failure } from './failure.js'
import type { Translation } from './format.js'
import { checkInputs, checkTexts, type Input, openInput } from './io/input.js'
import { type Output, openOutput } from './io/output.js'
import { openProgress, type Progress } from './io/progress.js'
import { nameOf } from './io/reading.js'
import { announceStdin } from './io/stderr.js'
import { jobsFor } from './jobs/job-count.js'

/** Bytes read at a time: small enough to stay in the second-level cache, large enough to make system calls rare. */
export const CHUNK = 262144

/** What hypva does with each input. */
export interface Work {
  /**
   * Makes the rewriter of one input.
   * @param watch looks at its addresses
   */
  make(watch?: TagWatch): Rewriter
  /** What jobs need to share one input; absent where they cannot. */
  readonly parts?: Translation & { readonly jobs: number | undefined }
  /** How to tell an input of another boot than the layout's; absent where nothing tells. */
  readonly clues?: TagClues | undefined
}

/** What came of all inputs. */
interface Pumped {
  readonly counts: RewriteCounts
  /** The beginning of the first input that has one, when nothing in that input translated. */
  readonly head: Uint8Array | undefined
  /** An input is of another boot than the layout. */
  readonly foreign: boolean
  /** Where the first address is that ought to have translated and did not. */
  readonly firstFailed: string | undefined
}

interface PumpOptions {
  /** OUT; absent: standard output. */
  readonly output: string | undefined
  /** Refuse inputs that are not text. */
  readonly text: boolean
  /** Makes the text that follows the last input. */
  readonly report?: () => string
}

/**
 * Passes every input through a rewriter of its own, so that no token reaches from one file into the next, and writes what
 * comes out. OUT is replaced only when all of it is there.
 */
export async function pumpFiles(files: readonly string[], work: Work, options: PumpOptions): Promise<Pumped> {
  const { text, report } = options
  checkInputs(files)
  if (text) await checkTexts(files)
  const output = openOutput(options.output)
  let counts = newCounts()
  let head: Uint8Array | undefined
  let foreign = false
  let firstFailed: string | undefined
  let truncated: string | undefined
  try {
    announceStdin('addresses', files)
    const progress = openProgress(files)
    try {
      for (const [i, file] of files.entries()) {
        const done = await pumpFile(file, work, output, progress, text)
        if (done.truncated !== undefined) {
          const { bytes } = done.truncated
          // A summary of a part would mislead, so there is none.
          if (report) throw new Failure(`${nameOf(file)}: the input ends with ${bytes} of the 8 bytes of an address`)
          truncated = `${nameOf(file)}: ${describeTruncation(done.truncated)}`
          if (i < files.length - 1) truncated += '; hypva did not read the files after it'
          break
        }
        if (!head?.length) head = done.head
        foreign = warnOfAnotherBoot(done.watch, files.length > 1 ? nameOf(file) : undefined) || foreign
        if (done.failed > 0) firstFailed ??= `${nameOf(file)}, byte ${done.firstFailed}`
        counts = addCounts(counts, done)
      }
    } finally {
      progress.stop()
    }
    if (report !== undefined) output.write(Buffer.from(report()))
    output.finish()
  } catch (error) {
    output.abandon()
    throw error
  }
  // The whole addresses before the incomplete one are written, and the output keeps them.
  if (truncated !== undefined) throw new Failure(truncated)
  return { counts, head, foreign, firstFailed }
}

interface PumpedFile extends RewriteCounts {
  /** Where the input stops inside a raw address: hypva reads nothing after it. */
  readonly truncated?: Truncation | undefined
  readonly head?: Uint8Array
  readonly watch?: TagWatch | undefined
}

/** Bytes of the beginning that are kept. */
const HEAD = 65536

async function pumpFile(
  file: string,
  { make, parts, clues }: Work,
  output: Output,
  progress: Progress,
  text: boolean,
): Promise<PumpedFile> {
  // A signal has to find an event loop that turns, so that it can remove the output file that is not complete.
  const input = await openInput(file, { blocking: output.file === undefined, text })
  const watch = clues && new TagWatch(clues)
  try {
    if (input.file === undefined) progress.forgetTotal()
    const jobs = input.file && output.file && parts ? jobsFor(input.file.size, parts.jobs) : 0
    if (jobs > 0) return { ...(await shareFile(jobs, input, output, { ...parts!, watch }, progress)), watch }
    const rewriter = make(watch)
    // A pipe may never end, so hypva warns early. The counts of a file, compressed or not, are complete at its end.
    const endless = file === '-' || !statSync(file).isFile()
    const beforeWaiting = () => {
      if (endless && watch?.changed) warnOfAnotherBoot(watch, undefined, true)
    }
    const head = await pump(input, rewriter, output, progress, beforeWaiting)
    return { ...rewriter.counts, ...(head && { head }), watch, truncated: rewriter.end() }
  } finally {
    input.close()
  }
}

/** Lets jobs translate one regular file into another. The output is the same. */
async function shareFile(
  jobs: number,
  input: Input,
  output: Output,
  parts: NonNullable<Work['parts']> & { readonly watch: TagWatch | undefined },
  progress: Progress,
): Promise<PumpedFile> {
  const { runJobs } = await import('./jobs/jobs.js')
  let shown = 0
  const counts = await runJobs({
    ...parts,
    jobs,
    input: { name: input.name, ...input.file! },
    output: { name: output.name, fd: output.file!.fd, position: output.file!.length },
    onProgress(bytes) {
      progress.add(bytes - shown)
      shown = bytes
    },
  })
  output.file!.length += counts.bytesOut
  if (counts.translated > 0) return counts
  const head = Buffer.alloc(HEAD)
  return { ...counts, head: head.subarray(0, readSync(input.file!.fd, head, 0, HEAD, 0)) }
}

/**
 * @param beforeWaiting is called before it waits for input
 * @returns the beginning of the output when nothing in it translated: that of the input, except for raw words that get names
 */
async function pump(
  input: Input,
  rewriter: Rewriter,
  output: Output,
  progress: Progress,
  beforeWaiting: () => void,
): Promise<Uint8Array | undefined> {
  const writer = new LateWriter(output)
  const head: Uint8Array[] = []
  let missing = HEAD
  for (let turn = 1; ; turn++) {
    const space = rewriter.space()
    let count: number
    try {
      count = input.present(space)
      if (count === 0) {
        // All output is written before hypva waits: somebody may need it, or nobody may be there any more.
        await writer.flush()
        beforeWaiting()
        count = await input.fill(space)
      }
      // Input that is there is read without yielding; signals and the progress bar get their turn now and then.
      if (turn % 16 === 0) await new Promise(setImmediate)
    } catch (error) {
      // The bytes that the rewriter holds back, the beginning of an address perhaps, were read without an error.
      await writer.write(rewriter.commit(0, true))
      await writer.flush()
      throw error
    }
    const bytes = rewriter.commit(count, count === 0)
    progress.add(count)
    if (missing > 0 && bytes.length > 0 && rewriter.counts.translated === 0) {
      head.push(bytes.slice(0, missing))
      missing -= Math.min(missing, bytes.length)
    }
    if (bytes.length > 0) await writer.write(bytes)
    if (count === 0) break
  }
  await writer.flush()
  return rewriter.counts.translated === 0 ? Buffer.concat(head) : undefined
}

/** Pieces of at least this many bytes are worth leaving to another thread. */
const LARGE = 65536

/** Writes large pieces while the next ones are read and rewritten, and small ones at once. */
class LateWriter {
  private readonly output: Output
  private readonly copies: Uint8Array[] = []
  private turn = 0
  private writing: Promise<void> = Promise.resolve()

  constructor(output: Output) {
    this.output = output
  }

  /** Once this resolves, the caller may change `bytes`, although they may not have been written yet. */
  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length < LARGE) {
      await this.flush()
      this.output.write(bytes)
      return
    }
    // One copy is being written, the other one is free.
    this.turn ^= 1
    let copy = this.copies[this.turn]
    if (copy === undefined || copy.length < bytes.length) {
      copy = new Uint8Array(Math.max(bytes.length, 2 * (copy?.length ?? 0)))
      this.copies[this.turn] = copy
    }
    copy.set(bytes)
    await this.flush()
    this.writing = this.output.writeLater(copy.subarray(0, bytes.length))
    // Later code awaits it; until then its failure must not count as unhandled.
    this.writing.catch(() => {})
  }

  /** Waits until everything is written. */
  async flush(): Promise<void> {
    await this.writing
  }
}
