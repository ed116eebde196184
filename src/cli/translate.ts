import { type Command, Option } from 'commander'
import type { HypLayout } from '../layout/types.js'
import { BinaryRewriter } from '../translate/binary.js'
import { checkedPlan, type Plan, uncheckedPlan } from '../translate/plan.js'
import type { RewriteCounts, Rewriter } from '../translate/rewriter.js'
import type { Space } from '../translate/segments.js'
import { TextRewriter } from '../translate/text.js'
import { Failure } from './failure.js'
import { checkInputs, type Input, openInput } from './input.js'
import { layoutOption, readLayout, spaceOption } from './options.js'
import { type Output, openOutput, say } from './output.js'
import type { Status } from './program.js'
import { openProgress, type Progress } from './progress.js'

const EXAMPLES = `Examples:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  # Kernel addresses in a trace become hyp addresses, and back:
  echo 'fault at ffff000000ee7abc' | hypva translate -l layout.json
  echo 'pc 0x89b380ee7abc lr 0x89b380ee7010' | hypva translate -l layout.json --from hyp --to kernel
  # A file to a file, gzip undone on the way, with counts on stderr:
  echo 'fault at ffff000000ee7abc' | gzip > trace.gz
  hypva translate trace.gz -l layout.json -o trace.hyp --stats
`

/** Bytes read at a time: small enough to stay in the second-level cache, large enough to make system calls rare. */
const CHUNK = 262144

interface TranslateOptions {
  layout: string
  from: Space
  to: Space
  format: 'text' | 'u64le' | 'u64be'
  unchecked?: boolean
  output?: string
  strict?: boolean
  stats?: boolean
}

export function addTranslate(program: Command, status: Status): void {
  program
    .command('translate')
    .summary('rewrite addresses of one space as addresses of another')
    .description(
      'Rewrites every address of the source space in FILEs (default: stdin) as an address of the target space. Every other byte stays as it was.',
    )
    .argument('[FILE...]', 'what to translate; - is stdin; gzip is undone')
    .addOption(layoutOption())
    .addOption(spaceOption('--from <space>', 'what the addresses are').default('kernel'))
    .addOption(spaceOption('--to <space>', 'what they become (default: "hyp"; "kernel" for hyp addresses)'))
    .addOption(
      new Option('--format <format>', 'text, or raw 64-bit words').choices(['text', 'u64le', 'u64be']).default('text'),
    )
    .option('--unchecked', 'apply kern_hyp_va to every address, as the kernel does, whether it makes sense or not')
    .option('-o, --output <file>', 'write to a file, replaced as a whole when complete')
    .option('--strict', 'exit 1 when an address did not translate')
    .option('--stats', 'counts on stderr at the end')
    .addHelpText('before', EXAMPLES)
    .action(async (files: string[], options: Omit<TranslateOptions, 'to'> & { to?: Space }) => {
      const { to = options.from === 'hyp' ? 'kernel' : 'hyp' } = options
      status.exitCode = await translate(files.length > 0 ? files : ['-'], { ...options, to })
    })
}

async function translate(files: string[], options: TranslateOptions): Promise<number> {
  const { from, to } = options
  if (options.layout === '-' && files.includes('-')) {
    throw new Failure('standard input cannot be both the layout and what to translate')
  }
  const layout = readLayout(options.layout)
  const plan = options.unchecked ? uncheckedPlan(layout, from, to) : checkedPlan(layout, from, to)
  if (!options.unchecked) warnOfPartial(layout, from, to)
  checkInputs(files)

  const output = openOutput(options.output)
  const total = { bytesIn: 0, bytesOut: 0, translated: 0, missed: 0 }
  let firstMiss: string | undefined
  try {
    const progress = await openProgress(files)
    try {
      for (const file of files) {
        const counts = await translateFile(file, plan, options, output, progress)
        total.bytesIn += counts.bytesIn
        total.bytesOut += counts.bytesOut
        total.translated += counts.translated
        total.missed += counts.missed
        if (counts.missed > 0) firstMiss ??= `${file === '-' ? 'standard input' : file}, byte ${counts.firstMiss}`
      }
    } finally {
      progress.stop()
    }
    output.finish()
  } catch (error) {
    // All whole addresses of a file that ends inside of one have been written, and are kept.
    if (error instanceof Truncated) output.finish()
    else output.abandon()
    throw error
  }

  if (options.stats) {
    say(
      `addresses: ${total.translated} translated, ${total.missed} left as they were; bytes: ${total.bytesIn} in, ${total.bytesOut} out`,
    )
  }
  if (options.strict && total.missed > 0) {
    say(`hypva: addresses that did not translate: ${total.missed}, the first at ${firstMiss}`)
    return 1
  }
  return 0
}

/** Raw words that end inside of one. */
class Truncated extends Failure {}

/** One input through a rewriter of its own: a token does not reach from one file into the next. */
async function translateFile(
  file: string,
  plan: Plan,
  options: TranslateOptions,
  output: Output,
  progress: Progress,
): Promise<RewriteCounts> {
  const input = await openInput(file)
  const rewriter = newRewriter(plan, options)
  try {
    await pump(input, rewriter, output, progress)
    rewriter.end()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'HYPVA_TRUNCATED') {
      throw new Truncated(`${input.name}: ${error.message}`)
    }
    throw error
  } finally {
    input.close()
  }
  return rewriter.counts
}

function newRewriter(plan: Plan, { format, strict, stats }: TranslateOptions): Rewriter {
  if (format === 'text') return new TextRewriter(plan, { chunk: CHUNK, countAll: Boolean(strict || stats) })
  return new BinaryRewriter(plan, format === 'u64le' ? 'le' : 'be', CHUNK)
}

async function pump(input: Input, rewriter: Rewriter, output: Output, progress: Progress): Promise<void> {
  for (let turn = 1; ; turn++) {
    const space = rewriter.space()
    let count: number
    try {
      const filled = input.fill(space)
      count = typeof filled === 'number' ? filled : await filled
      // A file is read without giving way; signals and the progress bar get their turn now and then.
      if (typeof filled === 'number' && turn % 16 === 0) await new Promise(setImmediate)
    } catch (error) {
      // What was held back as the beginning of an address is part of what could be read.
      output.write(rewriter.commit(0, true))
      throw error
    }
    const bytes = rewriter.commit(count, count === 0)
    if (bytes.length > 0) output.write(bytes)
    if (count === 0) return
    progress.add(count)
  }
}

/** A direction of which the layout knows only a part is translated in that part, and that is said. */
function warnOfPartial(layout: HypLayout, from: Space, to: Space): void {
  const image = layout.image !== undefined && layout.kimageVoffset !== undefined
  if (from === 'kernel' && !image) {
    note('the layout has no image and kimageVoffset: addresses of the kernel image are not translated')
  }
  if ((from === 'kernel' || to === 'kernel') && layout.dram === undefined) {
    note('the layout has no dram: addresses of the linear map are not translated')
  }
}

function note(text: string): void {
  say(`hypva: note: ${text}`)
}
