import { type Command, InvalidArgumentError, Option } from 'commander'
import { odditiesOf } from '../../layout/assumptions.js'
import { algorithmRange } from '../../layout/generations.js'
import { LAYOUT_FORMAT } from '../../layout/schema.js'
import type { Machine } from '../../layout/types.js'
import { sizeText } from '../../picture/size.js'
import { checkProposals, type ProposalVerdict } from '../../proposals/check.js'
import { LAYOUT_NAMES, type LayoutName } from '../../proposals/layouts.js'
import type { Restriction } from '../../proposals/restrictions.js'
import { type SweepChange, sweepProposals } from '../../proposals/sweep.js'
import type { BankVerdict, PrivateVerdict } from '../../proposals/verdict.js'
import { formatU64 } from '../../u64.js'
import { Failure } from '../failure.js'
import { print, printAsIs } from '../io/output.js'
import { note } from '../io/stderr.js'
import { machineOptions, readMachine } from '../machine.js'
import { textPicture, writeSvg } from '../picture.js'
import { formatRange, toJson } from '../printable.js'

const EXAMPLES = `Examples:
  # The machine that the 2021 thread asks about (52 bits, banks far apart) with a current kernel:
  hypva check --kernel 6.12 --page-size 64k --va-bits 52 --idmap 0x81000000 \\
      --dram 0x80000000-0x1080000000 --dram 0xf3c0000000000-0xf3c4000000000
  # Everything about one proposal; hypva exits with 1 because it is unsound on this machine:
  hypva check --kernel 5.12 --page-size 64k --va-bits 52 --idmap 0x81000000 \\
      --dram 0x80000000-0x1080000000 --dram 0xf3c0000000000-0xf3c4000000000 --proposal low-window-48 || echo unsound
  # A picture of one proposal:
  hypva check --kernel 6.12 --page-size 64k --va-bits 52 --idmap 0x81000000 \\
      --dram 0x80000000-0x1080000000 --dram 0xf3c0000000000-0xf3c4000000000 --proposal cap-51 --svg cap-51.svg
`

type CheckOptions = Record<string, unknown> & {
  machine?: string
  proposal?: LayoutName[]
  json?: boolean
  sweep?: boolean
  svg?: string
}

export function addCheck(program: Command): void {
  const check = program
    .command('check')
    .summary('check the EL2 layouts of the 2021 thread on a machine')
    .description(
      "Prints whether each layout proposed for 52-bit addresses, and the layout of the machine's own kernel, is sound on the machine, and all the reasons for one of them. Exits with 1 if a layout that you name (default: kernel) is unsound. A flag overrides a field of the machine file.",
    )
    .addHelpText('before', EXAMPLES)
  for (const option of machineOptions()) check.addOption(option)
  check
    .addOption(
      new Option(
        '--proposal <name...>',
        `print everything about these layouts: ${LAYOUT_NAMES.join(', ')}, or all`,
      ).argParser(parseNames),
    )
    .option('--json', 'print JSON')
    .option('--svg <file>', 'also draw the layout as SVG (with -, only the picture goes to stdout)')
    .option('--sweep', 'move kernel and memory across the boundaries, and print where verdicts change')
    .action((options: CheckOptions) => {
      const machine = readMachine(options)
      for (const oddity of odditiesOf(machine)) note(oddity)
      if (options.sweep) {
        if (options.svg !== undefined) throw new Failure('--sweep has no picture: leave out --svg')
        const changes = sweepProposals(machine, options.proposal)
        print(options.json ? toJson(changes) : changes.map(formatChange).join(''))
        return
      }
      const verdicts = checkProposals(machine)
      const wanted = options.proposal ?? ['kernel']
      const asked = verdicts.filter(({ name }) => wanted.includes(name))
      if (asked.some(({ randomBitsAssumed }) => randomBitsAssumed)) {
        note('assuming 0 for the random bits of the tag: give --tag-val or --random if you know them')
      }
      if (options.svg !== undefined) {
        if (asked.length !== 1) throw new Failure('--svg draws one layout: name it with --proposal')
        writeSvg(options.svg, asked[0]!)
      }
      if (options.svg !== '-') {
        if (options.json) print(toJson((options.proposal === undefined ? verdicts : asked).map(withFormat)))
        else printAll(machine, verdicts, asked)
      }
      process.exitCode = asked.every(({ sound }) => sound) ? 0 : 1
    })
}

/** The layout in it as a file of its own has it. */
function withFormat(verdict: ProposalVerdict): object {
  return { ...verdict, layout: { format: LAYOUT_FORMAT, ...verdict.layout } }
}

function parseNames(text: string, previous: LayoutName[] = []): LayoutName[] {
  if (text === 'all') return [...LAYOUT_NAMES]
  const name = LAYOUT_NAMES.find((known) => known === text)
  if (name === undefined) throw new InvalidArgumentError(`Expected one of ${LAYOUT_NAMES.join(', ')}, all.`)
  return [...previous, name]
}

function printAll(machine: Machine, verdicts: readonly ProposalVerdict[], asked: readonly ProposalVerdict[]): void {
  print(formatTable(verdicts))
  for (const verdict of asked) {
    print(`\n${format(machine, verdict)}\n`)
    printAsIs(textPicture(verdict))
  }
}

function formatTable(verdicts: readonly ProposalVerdict[]): string {
  const rows = verdicts.map(({ name, sound, bytes, startUpCheck, startUpCheckReplaced, randomTagBits, applies }) => [
    name,
    sound ? 'sound' : 'UNSOUND',
    sizeText(bytes.mapped),
    bytes.unmapped === 0n ? '-' : sizeText(bytes.unmapped),
    bytes.dropped === 0n ? '-' : sizeText(bytes.dropped),
    startUpCheck,
    String(randomTagBits),
    !applies
      ? 'changes nothing here'
      : startUpCheck !== 'pass' && startUpCheckReplaced
        ? 'has to replace the check'
        : '',
  ])
  const head = ['layout', 'verdict', 'mapped', 'not mapped', 'given up', 'start-up', 'tag bits', '']
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)))
  const line = (row: readonly string[]) => row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')
  return [head, ...rows].map((row) => `${line(row).trimEnd()}\n`).join('')
}

function format(machine: Machine, verdict: ProposalVerdict): string {
  const { name, summary, sound, reasons, applies, linear, hypVaRange, congruent, missing } = verdict
  const lines = [`${name}: ${sound ? 'sound' : 'UNSOUND'}`, `  ${summary}`]
  if (!applies) lines.push('  changes nothing here: EL1 has no more than half of its addresses for the linear map')
  for (const { kind, message } of reasons) lines.push(field(kind, message))
  const { generation, mode, proposal } = verdict.layout
  if (mode !== 'vhe') {
    const changed = proposal === undefined ? '' : ', changed'
    lines.push(field('layout algorithm', `Linux ${algorithmRange(generation!)}${changed}`))
  }
  lines.push(
    field('linear map at EL1', `${sizeText(verdict.linearSize)}, of which EL2 can map ${sizeText(verdict.capacity)}`),
  )
  if (missing !== undefined) {
    const slice = `[${sizeText(missing.start)}, ${sizeText(missing.end)})`
    lines.push(field('cannot be mapped', `linear offsets ${slice}, ${sizeText(missing.end - missing.start)}`))
  }
  verdict.banks.forEach((bank, i) => {
    lines.push(...formatBank(bank, i))
  })
  lines.push(field('idmap page', `hyp ${formatRange(verdict.idmap)}`))
  if (linear !== undefined) lines.push(field('linear memory', `hyp ${formatRange(linear)}`))
  if (hypVaRange !== undefined) lines.push(field('HYP VA range', formatRange(hypVaRange)))
  lines.push(
    ...formatPrivate('private, nVHE', verdict.privateNvhe),
    ...formatPrivate('private, pKVM', verdict.privatePkvm),
  )
  const replaced =
    verdict.startUpCheck !== 'pass' && verdict.startUpCheckReplaced
      ? ", today's, which this proposal has to replace"
      : ''
  lines.push(
    field('start-up check', `${verdict.startUpCheck}${replaced}`),
    field('random tag bits', String(verdict.randomTagBits)),
  )
  if (congruent !== undefined) {
    const more = congruent.count > 1n ? `, and every ${sizeText(congruent.step)} above, ${congruent.count} in all` : ''
    lines.push(field("idmap's image", `linear ${formatRange(congruent.first)}${more}`))
  }
  for (const { phys, linear: at, harmless } of verdict.collisions) {
    const what = harmless ? 'the page itself: harmless' : 'memory'
    lines.push(field('collides with', `physical ${formatRange(phys)}, linear ${formatRange(at)}: ${what}`))
  }
  for (const range of verdict.keepFree)
    lines.push(field('keep free', `physical ${formatRange(range)}, never to be allocated by EL1`))
  for (const restriction of verdict.restrictions)
    lines.push(field('sound with', formatRestriction(machine, restriction)))
  if (!sound && verdict.restrictions.length === 0) lines.push(field('sound with', 'none of these restrictions'))
  return `${lines.join('\n')}\n`
}

function formatBank({ bank, mapped, unmapped, dropped }: BankVerdict, index: number): string[] {
  const title = `bank ${index}, ${sizeText(bank.end - bank.start)}`
  const parts = [
    ...mapped.map((range) => `${formatRange(range)}  mapped`),
    ...unmapped.map((range) => `${formatRange(range)}  NOT MAPPED, though EL1 uses it`),
    ...dropped.map((range) => `${formatRange(range)}  given up at boot`),
  ]
  return parts.map((part, i) => field(i === 0 ? title : '', `physical ${part}`))
}

function formatPrivate(title: string, place: PrivateVerdict | undefined): string[] {
  if (place === undefined) return []
  const { start, grows, end, room, noticed, meets, vmemmapMeets } = place
  const stop = meets === undefined ? 'its room ends' : `linear memory at hyp ${formatU64(meets.start)}`
  const seen = noticed ? 'the kernel notices (-ENOMEM)' : 'the kernel does NOT notice'
  const lines = [
    field(title, `${sizeText(room)} from ${formatU64(start)} ${grows} to ${formatU64(end)}; then ${stop}: ${seen}`),
  ]
  for (const range of vmemmapMeets ?? [])
    lines.push(field('', `its page metadata lies over linear memory, hyp ${formatRange(range)}`))
  return lines
}

function formatRestriction(
  { idmap }: Machine,
  { kernelBelow, dramBelow, keepFree, cost, choice }: Restriction,
): string {
  const parts: string[] = []
  if (kernelBelow !== undefined) {
    const held = idmap < kernelBelow ? ' (it is)' : ''
    parts.push(`the kernel loaded below ${formatU64(kernelBelow)}${held}, in ${sizeText(choice!)} of memory there`)
  }
  if (dramBelow !== undefined) parts.push(`memory below ${formatU64(dramBelow)}`)
  if (keepFree !== undefined) parts.push(`physical ${keepFree.map(formatRange).join(', ')} kept free`)
  return `${parts.join(' and ')}: gives up ${cost === 0n ? 'nothing' : sizeText(cost)}`
}

function formatChange({ name, moved, at, before, after }: SweepChange): string {
  const text = (state: readonly string[]) => (state.length === 0 ? 'sound' : state.join(', '))
  const what = moved === 'kernel' ? 'kernel at' : 'memory up to'
  return `${name.padEnd(22)}  ${what.padEnd(12)}  ${formatU64(at).padEnd(18)}  ${text(before)} → ${text(after)}\n`
}

function field(name: string, value: string): string {
  return `  ${name.padEnd(18)}  ${value}`
}
