import { readBoots } from '../evidence/boots.js'
import { FileFindings } from '../evidence/facts.js'
import type { PrintedPanic } from '../evidence/kinds/panic.js'
import { recoverFromFindings } from '../evidence/recover.js'
import { checkLayout } from '../layout/json.js'
import { type HypClassifier, hypClassifier } from '../layout/regions.js'
import type { HypLayout } from '../layout/types.js'
import { type ByteSource, bytesSource } from '../source.js'
import { cannotNameHyp } from '../symbols/hyp-names.js'
import { formatU64 } from '../u64.js'
import { AddressFacts } from './addresses.js'
import type { DecodedPanic, DecodeOptions } from './decoded.js'
import { diagnose } from './diagnose.js'
import { decodeEsr, decodePar, decodePs, hpfarPage } from './esr.js'
import { recognise } from './instructions.js'
import { Names, PanicSymbols } from './naming.js'
import { farOf, hpfarOf, pcOf, vcpuOf } from './registers.js'
import { unknownOf } from './unknown.js'

/**
 * Finds and decodes the nVHE hyp panics of a log: dmesg, journal, serial console, of any kernel from 4.6 on.
 * @param log the text, decompressed; or a source of it
 * @returns one entry a panic, in the order of the log; none when it holds no hyp panic
 * @throws HypvaError `HYPVA_SYMBOLS` for tables of another kernel, `HYPVA_LAYOUT` for a layout that no kernel has
 * @example
 * const [panic] = decodePanics(panicLog)
 * panic.diagnoses[0].kind // 'brk'
 */
export function decodePanics(log: string | Uint8Array | ByteSource, options: DecodeOptions = {}): DecodedPanic[] {
  const source = typeof log === 'string' || log instanceof Uint8Array ? bytesSource('log', log) : log
  const boots = readBoots(source)
  const given = boots.length > 0 && options.layout !== undefined ? findingsOf(options.layout) : undefined
  const symbols = new PanicSymbols(options.symbols ?? [])
  return boots.flatMap(({ findings, panics }) => {
    const boot = bootLayout(findings, given, options)
    return panics.map((printed) => decodeOne(printed, boot, symbols, options))
  })
}

/** A layout that was given, as evidence. */
function findingsOf(layout: HypLayout): FileFindings {
  checkLayout(layout)
  const findings = new FileFindings('layout', 0)
  findings.sayLayout(layout)
  return findings
}

/** What the panics of one boot have in common. */
interface BootLayout {
  readonly layout: Partial<HypLayout>
  readonly notes: readonly string[]
  /** What an address at EL2 is; absent where the layout does not tell. */
  readonly classify: HypClassifier | undefined
  /** Why the tables name nothing of EL2; undefined when they do, or there are none. */
  readonly withoutHyp: string | undefined
}

/** Of a conflict as many sides are shown. */
const MOST_SIDES = 16

/** What the boot's log and the layout given say of the layout. A layout that contradicts the log is of another boot. */
function bootLayout(log: FileFindings, given: FileFindings | undefined, { symbols = [] }: DecodeOptions): BootLayout {
  let { layout, conflicts } = recoverFromFindings(given === undefined ? [log] : [log, given])
  const notes: string[] = []
  const [conflict] = conflicts
  if (given !== undefined && conflict !== undefined) {
    const sides = conflict.sides
      .slice(0, MOST_SIDES)
      .map(
        ({ value, provenance }) =>
          `${typeof value === 'bigint' ? formatU64(value) : String(value)} (${provenance[0]?.file ?? 'together'})`,
      )
    notes.push(`the layout is of another boot and was not used: ${conflict.field} is ${sides.join(' or ')}`)
    layout = recoverFromFindings([log]).layout
  }
  // Regions need mask and tag.
  const located = layout.mode !== 'vhe' && layout.tagLsb !== undefined && layout.tagVal !== undefined
  return {
    layout,
    notes,
    classify: located ? hypClassifier(layout) : undefined,
    withoutHyp: cannotNameHyp(symbols, layout),
  }
}

function decodeOne(
  printed: PrintedPanic,
  { layout, notes: known, classify, withoutHyp }: BootLayout,
  symbols: PanicSymbols,
  options: DecodeOptions,
): DecodedPanic {
  const notes = [...known]
  if (printed.more) notes.push('the log holds further panics, which hypva did not decode: split the log')
  const facts = new AddressFacts(printed, layout)
  if (facts.hypOffsetDerived) {
    notes.push(
      `Hyp Offset is not in the log; hypva computes ${formatU64(facts.hypOffset!)} from the address of the panic minus PC`,
    )
  }
  const named = [...(printed.at ? [printed.at] : []), ...printed.backtrace]
  const table = symbols.tableFor(facts, named, notes)
  const names = new Names(table, table && withoutHyp, options)
  const esr = printed.esr === undefined ? undefined : decodeEsr(printed.esr)
  const ps = printed.ps === undefined ? undefined : decodePs(printed.ps)
  const pc = pcOf(printed, facts, names, ps)
  const running = names.running(pc)
  const page = printed.hpfar === undefined ? undefined : hpfarPage(printed.hpfar)
  const far = farOf({ printed, facts, names, esr, ps, running, page })
  const owner = pc?.of === 'vhe' ? 'host' : 'hyp'
  if (names.withoutHyp !== undefined && owner === 'hyp') notes.push(names.withoutHyp)
  const panic = {
    printed,
    ...(pc && { pc }),
    backtrace: printed.backtrace.map((entry) => ({ ...names.printed(entry, owner), link: entry.address })),
    ...(printed.vcpu !== undefined && { vcpu: vcpuOf(printed, printed.vcpu, facts) }),
    ...(far && { far }),
    ...(page !== undefined && { hpfar: hpfarOf(printed.hpfar!, page, far, esr) }),
    ...(esr && { esr }),
    ...(ps && { ps }),
    ...(printed.par !== undefined && { par: decodePar(printed.par) }),
    ...(printed.code && {
      code: { instructions: recognise(printed.code.words), faulting: printed.code.faulting },
    }),
    notes,
    layout,
  }
  const diagnoses = diagnose({ ...panic, facts, table, running, classify })
  const missing = unknownOf(panic, facts, names)
  return {
    ...panic,
    diagnoses,
    unknown: missing.map(({ text }) => text),
    needs: missing.map(({ need }) => need),
  }
}
