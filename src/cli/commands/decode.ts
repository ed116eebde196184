import { type Command, Option } from 'commander'
import { HEAD } from '../../content.js'
import { decodePanics } from '../../panic/decode.js'
import type { DecodedPanic, NamedPlace, Need } from '../../panic/decoded.js'
import type { RegisterField } from '../../panic/esr.js'
import { readFully } from '../../source.js'
import { cannotNameHyp } from '../../symbols/hyp-names.js'
import { markNvhe, type NameOptions } from '../../symbols/table.js'
import { formatU64 } from '../../u64.js'
import { type FileSource, openSource } from '../io/file-source.js'
import { print } from '../io/output.js'
import { checkStdin } from '../io/reading.js'
import { announceStdin, say } from '../io/stderr.js'
import { refuseUnlessText } from '../io/text.js'
import { readLayout } from '../options.js'
import { toJson } from '../printable.js'
import { readSymbols, symbolsOption } from '../symbol-files.js'

const EXAMPLES = `Examples:
  # Explain a pasted panic:
  echo 'kvm [40]: nVHE hyp panic at: [<ffffffc00820efd0>] __kvm_nvhe___kvm_vcpu_run+0x14/0x454!
  kvm [40]: Hyp Offset: 0xffffff5987e00000
  Kernel panic - not syncing: HYP panic:
  PS:800003c9 PC:000000668040efd0 ESR:0000000097c08005
  FAR:0000000000000008 HPFAR:00000000000a0000 PAR:0000000000000000
  VCPU:0000000000000000' | hypva decode
`

interface DecodeOptions extends NameOptions {
  layout?: string
  symbols?: string[]
  json?: boolean
  text?: boolean
}

export function addDecode(program: Command): void {
  program
    .command('decode')
    .summary('explain the hyp panics in a log')
    .description(
      'Finds nVHE hyp panics in LOG (default: stdin), such as a dmesg, a journal or the log of a serial console. For each, prints what every value is, where it lies, and what happened.',
    )
    .argument('[LOG]', 'the log; - is stdin; gzip is decompressed', '-')
    .addOption(new Option('-l, --layout <file>', 'the layout of the boot that panicked (- is stdin)'))
    .addOption(symbolsOption())
    .option('--raw-names', 'keep the __kvm_nvhe_ prefix of names')
    .option('--json', 'print JSON')
    .option('--text', 'read the log as text even if it looks like something else')
    .addHelpText('before', EXAMPLES)
    .action((log: string, options: DecodeOptions) => {
      const { layout, symbols = [], rawNames = false, json, text = false } = options
      checkStdin([log, layout, ...symbols])
      const tables = readSymbols(symbols)
      announceStdin('a log', [log])
      const source = openSource(log)
      let panics: DecodedPanic[]
      try {
        if (!text) refuseIfNoText(source)
        panics = decodePanics(source, { ...(layout && { layout: readLayout(layout) }), symbols: tables, rawNames })
      } finally {
        source.close()
      }
      if (json) print(asJson(panics))
      else if (panics.length > 0) print(panics.map((panic) => format(panic, { rawNames })).join('\n'))
      // Panics of one boot have one layout.
      const layouts = new Set(panics.flatMap(({ pc, layout }) => (pc?.of === 'vhe' ? [] : [layout])))
      const unable = new Set([...layouts].map((layout) => cannotNameHyp(tables, layout)))
      for (const text of unable) if (text !== undefined) say(`hypva: ${text}`)
      if (panics.length === 0) say('hypva: no hyp panic found')
      process.exitCode = panics.length === 0 ? 1 : 0
    })
}

/** A log of unknown size may be one that /proc makes while it is read: reading its beginning may use it up. */
function refuseIfNoText(source: FileSource): void {
  if (source.size === undefined && source.sequential === undefined) return
  const head = new Uint8Array(Math.min(HEAD, source.size ?? HEAD))
  const length = readFully(source, 0, head)
  refuseUnlessText(head.subarray(0, length), {
    name: source.name,
    insideGzip: source.gzip,
    expected: 'a log',
    override: '--text reads it as text anyway',
  })
}

/** 64-bit values and instruction words as hex strings. */
function asJson(panics: readonly DecodedPanic[]): string {
  const shown = panics.map(({ needs: _, ...panic }) => panic)
  return toJson({ panics: shown }, (key, v) => (key === 'word' && typeof v === 'number' ? BigInt(v) : v))
}

/** The option that supplies what is needed. */
const SUPPLIED_BY: Readonly<Record<Need, string>> = { layout: '-l', symbols: '--symbols' }

function format(panic: DecodedPanic, names: NameOptions): string {
  const { printed, pc, backtrace, vcpu, far, hpfar, esr, ps, par, code, diagnoses, unknown, needs, notes } = panic
  const lines = [title(panic)]
  for (const { certain, text } of diagnoses) lines.push(`  ${certain ? '=>' : '=> probably'} ${text}`)
  if (pc !== undefined) {
    lines.push(row('PC', `${formatU64(pc.value)}  ${PC_OF[pc.of]}`), ...places(pc, names))
  }
  if (printed.hypOffset !== undefined) lines.push(row('Hyp Offset', formatU64(printed.hypOffset)))
  if (printed.kaslrOffset !== undefined) lines.push(row('Kernel Offset', formatU64(printed.kaslrOffset)))
  if (backtrace.length > 0) {
    lines.push(row('Backtrace', 'link-time addresses'))
    for (const entry of backtrace) lines.push(`    ${formatU64(entry.link)}  ${called(entry, names)}`)
  }
  if (vcpu !== undefined) lines.push(row('VCPU', `${formatU64(vcpu.value)}  ${vcpu.text}`), ...places(vcpu, names))
  if (far !== undefined) {
    lines.push(row('FAR', `${formatU64(far.value)}  ${far.text}`), ...places(far, names))
  }
  if (hpfar !== undefined) {
    lines.push(row('HPFAR', `${formatU64(hpfar.value)}  page ${formatU64(hpfar.page)}: ${hpfar.text}`))
  }
  if (esr !== undefined) {
    lines.push(row('ESR', `${formatU64(esr.value)}  ${esrText(esr)}`), ...fields(esr.fields))
  }
  if (ps !== undefined) lines.push(row('PS', `${formatU64(ps.value)}  ${ps.mode}`), ...fields(ps.fields))
  if (par !== undefined) {
    lines.push(row('PAR', `${formatU64(par.value)}${par.note === undefined ? '' : `  ${par.note}`}`))
    if (par.note === undefined) lines.push(...fields(par.fields))
  }
  if (code !== undefined) {
    lines.push(row('Code', ''))
    code.instructions.forEach(({ word, text }, i) => {
      const digits = word === undefined ? '????????' : word.toString(16).padStart(8, '0')
      lines.push(`    ${i === code.faulting ? '>' : ' '} ${digits}${text === undefined ? '' : `  ${text}`}`)
    })
  }
  for (const text of notes) lines.push(row('Note', text))
  unknown.forEach((text, i) => {
    const need = needs[i]
    lines.push(row('Not known', need === undefined ? text : `${text} (${SUPPLIED_BY[need]})`))
  })
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`
}

const PC_OF = {
  hyp: 'hyp VA',
  host: "the host's address",
  guest: "the guest's address",
  vhe: 'kernel address: the host runs at EL2',
} as const

function title({ printed }: DecodedPanic): string {
  const { kind, firstLine, lastLine, pid, at, place } = printed
  const what = kind === undefined ? 'hyp panic' : kind === 'invalid host exception' ? kind : `hyp ${kind}`
  const where = at !== undefined ? ` at ${formatU64(at.address)}` : place !== undefined ? ` at ${place}` : ''
  const lines = firstLine === lastLine ? `line ${firstLine}` : `lines ${firstLine}–${lastLine}`
  return `${what}${where} (${lines}${pid === undefined ? '' : `, kvm [${pid}]`})`
}

function row(name: string, text: string): string {
  return `  ${name.padEnd(14)}${text}`
}

/** The same place in all spaces that are known, then what it is called. */
function places(place: NamedPlace & { value: bigint }, names: NameOptions): string[] {
  const { value } = place
  const lines: string[] = []
  const say = (name: string, text: string | undefined) => {
    if (text !== undefined) lines.push(`    ${name.padEnd(12)}${text}`)
  }
  const hex = (address: bigint | undefined) => (address === undefined ? undefined : formatU64(address))
  // Where it says no more than the register itself, it is left out.
  if (place.hyp !== value) say('hyp', hex(place.hyp))
  say('link', hex(place.link))
  say('run-time', hex(place.image))
  say('linear', hex(place.linear))
  say('physical', hex(place.phys))
  const name = place.name ?? (place.printed === undefined ? undefined : markNvhe(place.printed, names))
  say('name', place.atEnd ? `${name}, the first instruction after it` : name)
  if (place.returnName !== undefined)
    say('%pB', `${place.returnName}, the name by the address before it, as the log has it`)
  if (place.agrees === false) say('in the log', `${place.printed}: not the name in the symbols`)
  return lines
}

function called(place: NamedPlace, names: NameOptions): string {
  const name = place.name ?? (place.printed === undefined ? '' : markNvhe(place.printed, names))
  return place.agrees === false ? `${name}  (in the log: ${place.printed})` : name
}

function esrText({ exceptionClass, abort, brk }: NonNullable<DecodedPanic['esr']>): string {
  if (abort !== undefined) {
    const access = abort.kind === 'instruction' ? ' of a fetch' : abort.write ? ' of a write' : ' of a read'
    return `${exceptionClass.text}, ${abort.text}${access}`
  }
  return brk === undefined ? exceptionClass.text : `${exceptionClass.text} #0x${brk.immediate.toString(16)}`
}

function fields(all: readonly RegisterField[]): string[] {
  return all
    .filter(({ value, text }) => value !== 0n || text !== '')
    .map(({ name, value, text }) => `    ${name.padEnd(12)}${formatU64(value).padEnd(6)} ${text}`)
}
