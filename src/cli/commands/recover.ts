import type { Command } from 'commander'
import { type EvidenceKind, KIND_NAMES } from '../../evidence/kinds.js'
import { machineOf, type Recovery, recoverLayout } from '../../evidence/recover.js'
import { FIELDS, type FieldName } from '../../layout/fields.js'
import { formatLayoutFields } from '../../layout/json.js'
import { MACHINE_FORMAT } from '../../layout/schema.js'
import type { HypLayout } from '../../layout/types.js'
import { formatU64 } from '../../u64.js'
import { Failure } from '../failure.js'
import { openSource } from '../io/file-source.js'
import { checkInputs } from '../io/input.js'
import { print, writeOutput } from '../io/output.js'
import { say } from '../io/stderr.js'
import { flagOf, givenLayout, layoutFieldOptions } from '../machine.js'
import { fieldText, toJson, visibleLine } from '../printable.js'
import { collect } from '../values.js'

const EXAMPLES = `Examples:
  # On the host itself: sudo dmesg | sudo hypva layout recover - /proc/kcore /proc/kallsyms /proc/iomem -o layout.json
  # From a panic and what the machine still knows: hypva layout recover panic.txt iomem.txt kallsyms.txt
  # From the output of a debugger:
  echo 'tag_lsb = 31, tag_val = 0x16403' | hypva layout recover - -o layout.json
  # Every layout that fits two known pairs of kernel and hyp addresses:
  printf '0xffff000000ee7abc 0x89b380ee7abc\\n0xffff00007fff0000 0x89b3ffff0000\\n' | hypva layout recover -
`

type Flags = Record<string, unknown> & {
  output?: string
  json?: boolean
  machine?: boolean
  prefer?: string[]
  exhaustive?: boolean
}

export function addRecover(parent: Command): void {
  const recover = parent
    .command('recover')
    .summary('recover a layout from memory, dumps, logs, symbols, pairs')
    .description(
      'Recovers the layout of a running or crashed kernel from evidence: raw memory, ELF cores and /proc/kcore, dmesg and panics, /proc/iomem, vmcoreinfo, /proc/kallsyms or System.map, known pairs of addresses, and the output of a debugger. hypva recognises each file by its content. A flag overrides the evidence.',
    )
    .addHelpText('before', EXAMPLES)
    .argument('<file...>', 'evidence of one boot (- is stdin)')
    .option('-o, --output <file>', 'write the layout to a file if it is complete and undisputed')
    .option('--json', 'print layout, provenance, conflicts, unknown fields and candidates as JSON')
    .option('--machine', 'print the machine as JSON, for `layout compute` and `check`')
    .option('--prefer <file>', 'believe this file where others disagree (repeatable)', collect)
    .option(
      '--exhaustive',
      'scan a whole core instead of stopping once its text has settled the tag; refused on a live /proc/kcore',
    )
  for (const option of layoutFieldOptions()) recover.addOption(option)
  recover.action((files: string[], options: Flags) => {
    checkInputs(files)
    const prefer = options.prefer ?? []
    const stranger = prefer.find((file) => !files.includes(file))
    if (stranger !== undefined) throw new Failure(`--prefer ${stranger}: not among the files given`)
    const given = givenLayout(options)
    const sources = files.map((file) => openSource(file, { liveMemory: true }))
    let recovery: Recovery
    try {
      const preferred = prefer.map((file) => sources[files.indexOf(file)]!.name)
      const exhaustive = options.exhaustive === true
      recovery = recoverLayout(sources, { prefer: preferred, given, givenBy: 'command line', exhaustive })
    } finally {
      for (const source of sources) source.close()
    }
    for (const { file, text } of recovery.notes) say(`hypva: ${file}: ${text}`)
    process.exitCode = conclude(recovery, options)
  })
}

const UNREADABLE: ReadonlySet<EvidenceKind> = new Set(['unrecognised', 'unsupported', 'kdump'])

/** Prints and writes what was asked for; the exit code. */
function conclude(recovery: Recovery, options: Flags): number {
  const { layout, conflicts, files } = recovery
  for (const { file, kinds } of files) {
    if (kinds.includes('unrecognised')) say(`hypva: ${file}: hypva recognises no evidence in it`)
  }
  const unreadable = files.every(({ kinds }) => kinds.some((kind) => UNREADABLE.has(kind)))
  if (options.machine === true) printMachine(recovery)
  else if (options.json === true) print(toJson(jsonOf(recovery)))
  else if (options.output !== '-') print(report(recovery))
  if (options.output !== undefined) writeLayout(recovery, options.output, unreadable ? 2 : 1)
  if (unreadable) return 2
  if (conflicts.length > 0) return 1
  return Object.keys(layout).length === 0 && recovery.candidates.length === 0 ? 1 : 0
}

/** @param otherwise exit code when there is no layout to write */
function writeLayout(recovery: Recovery, file: string, otherwise: 1 | 2): void {
  const { layout, conflicts, candidates } = recovery
  if (conflicts.length > 0) {
    throw new Failure(
      `${file} not written: the evidence disagrees on ${conflicts.map(({ field }) => field).join(', ')}`,
      1,
    )
  }
  if (layout.mode !== 'vhe' && (layout.tagLsb === undefined || (layout.tagVal ?? layout.tag) === undefined)) {
    const why =
      candidates.length > 0
        ? `${candidates.length} layouts fit`
        : `tagLsb and tagVal are not known (${unknownOf(recovery).tagVal})`
    throw new Failure(`${file} not written: ${why}`, otherwise)
  }
  writeOutput(file, formatLayoutFields(layout as HypLayout))
}

function printMachine(recovery: Recovery): void {
  const { machine, missing } = machineOf(recovery)
  if (recovery.conflicts.length === 0 && missing.length > 0) {
    const ways = missing.map((field) => `${field} (${FIELDS[field].learn})`)
    throw new Failure(`cannot describe the machine: unknown fields: ${ways.join('; ')}`, 1)
  }
  print(toJson({ format: MACHINE_FORMAT, ...machine }))
}

/** The unknown fields, each with what would tell it; for disputed ones, the flags that decide. */
function unknownOf({ unknown, disputed }: Recovery): Recovery['unknown'] {
  const flags = disputed.map((field) => [field, `${unknown[field]}: --prefer FILE, or set it with a flag`])
  return { ...unknown, ...Object.fromEntries(flags) }
}

function jsonOf(recovery: Recovery): unknown {
  const { layout, provenance, conflicts, candidates } = recovery
  const shown = (fields: Partial<HypLayout>) => JSON.parse(formatLayoutFields(fields as HypLayout))
  return {
    layout: shown(layout),
    provenance,
    conflicts,
    unknown: unknownOf(recovery),
    ...(candidates.length > 0 ? { candidates: candidates.map(shown) } : {}),
  }
}

/** The report for reading. */
function report(recovery: Recovery): string {
  const { layout, provenance, conflicts, candidates, files } = recovery
  const lines: string[] = []
  for (const { file, kinds } of files) lines.push(`${file}: ${kinds.map((kind) => KIND_NAMES[kind]).join(', ')}`)
  lines.push('')
  for (const [field, value] of Object.entries(layout)) {
    lines.push(`${field.padEnd(18)} ${fieldText(field, value)}`)
    for (const { file, where, rule } of provenance[field as keyof HypLayout] ?? []) {
      lines.push(`${' '.repeat(21)}${rule} (${file}${where === '' ? '' : `, ${where}`})`)
    }
  }
  if (conflicts.length > 0) lines.push('', 'The evidence disagrees')
  for (const { field, sides } of conflicts) {
    lines.push(`  ${field}`)
    for (const { value, provenance: from } of sides) {
      lines.push(`    ${fieldText(field, value)}`)
      for (const { file, where, rule } of from) lines.push(`      ${rule} (${file}, ${where})`)
    }
  }
  if (conflicts.some(({ sides }) => sides.length > 1))
    lines.push(`  --prefer FILE believes that file; a flag such as ${settlingFlag(conflicts)} sets the value yourself.`)
  if (candidates.length > 0) {
    lines.push('', `Layouts that fit: ${candidates.length}`)
    for (const { tagLsb, tagVal } of candidates) {
      lines.push(
        `  tag_lsb ${String(tagLsb).padStart(2)}  tag_val ${formatU64(tagVal!)}  tag ${formatU64(tagVal! << BigInt(tagLsb!))}`,
      )
    }
  }
  const missing = Object.entries(unknownOf(recovery))
  if (missing.length > 0) lines.push('', 'Not known, and how to learn it')
  for (const [field, how] of missing) lines.push(`  ${field.padEnd(18)} ${how}`)
  return `${lines.map(visibleLine).join('\n')}\n`
}

/** A flag that settles one of the conflicts. */
function settlingFlag(conflicts: Recovery['conflicts']): string {
  const field = conflicts
    .map((conflict) => conflict.field)
    .find((name) => FIELDS[name as FieldName]?.help !== undefined)
  return flagOf(field ?? 'tagVal')
}
