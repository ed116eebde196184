import { type Command, InvalidArgumentError } from 'commander'
import type { Space } from '../../layout/spaces.js'
import { type Explanation, explainAddress, readings } from '../../translate/explain.js'
import { formatU64 } from '../../u64.js'
import { print } from '../io/output.js'
import { layoutOption, readLayout, spaceOption } from '../options.js'
import { toJson } from '../printable.js'
import { parseWord } from '../values.js'

const EXAMPLES = `Examples:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  hypva explain ffff000000ee7abc 0x89b380ee7abc 0x40eed010 -l layout.json
  hypva explain 0x40eed010 --from phys --to hyp -l layout.json --json
`

interface ExplainOptions {
  layout: string
  from?: Space
  to?: Space
  json?: boolean
}

export function addExplain(program: Command): void {
  program
    .command('explain')
    .summary('show what an address is and how it translates')
    .description(
      'For each ADDRESS, prints its region, every step of its translation with the numbers, and the address in every space that the layout reaches.',
    )
    .argument('<ADDRESS...>', 'hexadecimal, with or without 0x', collect)
    .addOption(layoutOption())
    .addOption(spaceOption('--from <space>', 'the space of the addresses (default: every space that is possible)'))
    .addOption(
      spaceOption(
        '--to <space>',
        'the space to translate to (default: kernel for hyp and phys addresses, otherwise hyp)',
      ),
    )
    .option('--json', 'print JSON')
    .addHelpText('before', EXAMPLES)
    .action((addresses: bigint[], options: ExplainOptions) => {
      const layout = readLayout(options.layout)
      const all = addresses.flatMap((address) => {
        const from = options.from === undefined ? readings(layout, address) : [options.from]
        return from.map((space) => {
          const to = options.to ?? (space === 'hyp' || space === 'phys' ? 'kernel' : 'hyp')
          return explainAddress(layout, space, to, address)
        })
      })
      print(options.json ? toJson(all) : all.map(format).join('\n'))
    })
}

function collect(text: string, previous: readonly bigint[] = []): bigint[] {
  if (text === '') throw new InvalidArgumentError('an address is missing')
  return [...previous, parseWord(text)]
}

function format(explanation: Explanation): string {
  const { address, from, to, region, steps, result, reason, regionIsReason, spaces } = explanation
  const lines = [`${formatU64(address)} as ${from === 'image' ? 'an' : 'a'} ${from} address`]
  if (region !== undefined) lines.push(`  region  ${region.kind}: ${region.text}`)
  for (const step of steps) {
    lines.push(
      `  ${step.to.padEnd(6)}  = ${step.formula}`,
      `          = ${step.numbers}`,
      `          = ${formatU64(step.value)}`,
    )
  }
  if (result !== undefined && steps.length === 0)
    lines.push(`  ${to.padEnd(6)}  = ${formatU64(result)} (the same address)`)
  if (reason !== undefined) lines.push(`  no ${to} address${regionIsReason ? '' : `: ${reason}`}`)
  const reached = Object.entries(spaces).map(([space, value]) => `${space} ${formatU64(value)}`)
  if (reached.length > 0) lines.push(`  in all  ${reached.join('  ')}`)
  return `${lines.join('\n')}\n`
}
