import { type Command, Option } from 'commander'
import { SPACES, type Space } from '../../layout/spaces.js'
import type { HypLayout } from '../../layout/types.js'
import { compileDirections, hypLooksLikeNumbers, sourceSpaces } from '../../translate/directions.js'
import { type OtherSource, otherSource } from '../../translate/other-source.js'
import { Failure } from '../failure.js'
import { orderOf } from '../format.js'
import { note, say } from '../io/stderr.js'
import { layoutOption, readLayout, spaceOption } from '../options.js'
import { pumpFiles } from '../pump.js'
import { type Direction, directionOf, type RewriteOptions, workOf } from '../rewriting.js'
import { addTraceOptions, checkTraceOptions, parseCount } from '../trace-options.js'

const EXAMPLES = `Examples:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  # Kernel addresses in a trace become hyp addresses, and back:
  echo 'fault at ffff000000ee7abc' | hypva translate -l layout.json
  echo 'pc 0x89b380ee7abc lr 0x89b380ee7010' | hypva translate -l layout.json --from hyp --to kernel
  # From a compressed file to a file, with counts on stderr:
  echo 'fault at ffff000000ee7abc' | gzip > trace.gz
  hypva translate trace.gz -l layout.json -o trace.hyp --stats
`

export function addTranslate(program: Command): void {
  const translate = program
    .command('translate')
    .summary('rewrite the addresses of one space as addresses of another')
    .description(
      'Rewrites every address of the source space in FILEs (default: stdin) as an address of the target space, and keeps every other byte.',
    )
    .argument('[FILE...]', 'input; - is stdin; gzip is decompressed')
    .addHelpText('before', EXAMPLES)
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
    .option('--annotate', 'write the name after each translated address, as <symbol+0xoffset/0xsize>')
  addTraceOptions(translate)
    .option('--unchecked', 'apply kern_hyp_va to every address, as the kernel does, whether it makes sense or not')
    .option(
      '--strict',
      'exit with 1 if a number where the layout expects an address does not translate, or if the layout is of another boot',
    )
    .option('--stats', 'print to stderr how many addresses translated, and how many other numbers there were')
    .addOption(
      new Option(
        '--jobs <n>',
        'threads that share a regular file with -o (default: depends on the file size)',
      ).argParser(parseCount),
    )
    .addOption(new Option('--summary').hideHelp())
    .on('option:summary', () => {
      throw new Failure('summary is a command of its own: hypva summary')
    })
    .action(async (files: string[], options: RewriteOptions) => {
      process.exitCode = await run(files.length > 0 ? files : ['-'], options)
    })
}

async function run(files: string[], options: RewriteOptions): Promise<number> {
  refuse(files, options)
  const layout = readLayout(options.layout)
  const direction = directionOf(layout, options)
  const work = workOf(layout, options, direction)
  if (!options.unchecked) noteLimits(layout, direction, options.from === undefined)
  const { counts, head, foreign, firstFailed } = await pumpFiles(files, work, {
    output: options.output,
    text: options.format === 'text' && !options.text,
  })
  const { bytesIn, bytesOut, translated, missed, failed } = counts
  if (!foreign && bytesIn > 0 && translated === 0) noteNothing(layout, direction, options, head)
  if (options.stats) {
    say(`addresses: ${translated} translated, ${missed} other numbers unchanged; bytes: ${bytesIn} in, ${bytesOut} out`)
  }
  if (!options.strict) return 0
  if (failed > 0) say(`hypva: addresses that did not translate: ${failed}, the first at ${firstFailed}`)
  return failed > 0 || foreign ? 1 : 0
}

/** Refuses options that contradict each other. */
function refuse(files: readonly string[], options: RewriteOptions): void {
  const { to, annotate, unchecked, symbols } = options
  if ((to === 'name' || annotate) && symbols === undefined) {
    throw new Failure(
      `${annotate ? '--annotate' : '--to name'} needs symbols: --symbols FILE (System.map, vmlinux or /proc/kallsyms)`,
    )
  }
  if (to === 'name' && unchecked) throw new Failure('--unchecked applies kern_hyp_va, which gives addresses, not names')
  if (to === 'name' && annotate)
    throw new Failure('--annotate keeps an address, --to name leaves none: choose one of them')
  checkTraceOptions(files, options)
}

/**
 * Notes which addresses hypva will leave alone, when the layout knows only a part of the direction.
 * @param alike no source space was named
 */
function noteLimits(layout: HypLayout, { from, to }: Direction, alike: boolean): void {
  if (to === 'name') return
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
  if (alike && to !== 'hyp' && hypLooksLikeNumbers(layout)) {
    note('hyp addresses of this layout begin at 0 and look like any number: --from hyp translates them')
  }
}

/** Notes that nothing translated, and what the beginning of the input holds instead. */
function noteNothing(
  layout: HypLayout,
  { from, to }: Direction,
  { annotate, format, unchecked }: RewriteOptions,
  head: Uint8Array | undefined,
): void {
  if (unchecked) {
    note('nothing was translated: the input holds no address')
    return
  }
  const source = from ?? 'kernel or hyp'
  const named = to === 'name' ? ' that has a name' : ''
  // Raw words that get names have become text.
  const order = to === 'name' || annotate ? undefined : orderOf(format)
  const other = head && otherSource(layout, from, to === 'name' ? 'kernel' : to, head, order)
  note(`nothing was translated: the input holds no ${source} address of this layout${named}${hintOf(other, to)}`)
}

/** The option that would translate what the input holds instead. */
function hintOf(other: OtherSource | undefined, to: Space | 'name'): string {
  if (other === undefined) return ''
  const { space, count } = other
  const what = count === 1 ? `1 number that is a ${space} address` : `${count} numbers that are ${space} addresses`
  return `; its beginning has ${what} of it: --from ${space}${space === 'hyp' && to === 'hyp' ? ' --to kernel' : ''} translates them`
}
