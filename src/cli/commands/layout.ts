import type { Command } from 'commander'
import { assumptionsOf } from '../../layout/assumptions.js'
import { computeLayout, droppedMemory } from '../../layout/compute.js'
import { formatLayout } from '../../layout/json.js'
import { layoutProblems } from '../../layout/problems.js'
import { hypRegions, kernelRegions, type Region } from '../../layout/regions.js'
import type { HypLayout, Machine } from '../../layout/types.js'
import { sizeText } from '../../picture/size.js'
import type { Range } from '../../u64.js'
import { print, printAsIs, writeOutput } from '../io/output.js'
import { note, warn } from '../io/stderr.js'
import { machineOptions, readMachine } from '../machine.js'
import { layoutOption, readLayout } from '../options.js'
import { fieldText, formatRange } from '../printable.js'

const COMPUTE_EXAMPLES = `Examples:
  # A board from the mailing list, an LX2160A, with a 39-bit kernel 5.6:
  hypva layout compute --kernel 5.6 --page-size 4k --va-bits 39 --idmap 0x81a24000 \\
      --dram 0x80000000-0xfbe00000 --dram 0x2080000000-0x2380000000 > lx2160a.json
  hypva layout show -l lx2160a.json
  # A randomised boot whose tag is known:
  hypva layout compute --kernel 6.12 --page-size 4k --va-bits 52 --va-bits-actual 48 --idmap 0x4114b000 \\
      --dram 0x40000000-0xc0000000 --phys-offset 0xfff0bf3b80000000 --tag-val 0x5116
`

const SHOW_EXAMPLES = `Examples:
  hypva layout compute --kernel 5.4 --page-size 4k --va-bits 39 --idmap 0x81a24000 \\
      --dram 0x80000000-0xfbe00000 --dram 0x2080000000-0x2380000000 > layout.json
  hypva layout show -l layout.json
  hypva layout show -l layout.json --svg layout.svg
`

/** @param addRecover the command that brings all of the evidence with it, where it is wanted */
export function addLayout(program: Command, addRecover: ((layout: Command) => void) | undefined): void {
  const layout = program
    .command('layout')
    .summary('compute, recover or show a layout')
    .description('Compute, recover or show a layout.')
  addCompute(layout)
  addRecover?.(layout)
  addShow(layout)
}

function addCompute(parent: Command): void {
  const compute = parent
    .command('compute')
    .summary("compute a layout with the kernel's own algorithm")
    .description(
      'Computes the layout that a kernel sets up on a machine, and prints it as JSON. A flag overrides a field of the machine file.',
    )
    .addHelpText('before', COMPUTE_EXAMPLES)
  for (const option of machineOptions()) compute.addOption(option)
  compute.option('-o, --output <file>', 'write the layout to a file')
  compute.action((options: Record<string, unknown> & { machine?: string; output?: string }) => {
    const machine = readMachine(options)
    const layout = computeLayout(machine)
    writeOutput(options.output, formatLayout(layout))
    for (const assumption of assumptionsOf(machine)) note(assumption)
    for (const warning of warnings(machine, layout)) warn(warning)
  })
}

function addShow(parent: Command): void {
  parent
    .command('show')
    .summary('print a layout in readable form')
    .description(
      'Prints the fields of a layout, both address spaces in order, what is wrong with the layout, and a picture of the mappings.',
    )
    .addOption(layoutOption())
    .option('--json', 'check the layout, and print it as JSON in the usual order')
    .option('--svg <file>', 'also draw it as SVG (with -, only the picture goes to stdout)')
    .addHelpText('before', SHOW_EXAMPLES)
    .action(async (options: { layout: string; json?: boolean; svg?: string }) => {
      const layout = readLayout(options.layout)
      const { textPicture, writeSvg } = await import('../picture.js')
      if (options.svg !== undefined) writeSvg(options.svg, layout)
      if (options.json) {
        if (options.svg !== '-') print(formatLayout(layout))
      } else if (options.svg !== '-') {
        print(`${format(layout)}\n`)
        printAsIs(textPicture(layout))
      }
    })
}

function warnings(machine: Machine, layout: HypLayout): string[] {
  const dropped = droppedMemory(machine, layout).map(
    (range) =>
      `DRAM ${formatRange(range)} (${sizeText(range.end - range.start)}) is outside the linear map: the kernel drops it`,
  )
  return [...layoutProblems(layout).map(({ message }) => message), ...dropped]
}

function format(layout: HypLayout): string {
  const lines: string[] = []
  for (const [name, value] of Object.entries(layout)) {
    const banks = name === 'dram' ? (value as Range[]) : []
    for (const bank of banks) lines.push(`dram               ${formatRange(bank)}  ${sizeText(bank.end - bank.start)}`)
    if (name !== 'dram') lines.push(`${name.padEnd(18)} ${fieldText(name, value)}`)
  }
  lines.push('', 'Kernel addresses')
  const add = ({ range, text }: Region) => lines.push(`  ${formatRange(range!)}  ${text}`)
  kernelRegions(layout).forEach(add)
  if (layout.mode !== 'vhe') {
    lines.push('', 'Hyp addresses')
    hypRegions(layout).forEach(add)
  }
  const problems = layoutProblems(layout)
  if (problems.length > 0) lines.push('', 'Problems', ...problems.map(({ kind, message }) => `  ${kind}: ${message}`))
  return `${lines.join('\n')}\n`
}
