import { readSync, statSync } from 'node:fs'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Segment } from '../../engine/segments.js'
import { HypvaError } from '../../errors.js'
import { SPACES, type Space } from '../../layout/spaces.js'
import type { HypLayout } from '../../layout/types.js'
import type { SymbolTable } from '../../symbols/table.js'
import { Census } from '../../translate/census.js'
import { compileDirections, hypLooksLikeNumbers, sourceSpaces } from '../../translate/directions.js'
import { complementOf, gapsOf } from '../../translate/expected.js'
import { createNamer, type Namer } from '../../translate/namer.js'
import { NameRewriter, namedRanges } from '../../translate/names.js'
import { type OtherSource, otherSource } from '../../translate/other-source.js'
import { checkedPlan, uncheckedPlan } from '../../translate/plans.js'
import { RawLines } from '../../translate/raw-lines.js'
import type { RewriteCounts, Rewriter } from '../../translate/rewriter.js'
import { type TagClues, TagWatch, tagClues } from '../../translate/tag-watch.js'
import { formatU64, type Range } from '../../u64.js'
import { Failure } from '../failure.js'
import { type Format, newRewriter, orderOf, type Translation } from '../format.js'
import { checkInputs, checkTexts, type Input, openInput } from '../io/input.js'
import { LateWriter } from '../io/late-writer.js'
import { type Output, openOutput, say } from '../io/output.js'
import { openProgress, type Progress } from '../io/progress.js'
import { nameOf } from '../io/reading.js'
import { announceStdin } from '../io/stdin.js'
import { jobsFor } from '../jobs/job-count.js'
import { layoutOption, readLayout, spaceOption } from '../options.js'
import type { Status } from '../status.js'
import { formatCensus } from '../summary.js'
import { readSymbols, symbolsOption } from '../symbols.js'
import { toJson, visible } from '../text.js'

const EXAMPLES = `Examples:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  # Kernel addresses in a trace become hyp addresses, and back:
  echo 'fault at ffff000000ee7abc' | hypva translate -l layout.json
  echo 'pc 0x89b380ee7abc lr 0x89b380ee7010' | hypva translate -l layout.json --from hyp --to kernel
  # A file to a file, gzip decompressed on the way, with counts on stderr:
  echo 'fault at ffff000000ee7abc' | gzip > trace.gz
  hypva translate trace.gz -l layout.json -o trace.hyp --stats
  # What is where in a trace, by region:
  echo 'pc 0x89b380ee7abc lr ffff000000ee7abc' | hypva translate -l layout.json --summary
`

/** Bytes read at a time: small enough to stay in the second-level cache, large enough to make system calls rare. */
const CHUNK = 262144

interface TranslateOptions {
  layout: string
  from?: Space
  to?: Space | 'name'
  format: Format
  text?: boolean
  annotate?: boolean
  symbols?: string[]
  rawNames?: boolean
  returnAddresses?: boolean
  summary?: boolean
  top: number
  json?: boolean
  unchecked?: boolean
  output?: string
  strict?: boolean
  stats?: boolean
  jobs?: number
}

export function addTranslate(program: Command, status: Status): void {
  program
    .command('translate')
    .summary('rewrite addresses of one space as addresses of another')
    .description(
      'Rewrites every address of the source space in FILEs (default: stdin) as an address of the target space. Every other byte stays as it was.',
    )
    .argument('[FILE...]', 'what to translate; - is stdin; gzip is decompressed')
    .addOption(layoutOption())
    .addOption(
      spaceOption(
        '--from <space>',
        'the space of the addresses (default: kernel with --to hyp, otherwise both kernel and hyp)',
      ),
    )
    .addOption(
      new Option(
        '--to <space>',
        'the space to translate to, or name for symbol names (default: hyp; with --from hyp: kernel)',
      ).choices([...SPACES, 'name']),
    )
    .option('--annotate', 'write the name behind each translated address, as <symbol+0xoffset/0xsize>')
    .addOption(symbolsOption())
    .option('--raw-names', 'keep the __kvm_nvhe_ prefix of names')
    .option('--return-addresses', 'name the address before each, as %pB does in backtraces')
    .option('--summary', 'instead of the text, print how often addresses of each region and symbol were seen')
    .addOption(new Option('--top <n>', 'symbols a summary lists').argParser(parseCount).default(20))
    .option('--json', 'print the summary as JSON')
    .addOption(
      new Option('--format <format>', 'text, or raw 64-bit words').choices(['text', 'u64le', 'u64be']).default('text'),
    )
    .option('--text', 'read the input as text, whatever its first bytes look like')
    .option('--unchecked', 'apply kern_hyp_va to every address, as the kernel does, whether it makes sense or not')
    .option('-o, --output <file>', 'write to a file, which is replaced only when the output is complete')
    .option(
      '--strict',
      'exit 1 if an address where the layout expects the source space does not translate, or if the layout is of another boot',
    )
    .option('--stats', 'print to stderr how many addresses translated, and how many other numbers there were')
    .addOption(
      new Option('--jobs <n>', 'threads for a regular file with -o (default: chosen from the file size)').argParser(
        parseCount,
      ),
    )
    .addHelpText('before', EXAMPLES)
    .action(async (files: string[], options: TranslateOptions) => {
      const run = options.summary ? summarize : translate
      status.exitCode = await run(files.length > 0 ? files : ['-'], options)
    })
}

async function translate(files: string[], options: TranslateOptions): Promise<number> {
  refuse(files, options)
  const layout = readLayout(options.layout)
  const directed = { ...options, ...directionOf(layout, options) }
  const work = workOf(layout, directed)
  checkInputs(files)
  const look = looksAtText(options)
  if (look) await checkTexts(files)

  const output = openOutput(options.output)
  const total = { bytesIn: 0, bytesOut: 0, translated: 0, missed: 0, failed: 0 }
  let firstFailed: string | undefined
  let head: Uint8Array | undefined
  let foreign = false
  try {
    announceStdin('addresses', files)
    const progress = openProgress(files)
    try {
      for (const file of files) {
        const counts = await translateFile(file, work, output, progress, look)
        if (!head?.length) head = counts.head
        foreign = sayForeign(counts.watch, files.length > 1 ? nameOf(file) : undefined) || foreign
        total.bytesIn += counts.bytesIn
        total.bytesOut += counts.bytesOut
        total.translated += counts.translated
        total.missed += counts.missed
        total.failed += counts.failed
        if (counts.failed > 0) firstFailed ??= `${file === '-' ? 'standard input' : file}, byte ${counts.firstFailed}`
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

  if (!foreign && total.bytesIn > 0 && total.translated === 0) sayNothingTranslated(layout, directed, head)
  if (options.stats) {
    say(
      `addresses: ${total.translated} translated, ${total.missed} other numbers unchanged; bytes: ${total.bytesIn} in, ${total.bytesOut} out`,
    )
  }
  if (options.strict && total.failed > 0) {
    say(`hypva: addresses that did not translate: ${total.failed}, the first at ${firstFailed}`)
    return 1
  }
  return options.strict && foreign ? 1 : 0
}

/** Raw words that end inside of one. */
class Truncated extends Failure {}

/** All inputs through one count. */
async function summarize(files: string[], options: TranslateOptions): Promise<number> {
  const { symbols = [], from, format, top, json, stats } = options
  refuse(files, options)
  const layout = readLayout(options.layout)
  checkInputs(files)
  const look = looksAtText(options)
  if (look) await checkTexts(files)
  const order = orderOf(format)
  const namer = symbols.length > 0 ? namerOf(layout, options, from) : undefined
  const clues = from === undefined || from === 'hyp' ? tagClues(layout, [], namer?.symbols) : undefined
  const watch = clues && new TagWatch(clues)
  const census = new Census(layout, {
    chunk: CHUNK,
    ...(from && { from }),
    ...(namer && { namer }),
    ...(order !== undefined && { order }),
    ...(watch && { watch }),
  })
  const output = openOutput(options.output)
  try {
    announceStdin('addresses', files)
    const progress = openProgress(files)
    try {
      for (const file of files) await translateFile(file, { make: () => census }, output, progress, look)
    } finally {
      progress.stop()
    }
    const result = census.result()
    const text = json
      ? toJson({ ...result, symbols: result.symbols.slice(0, top) })
      : visible(formatCensus(result, top, symbols.length > 0))
    output.write(new TextEncoder().encode(text))
    output.finish()
  } catch (error) {
    output.abandon()
    throw error
  }
  const { bytesIn, translated } = census.counts
  if (!sayForeign(watch) && bytesIn > 0 && translated === 0) {
    note(`the input holds no ${from ?? 'kernel or hyp'} address: no number in it lies in a region of this layout`)
  }
  if (stats) say(`bytes: ${bytesIn} in`)
  return 0
}

/** Whether an input that is no text by its first bytes is refused. */
function looksAtText({ format, text }: TranslateOptions): boolean {
  return format === 'text' && !text
}

interface FileResult extends RewriteCounts {
  /** The beginning of the input, when nothing in it translated. */
  readonly head?: Uint8Array
  /** What tells whether the input is of another boot than the layout. */
  readonly watch?: TagWatch | undefined
}

/** Bytes of that beginning. */
const HEAD = 65536

/**
 * One input through a rewriter of its own: a token does not reach from one file into the next.
 * @param text refuse what is no text
 */
async function translateFile(
  file: string,
  { make, parts, clues }: Work,
  output: Output,
  progress: Progress,
  text: boolean,
): Promise<FileResult> {
  // An output of our own has to be tidied up when a signal comes, and that takes an event loop that turns.
  const input = await openInput(file, { blocking: output.file === undefined, text })
  const watch = clues && new TagWatch(clues)
  try {
    if (input.file === undefined) progress.forgetTotal()
    const jobs = input.file && output.file && parts ? jobsFor(input.file.size, parts.jobs) : 0
    if (jobs > 0) return { ...(await translateInJobs(jobs, input, output, { ...parts!, watch }, progress)), watch }
    const rewriter = make(watch)
    // A pipe may never end; of a file, compressed or not, the end is waited for, since only then the counts are whole.
    const endless = file === '-' || !statSync(file).isFile()
    const pause = () => endless && watch?.changed && sayForeign(watch, undefined, true)
    const head = await pump(input, rewriter, output, progress, pause)
    rewriter.end()
    return { ...rewriter.counts, ...(head && { head }), watch }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'HYPVA_TRUNCATED') {
      throw new Truncated(`${input.name}: ${error.message}`)
    }
    throw error
  } finally {
    input.close()
  }
}

/** One regular file into another by jobs; what comes out is the same. */
async function translateInJobs(
  jobs: number,
  input: Input,
  output: Output,
  parts: NonNullable<Work['parts']> & { readonly watch: TagWatch | undefined },
  progress: Progress,
): Promise<FileResult> {
  const { runJobs } = await import('../jobs/jobs.js')
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
  if (counts.truncated !== undefined) throw new HypvaError('HYPVA_TRUNCATED', counts.truncated)
  if (counts.translated > 0) return counts
  const head = Buffer.alloc(HEAD)
  return { ...counts, head: head.subarray(0, readSync(input.file!.fd, head, 0, HEAD, 0)) }
}

/** What makes no sense together. */
function refuse(files: readonly string[], options: TranslateOptions): void {
  const { to, annotate, unchecked, symbols, summary, strict, json, format, text } = options
  if ((to === 'name' || annotate) && symbols === undefined) {
    throw new Failure(
      `${annotate ? '--annotate' : '--to name'} needs symbols: --symbols FILE (System.map, vmlinux or /proc/kallsyms)`,
    )
  }
  if (to === 'name' && unchecked) throw new Failure('--unchecked applies kern_hyp_va, which gives addresses, not names')
  if (to === 'name' && annotate)
    throw new Failure('--annotate keeps an address, --to name leaves none: take one of them')
  if (summary && (annotate || unchecked || strict || to !== undefined)) {
    throw new Failure('--summary translates nothing: --to, --annotate, --unchecked and --strict do not go with it')
  }
  if (json && !summary) throw new Failure('--json is for --summary; translated text stays text')
  if (text && format !== 'text') {
    throw new Failure(`--text is for text, --format ${format} for raw words: take one of them`)
  }
  if ([options.layout, ...(symbols ?? []), ...files].filter((file) => file === '-').length > 1) {
    throw new Failure('standard input (-) is named twice')
  }
}

/** What is done with each input: all that the options say, checked once. */
interface Work {
  /** Makes the rewriter of one input. @param watch told of its addresses */
  make(watch?: TagWatch): Rewriter
  /** What jobs that share one input are told; absent where the work is not shared. */
  readonly parts?: Translation & { readonly jobs: number | undefined }
  /** By which a watch notices that an input is of another boot than the layout; absent where that cannot be. */
  readonly clues?: TagClues | undefined
}

/** From where to where: what the options say, or the defaults. */
interface Direction {
  /** Absent: kernel and hyp addresses alike. */
  readonly from?: Space
  readonly to: Space | 'name'
  /** No source space was named. */
  readonly alike?: boolean
}

function directionOf(layout: HypLayout, options: TranslateOptions): Direction {
  const { from, to = from === 'hyp' ? 'kernel' : 'hyp', unchecked } = options
  if (to === 'name') return { ...(from && { from }), to }
  const sources = sourceSpaces(layout, unchecked ? (from ?? 'kernel') : from, to)
  return { ...(sources.length === 1 && { from: sources[0]! }), to, alike: from === undefined }
}

function workOf(layout: HypLayout, options: TranslateOptions & Direction): Work {
  const { from, to, annotate, unchecked, format, strict, stats } = options
  const order = orderOf(format)
  const countAll = Boolean(stats)
  // Of raw words every one is an address; in text those are that lie where the layout expects them.
  const gaps = (covered: readonly Range[], target: Space) =>
    !strict || unchecked
      ? []
      : order !== undefined
        ? complementOf(covered)
        : gapsOf(layout, sourceSpaces(layout, from, target), covered)
  // The tags of hyp addresses tell boots apart, where hyp addresses are looked for.
  const hyp = !unchecked && (from === 'hyp' || (from === undefined && to !== 'hyp'))
  const cluesOf = (segments: readonly Segment[], symbols?: SymbolTable) =>
    hyp ? tagClues(layout, segments, symbols) : undefined
  /** Names are written into text: raw words become lines first. */
  const textWork = (text: (options: { chunk: number; watch?: TagWatch }) => Rewriter): Pick<Work, 'make'> => ({
    make(watch) {
      const rewriter = (chunk: number) => text({ chunk, ...(watch && { watch }) })
      return order === undefined ? rewriter(CHUNK) : new RawLines(rewriter, order)
    },
  })
  if (to === 'name') {
    const namer = namerOf(layout, options, from)
    const counting = { countAll, gaps: gaps(namedRanges(namer), 'kernel') }
    return {
      ...textWork((options) => new NameRewriter(namer, { ...counting, ...options })),
      clues: cluesOf([], namer.symbols),
    }
  }
  const plan = unchecked ? uncheckedPlan(layout, from ?? 'kernel', to) : checkedPlan(layout, from, to)
  if (!unchecked) warnOfPartial(layout, from, to)
  if (options.alike && to !== 'hyp' && hypLooksLikeNumbers(layout)) {
    note('hyp addresses of this layout begin at 0 and look like any number: --from hyp translates them')
  }
  const covered = plan.kind === 'checked' ? plan.segments : []
  const counting = { countAll, gaps: gaps(covered, to) }
  if (annotate) {
    const namer = namerOf(layout, options, from)
    const work = textWork((options) => new NameRewriter(namer, { annotate: plan, ...counting, ...options }))
    return { ...work, clues: cluesOf(covered, namer.symbols) }
  }
  const clues = cluesOf(covered)
  const translation = { plan, format, ...counting, clues }
  return {
    make: (watch) => newRewriter(translation, CHUNK, watch),
    parts: { ...translation, jobs: options.jobs },
    clues,
  }
}

function namerOf(layout: HypLayout, options: TranslateOptions, from: Space | undefined): Namer {
  const { symbols = [], rawNames = false, returnAddresses = false } = options
  return createNamer(layout, readSymbols(symbols), { ...(from && { from }), rawNames, returnAddresses })
}

function parseCount(text: string): number {
  if (!/^[1-9][0-9]{0,5}$/.test(text)) throw new InvalidArgumentError('Expected a number from 1.')
  return Number(text)
}

/**
 * @param pause called before it waits for input
 * @returns the beginning of what came out when nothing in it translated: what went in, but for raw words that get names
 */
async function pump(
  input: Input,
  rewriter: Rewriter,
  output: Output,
  progress: Progress,
  pause: () => void,
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
        // Nothing is left unwritten while this waits, and nobody waits for it.
        await writer.flush()
        pause()
        count = await input.fill(space)
      }
      // What is there is read without giving way; signals and the progress bar get their turn now and then.
      if (turn % 16 === 0) await new Promise(setImmediate)
    } catch (error) {
      // What was held back as the beginning of an address is part of what could be read.
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

/** A direction of which the layout knows only a part is translated in that part, and that is said. */
function warnOfPartial(layout: HypLayout, from: Space | undefined, to: Space): void {
  const { refusals } = compileDirections(layout, from, to)
  for (const { from: source, error } of refusals) note(`${source} addresses are not translated: ${error.message}`)
  const image = layout.image !== undefined && layout.kimageVoffset !== undefined
  const kernel =
    sourceSpaces(layout, from, to).includes('kernel') && !refusals.some(({ from: source }) => source === 'kernel')
  if (kernel && !image) {
    note('the layout has no image and kimageVoffset: addresses of the kernel image are not translated')
  }
  if ((kernel || to === 'kernel') && layout.dram === undefined) {
    note('the layout has no dram: addresses of the linear map are not translated')
  }
}

/** Says that a whole input held nothing to translate, and what its beginning holds instead. */
function sayNothingTranslated(
  layout: HypLayout,
  { from, to, annotate, format, unchecked }: TranslateOptions & Direction,
  head: Uint8Array | undefined,
): void {
  if (unchecked) {
    note('nothing was translated: the input holds no address')
    return
  }
  const source = from ?? 'kernel or hyp'
  const named = to === 'name' ? ' that has a name' : ''
  // Raw words that get names are text by the time they come out.
  const order = to === 'name' || annotate ? undefined : orderOf(format)
  const other = head && otherSource(layout, from, to === 'name' ? 'kernel' : to, head, order)
  note(`nothing was translated: the input holds no ${source} address of this layout${named}${hintOf(other, to)}`)
}

/** What to ask for instead. */
function hintOf(other: OtherSource | undefined, to: Space | 'name'): string {
  if (other === undefined) return ''
  const { space, count } = other
  const what = count === 1 ? `1 number that is a ${space} address` : `${count} numbers that are ${space} addresses`
  return `; its beginning has ${what} of it: --from ${space}${space === 'hyp' && to === 'hyp' ? ' --to kernel' : ''} translates them`
}

/** Watches that have been heard: one warning is enough. */
const warned = new WeakSet<TagWatch>()

/**
 * Warns that an input is of another boot than the layout, when that is certain; tells whether it is.
 * @param name the input's, where there are several
 * @param soFar more of it may come
 */
function sayForeign(watch: TagWatch | undefined, name?: string, soFar = false): boolean {
  const found = watch?.verdict(soFar)
  if (watch === undefined || found === undefined) return false
  if (warned.has(watch)) return true
  warned.add(watch)
  const { others, own, complete, tagLsb } = found
  const text = (tag: bigint, tagVal: bigint) => `${formatU64(tag)} (tag_val ${formatU64(tagVal)})`
  const carry = own === 0 ? 'no address carries' : own === 1 ? '1 address carries' : `${own} addresses carry`
  const many = `${complete ? '' : 'at least '}${others} carry${others === 1 && complete ? 's' : ''}`
  say(
    `hypva: warning: ${name === undefined ? '' : `${name}: `}the layout is of another boot: ${carry} its tag ${text(found.ownTag, found.ownTagVal)}; ${many} another${soFar ? ' so far' : ''}, mostly ${text(found.tag, found.tagVal)} above the layout's tag_lsb ${tagLsb}. Recover the layout from the evidence of that boot`,
  )
  return true
}

function note(text: string): void {
  say(`hypva: note: ${text}`)
}
