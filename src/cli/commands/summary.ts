import { type Command, Option } from 'commander'
import { Census, type CensusResult } from '../../translate/census.js'
import { TagWatch, tagClues } from '../../translate/tag-watch.js'
import { warnOfAnotherBoot } from '../another-boot.js'
import { orderOf } from '../format.js'
import { note, say } from '../io/stderr.js'
import { layoutOption, readLayout, spaceOption } from '../options.js'
import { toJson, visible } from '../printable.js'
import { CHUNK, pumpFiles } from '../pump.js'
import { addTraceOptions, checkTraceOptions, namerOf, parseCount, type TraceOptions } from '../trace-options.js'

const EXAMPLES = `Examples:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  # The regions that the addresses of a trace lie in:
  echo 'pc 0x89b380ee7abc lr ffff000000ee7abc' | hypva summary -l layout.json
  # The same for a program, hyp addresses only:
  echo 'pc 0x89b380ee7abc lr ffff000000ee7abc' | hypva summary -l layout.json --from hyp --json
`

interface SummaryOptions extends TraceOptions {
  top: number
  json?: boolean
}

export function addSummary(program: Command): void {
  const summary = program
    .command('summary')
    .summary('count the addresses of each region and symbol')
    .description(
      'Prints how often addresses of each region and, with --symbols, of each symbol occur in FILEs (default: stdin).',
    )
    .argument('[FILE...]', 'input; - is stdin; gzip is decompressed')
    .addHelpText('before', EXAMPLES)
    .addOption(layoutOption())
    .addOption(spaceOption('--from <space>', 'what the addresses are (default: both kernel and hyp)'))
  addTraceOptions(summary)
    .addOption(new Option('--top <n>', 'how many symbols to list').argParser(parseCount).default(20))
    .option('--json', 'print JSON')
    .option('--stats', 'print to stderr how many bytes were read')
    .action(async (files: string[], options: SummaryOptions) => {
      await summarize(files.length > 0 ? files : ['-'], options)
    })
}

/** Counts the addresses of all inputs together. */
async function summarize(files: string[], options: SummaryOptions): Promise<void> {
  const { symbols = [], from, format: given, text = false, top, json, stats } = options
  checkTraceOptions(files, options)
  const layout = readLayout(options.layout)
  const order = orderOf(given)
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
  const report = () => {
    const result = census.result()
    return json
      ? toJson({ ...result, symbols: result.symbols.slice(0, top) })
      : visible(format(result, top, symbols.length > 0))
  }
  await pumpFiles(files, { make: () => census }, { output: options.output, text: order === undefined && !text, report })
  const { bytesIn, translated } = census.counts
  if (!warnOfAnotherBoot(watch) && bytesIn > 0 && translated === 0) {
    note(`the input holds no ${from ?? 'kernel or hyp'} address: no number in it lies in a region of this layout`)
  }
  if (stats) say(`bytes: ${bytesIn} in`)
}

/** Characters of the longest bar. */
const BAR = 24
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']

/** How often addresses of each region and symbol were seen, most frequent first, with shares and bars. */
function format(census: CensusResult, top: number, withSymbols: boolean): string {
  const { addresses, regions, elsewhere, symbols, named } = census
  const lines = [`${addresses} ${addresses === 1 ? 'address' : 'addresses'}`, '', 'Regions']
  const rows = regions.map(({ count, kind, text }) => ({ count, text: `${kind}: ${text}` }))
  if (elsewhere > 0) rows.push({ count: elsewhere, text: 'elsewhere: in no region that the layout tells' })
  lines.push(...table(rows, addresses))
  if (withSymbols) {
    lines.push('', `Symbols (${named} of ${addresses} addresses have one, ${symbols.length} symbols seen)`)
    const shown = symbols.slice(0, top).map(({ count, name }) => ({ count, text: name }))
    lines.push(...table(shown, addresses))
    const rest = symbols.slice(top).reduce((sum, { count }) => sum + count, 0)
    if (rest > 0) lines.push(`  and ${symbols.length - top} more with ${rest} addresses (--top shows more)`)
  }
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`
}

function table(rows: readonly { count: number; text: string }[], total: number): string[] {
  const most = Math.max(1, ...rows.map(({ count }) => count))
  const width = String(most).length
  return rows.map(({ count, text }) => {
    const share = `${((100 * count) / Math.max(1, total)).toFixed(1)}%`.padStart(6)
    return `  ${String(count).padStart(width)} ${share}  ${bar(count / most).padEnd(BAR)}  ${text}`
  })
}

/** A bar in eighths of a character; a count above zero shows at least one. */
function bar(share: number): string {
  const eighths = Math.max(1, Math.round(share * BAR * 8))
  return '█'.repeat(eighths >> 3) + EIGHTHS[eighths & 7]!
}
