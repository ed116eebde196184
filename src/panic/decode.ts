import { type Recovery, recoverLayout } from '../evidence/recover.js'
import { formatLayout } from '../layout/json.js'
import { type HypClassifier, hypClassifier } from '../layout/regions.js'
import type { HypLayout } from '../layout/types.js'
import { type ByteSource, bytesSource } from '../source.js'
import { cannotNameHyp } from '../symbols/hyp-names.js'
import { formatName, isPrinted, type Located, type NameOptions, type SymbolTable } from '../symbols/table.js'
import { formatU64, wrap64 } from '../u64.js'
import { AddressFacts, type Places } from './addresses.js'
import { type Diagnosis, diagnose } from './diagnose.js'
import {
  decodeEsr,
  decodePar,
  decodePs,
  hpfarPage,
  type ProgramStatus,
  type Syndrome,
  type TranslationResult,
} from './esr.js'
import { type Instruction, recognise } from './instructions.js'
import { type PrintedAddress, type PrintedPanic, parsePanics } from './parse.js'
import { PanicSymbols } from './symbols.js'

/** Options of `decodePanics`. */
export interface DecodeOptions extends NameOptions {
  /** Of the boot that panicked. One of another boot is recognised by its Hyp Offset and not used. */
  readonly layout?: HypLayout
  /** Tables of the kernel that panicked: link-time, of that boot, or of another boot of it. */
  readonly symbols?: readonly SymbolTable[]
}

/** A place in code, with its names. */
export interface NamedPlace extends Places {
  /** As in the log, `%pB`. */
  readonly printed?: string
  /** By the tables given, as the kernel's `%pB` names it; for a PC of the address itself. */
  readonly name?: string
  /** For a PC: what `%pB` makes of it, where that is another name. */
  readonly returnName?: string
  /**
   * The log's symbol ends where this address is, and no table says what begins there: `%pB` names the address before.
   */
  readonly atEnd?: boolean
  /** Whether the log's symbol is the tables' one; absent where one is missing. */
  readonly agrees?: boolean
}

/** What FAR is. `stale`: left over from an earlier abort, this exception did not set it. */
export type FarKind = 'hyp' | 'host' | 'guest' | 'stale' | 'unknown'

/** FAR_EL2, and which address space it belongs to. */
export interface DecodedFar extends Places {
  readonly value: bigint
  readonly kind: FarKind
  /** Why it is that, in a line. */
  readonly text: string
  readonly name?: string
}

/** HPFAR_EL2, decoded. */
export interface DecodedHpfar {
  readonly value: bigint
  /** The faulting intermediate physical page, 4 KiB aligned. */
  readonly page: bigint
  /** Whether FAR, as a kernel address, and HPFAR are of one page; absent when FAR's physical address is not known. */
  readonly agrees?: boolean
  readonly text: string
}

/** One hyp panic, with all that log, layout and symbols prove. */
export interface DecodedPanic {
  readonly printed: Omit<PrintedPanic, 'boot'>
  /** Whose it is; `vhe`: of a host that runs at EL2, which prints the same block. */
  readonly pc?: NamedPlace & { readonly value: bigint; readonly of: 'hyp' | 'host' | 'guest' | 'vhe' }
  readonly backtrace: readonly (NamedPlace & { readonly link: bigint })[]
  readonly vcpu?: Places & { readonly value: bigint; readonly text: string }
  readonly far?: DecodedFar
  readonly hpfar?: DecodedHpfar
  readonly esr?: Syndrome
  readonly ps?: ProgramStatus
  readonly par?: TranslationResult
  readonly code?: { readonly instructions: readonly Instruction[]; readonly faulting: number }
  readonly diagnoses: readonly Diagnosis[]
  /** What could not be told, and what would tell it. */
  readonly unknown: readonly string[]
  /** What is worth knowing of the inputs: a layout that was not used, symbols of another boot. */
  readonly notes: readonly string[]
  /** What is known of the boot's layout from the log, and from the layout given. */
  readonly layout: Partial<HypLayout>
}

/**
 * Finds and decodes the nVHE hyp panics of a log: dmesg, journal, serial console, of any kernel from 4.6 on.
 * @param log the text, decompressed; or a source of it
 * @returns one entry a panic, in the order of the log; none when it holds no hyp panic
 * @throws HypvaError `HYPVA_SYMBOLS` for tables of another kernel
 * @example
 * const [panic] = decodePanics(panicLog)
 * panic.diagnoses[0].kind // 'brk'
 */
export function decodePanics(log: string | Uint8Array | ByteSource, options: DecodeOptions = {}): DecodedPanic[] {
  const source = typeof log === 'string' || log instanceof Uint8Array ? bytesSource('log', log) : log
  const shared: Shared = { layouts: new Map(), symbols: new PanicSymbols(options.symbols ?? []) }
  return parsePanics(source).map((printed) => decodeOne(printed, options, shared))
}

/** What panics have in common: of each boot its layout, with the notes about it, and the tables of symbols. */
interface Shared {
  readonly layouts: Map<string, BootLayout>
  readonly symbols: PanicSymbols
}

interface BootLayout {
  readonly layout: Partial<HypLayout>
  readonly notes: readonly string[]
  /** What an address at EL2 is; absent where the layout does not tell. */
  readonly classify: HypClassifier | undefined
  /** Why the tables name nothing of EL2; undefined when they do, or there are none. */
  readonly withoutHyp: string | undefined
}

function decodeOne({ boot, ...printed }: PrintedPanic, options: DecodeOptions, shared: Shared): DecodedPanic {
  let known = shared.layouts.get(boot)
  if (known === undefined) {
    known = layoutOf(boot, options)
    shared.layouts.set(boot, known)
  }
  const { layout, classify } = known
  const notes = [...known.notes]
  if (printed.more) notes.push('the log holds further panics, which hypva did not decode: split the log')
  const facts = new AddressFacts({ ...printed, boot }, layout)
  if (facts.hypOffsetDerived) {
    notes.push(
      `Hyp Offset is not in the log; ${formatU64(facts.hypOffset!)} is derived: the address of the panic less PC`,
    )
  }
  const names = new Names(printed, facts, shared.symbols, known.withoutHyp, options, notes)
  const esr = printed.esr === undefined ? undefined : decodeEsr(printed.esr)
  const ps = printed.ps === undefined ? undefined : decodePs(printed.ps)
  const pc = pcOf(printed, facts, names, ps)
  const hpfar = printed.hpfar === undefined ? undefined : hpfarPage(printed.hpfar)
  const far = farOf(printed, facts, names, esr, ps, pc, hpfar)
  const owner = pc?.of === 'vhe' ? 'host' : 'hyp'
  if (names.withoutHyp !== undefined && owner === 'hyp') notes.push(names.withoutHyp)
  const panic = {
    printed,
    ...(pc && { pc }),
    backtrace: printed.backtrace.map((entry) => ({ ...names.printed(entry, owner), link: entry.address })),
    ...(printed.vcpu !== undefined && { vcpu: vcpuOf(printed, printed.vcpu, facts, layout) }),
    ...(far && { far }),
    ...(hpfar !== undefined && { hpfar: hpfarOf(printed.hpfar!, hpfar, far, esr) }),
    ...(esr && { esr }),
    ...(ps && { ps }),
    ...(printed.par !== undefined && { par: decodePar(printed.par) }),
    ...(printed.code && {
      code: { instructions: recognise(printed.code.words), faulting: printed.code.faulting },
    }),
    notes,
    layout,
  }
  const diagnoses = diagnose(panic, facts, names.table, classify)
  return { ...panic, diagnoses, unknown: unknownOf(panic, facts, names) }
}

/** What the boot's log, and the layout given, say of the layout. One that contradicts the log is of another boot. */
function layoutOf(boot: string, { layout: given, symbols = [] }: DecodeOptions): BootLayout {
  const log = bytesSource('log', boot)
  const known = (layout: Partial<HypLayout>, notes: readonly string[] = []) => ({
    layout,
    notes,
    // Regions need mask and tag.
    classify:
      layout.mode !== 'vhe' && layout.tagLsb !== undefined && layout.tagVal !== undefined
        ? hypClassifier(layout)
        : undefined,
    withoutHyp: cannotNameHyp(symbols, layout),
  })
  if (given === undefined) return known(recoverLayout([log]).layout)
  const both: Recovery = recoverLayout([log, bytesSource('layout', formatLayout(given))])
  const conflict = both.conflicts[0]
  if (conflict === undefined) return known(both.layout)
  const sides = conflict.sides
    .slice(0, MOST_SIDES)
    .map(
      ({ value, provenance }) =>
        `${typeof value === 'bigint' ? formatU64(value) : String(value)} (${provenance[0]?.file ?? 'together'})`,
    )
  return known(recoverLayout([log]).layout, [
    `the layout is of another boot and was not used: ${conflict.field} is ${sides.join(' or ')}`,
  ])
}

/** Of a conflict as many sides are shown. */
const MOST_SIDES = 16

/** Names link-time addresses by the tables. */
class Names {
  readonly table: SymbolTable | undefined
  /** Why the tables name nothing of EL2; undefined when they do, or there are none. */
  readonly withoutHyp: string | undefined
  /** How many tables there are. */
  readonly given: number
  private readonly options: DecodeOptions

  constructor(
    printed: Omit<PrintedPanic, 'boot'>,
    facts: AddressFacts,
    symbols: PanicSymbols,
    withoutHyp: string | undefined,
    options: DecodeOptions,
    notes: string[],
  ) {
    this.options = options
    const known = [...(printed.at ? [printed.at] : []), ...printed.backtrace]
    this.given = options.symbols?.length ?? 0
    this.table = symbols.tableFor(facts, known, notes)
    this.withoutHyp = this.table && withoutHyp
  }

  /** The symbol at a link-time address that EL2 or the host has used. */
  at(link: bigint | undefined, of: 'hyp' | 'host'): string | undefined {
    return link === undefined || !this.can(link, of) ? undefined : this.format(this.table?.locate(link))
  }

  /** A return address, or what was printed like one. */
  printed({ address, symbol }: PrintedAddress, of: 'hyp' | 'host'): NamedPlace {
    const found = this.can(address, of) ? this.table?.locateReturn(address) : undefined
    const name = this.format(found)
    return {
      ...(symbol !== undefined && { printed: symbol }),
      ...(name !== undefined && { name }),
      ...(found !== undefined && symbol !== undefined && { agrees: this.agrees(found, symbol) }),
    }
  }

  returnName(link: bigint, of: 'hyp' | 'host'): string | undefined {
    return this.can(link, of) ? this.format(this.table?.locateReturn(link)) : undefined
  }

  /**
   * Whether what the tables say of an address is so. Those without the hypervisor's symbols know nothing of its text, but may
   * name a function outside of it that EL2 has called; without landmarks they do not tell where it is.
   */
  private can(link: bigint, of: 'hyp' | 'host'): boolean {
    if (this.withoutHyp === undefined) return true
    const { landmarks } = this.table!
    const start = landmarks.get('__hyp_idmap_text_start') ?? landmarks.get('__hyp_text_start')
    if (start === undefined) return of === 'host'
    const end = landmarks.get('__hyp_text_end') ?? landmarks.get('_etext')
    return link < start || (end !== undefined && link >= end)
  }

  private agrees(found: Located, symbol: string): boolean {
    return isPrinted(this.table!, found, symbol)
  }

  private format(found: Located | undefined): string | undefined {
    return found && formatName(found, this.options)
  }
}

function ranVcpu({ vcpu, vcpuHashed }: Pick<PrintedPanic, 'vcpu' | 'vcpuHashed'>): boolean {
  return vcpuHashed === true || (vcpu !== undefined && vcpu !== 0n)
}

function pcOf(
  { pc: value, at, ps: status, ...printed }: Omit<PrintedPanic, 'boot'>,
  facts: AddressFacts,
  names: Names,
  ps: ProgramStatus | undefined,
): DecodedPanic['pc'] {
  // What is left of the log may have the link-time address only.
  if (value === undefined) {
    if (at === undefined) return undefined
    const hyp = facts.hypOffset === undefined ? undefined : wrap64(at.address - facts.hypOffset)
    const places = hyp === undefined ? { link: at.address } : { ...facts.ofHyp(hyp), link: at.address }
    return { value: hyp ?? at.address, of: 'hyp', ...places, ...pcNames(at.address, at, names, 'hyp') }
  }
  if (status !== undefined && ps !== undefined && ps.el !== 2) {
    const of = ranVcpu(printed) ? 'guest' : 'host'
    if (of === 'guest') return { value, of }
    const places = facts.ofKernel(value)
    return { value, of, ...places, ...pcNames(places.link, undefined, names, 'host') }
  }
  if (value >> 55n !== 0n && facts.hypOffset === undefined) {
    // Without nVHE there is no Hyp Offset: the host runs at EL2 and the PC is the kernel's own.
    const link = facts.kaslrOffset === undefined ? undefined : wrap64(value - facts.kaslrOffset)
    return { value, of: 'vhe', image: value, ...(link !== undefined && { link }), ...pcNames(link, at, names, 'host') }
  }
  const places = facts.ofHyp(value)
  return { value, of: 'hyp', ...places, ...pcNames(places.link, at, names, 'hyp') }
}

function pcNames(
  link: bigint | undefined,
  at: PrintedAddress | undefined,
  names: Names,
  of: 'hyp' | 'host',
): NamedPlace {
  const printed = at === undefined ? undefined : names.printed(at, of)
  const name = names.at(link, of)
  const returnName = link === undefined ? undefined : names.returnName(link, of)
  return {
    ...(printed?.printed !== undefined && { printed: printed.printed }),
    ...(printed?.agrees !== undefined && { agrees: printed.agrees }),
    ...(name !== undefined && { name }),
    ...(name === undefined && /\+0x([0-9a-f]+)\/0x\1$/.test(printed?.printed ?? '') && { atEnd: true }),
    ...(returnName !== undefined && returnName !== name && { returnName }),
  }
}

function farOf(
  { far: value, ...printed }: Omit<PrintedPanic, 'boot'>,
  facts: AddressFacts,
  names: Names,
  esr: Syndrome | undefined,
  ps: ProgramStatus | undefined,
  pc: DecodedPanic['pc'],
  page: bigint | undefined,
): DecodedFar | undefined {
  if (value === undefined) return undefined
  const { kind, text } = farKind(esr, ps, pc, ranVcpu(printed))
  const kernel = value >> 55n === 0x1ffn
  const places =
    kind === 'guest' || value === 0n
      ? {}
      : kernel
        ? facts.ofKernel(value, page)
        : kind === 'hyp'
          ? hypPlaces(facts, value)
          : {}
  const name = names.at(places.link, kernel ? 'host' : 'hyp')
  return { value, kind, text, ...places, ...(name !== undefined && { name }) }
}

/** Hyp VAs below the linear region's tag are EL2's own; only a layout, or the place in the image, tells them apart. */
function hypPlaces(facts: AddressFacts, hyp: bigint): Places {
  const { tagLsb, tagVal } = facts.layout
  if (tagLsb !== undefined && tagVal !== undefined) {
    return hyp >> BigInt(tagLsb) === tagVal ? facts.ofHyp(hyp) : { hyp }
  }
  const places = facts.ofHyp(hyp)
  return facts.linkBase !== undefined && places.link !== undefined ? places : { hyp }
}

function farKind(
  esr: Syndrome | undefined,
  ps: ProgramStatus | undefined,
  pc: DecodedPanic['pc'],
  vcpuRan: boolean,
): { kind: FarKind; text: string } {
  if (esr === undefined) return { kind: 'unknown', text: 'ESR is not in the log, so what set FAR is not known' }
  const { abort, exceptionClass } = esr
  if (abort !== undefined && !abort.farValid) {
    return { kind: 'stale', text: `${exceptionClass.text}, ${abort.text}: FnV says that FAR is not valid` }
  }
  const faults = abort !== undefined || /^(?:PC_ALIGN|WATCHPT_|GPC)/.test(exceptionClass.name)
  if (faults) {
    const current = abort?.current ?? ps?.el === 2
    if (current) return { kind: 'hyp', text: 'the address that the hypervisor used' }
    return vcpuRan
      ? { kind: 'guest', text: "the guest's VA: a vCPU was running" }
      : { kind: 'host', text: "the host's VA: no vCPU was running" }
  }
  if (inHostAbort(pc)) {
    return { kind: 'host', text: "the host's VA: the hypervisor was handling the host's abort (handle_host_mem_abort)" }
  }
  return { kind: 'stale', text: `left by an earlier abort: ${exceptionClass.text} does not set FAR` }
}

function inHostAbort(pc: DecodedPanic['pc']): boolean {
  return /^(?:__kvm_nvhe_)?handle_host_mem_abort\+/.test(pc?.name ?? pc?.printed ?? '')
}

function hpfarOf(value: bigint, page: bigint, far: DecodedFar | undefined, esr: Syndrome | undefined): DecodedHpfar {
  const agrees = far?.phys === undefined ? undefined : far.phys >> 12n === page >> 12n
  const base = { value, page, ...(agrees !== undefined && { agrees }) }
  if (far?.kind === 'hyp' && !esr?.abort?.walk) {
    return { ...base, text: 'left by an earlier stage 2 fault: an abort of EL2 itself has no stage 2' }
  }
  if (agrees === undefined) {
    return {
      ...base,
      text: far?.kind === 'guest' ? "page of the guest's physical address" : 'page of the last stage 2 fault',
    }
  }
  if (far!.kind === 'stale') {
    return {
      ...base,
      text: agrees
        ? 'FAR and HPFAR are of one page: both are of the last abort of the host'
        : 'FAR and HPFAR are of different pages: of different aborts, or not of the host',
    }
  }
  return {
    ...base,
    text: agrees
      ? 'FAR and HPFAR are of one page'
      : 'FAR and HPFAR are of different pages: FAR is no linear or image address of the page, or HPFAR is stale',
  }
}

function vcpuOf(
  { vcpuHashed }: Omit<PrintedPanic, 'boot'>,
  value: bigint,
  facts: AddressFacts,
  { mode }: Partial<HypLayout>,
): NonNullable<DecodedPanic['vcpu']> {
  if (value === 0n) return { value, text: 'no vCPU was running' }
  if (vcpuHashed)
    return { value, text: 'no address: kernels from 4.15 to 5.11 print a hash of the pointer; a vCPU was running' }
  if (value >> 55n === 0x1ffn)
    return { value, text: 'a kernel address (as older kernels, and those with VHE, print it)' }
  const { phys, linear } = facts.ofHyp(value)
  const own = mode === 'protected' ? "; in protected mode it may be the hypervisor's own copy" : ''
  return {
    value,
    hyp: value,
    ...(phys !== undefined && { phys }),
    ...(linear !== undefined && { linear }),
    text: `struct kvm_vcpu, in the hyp linear region${own}`,
  }
}

function unknownOf(panic: Omit<DecodedPanic, 'diagnoses' | 'unknown'>, facts: AddressFacts, names: Names): string[] {
  const { printed, pc, vcpu, far } = panic
  const list: string[] = []
  const registers = { pc: 'PC', esr: 'ESR', ps: 'PS', far: 'FAR', hpfar: 'HPFAR', par: 'PAR', vcpu: 'VCPU' } as const
  const cut = (Object.keys(registers) as (keyof typeof registers)[]).filter(
    (register) => printed[register] === undefined && !(register === 'vcpu' && printed.vcpuHashed),
  )
  if (cut.length > 0) list.push(`${cut.map((register) => registers[register]).join(', ')}: not in this part of the log`)
  if (printed.vcpuHashed && printed.vcpu === undefined) {
    list.push('VCPU: a vCPU was running, but the kernel printed no address of it')
  }
  if (facts.hypOffset === undefined && pc?.of === 'hyp') {
    list.push(
      'link-time addresses of PC: "Hyp Offset:" is not in the log (kernels up to 5.11 do not print it); supply a layout (-l)',
    )
  }
  if (facts.kaslrOffset === undefined && pc?.link !== undefined) {
    list.push('run-time addresses: "Kernel Offset:" is not in the log; supply a layout (-l)')
  }
  if (facts.hypPhysvirtOffset === undefined && (pc?.of === 'hyp' || (!printed.vcpuHashed && ranVcpu(printed)))) {
    list.push(
      'physical and linear addresses of PC and VCPU: they need kimage_voffset or the tag; supply a layout (-l): `hypva layout recover` makes one of this log with the vmcoreinfo and /proc/iomem of that boot',
    )
  } else if (vcpu?.phys !== undefined && vcpu.linear === undefined) {
    list.push('VCPU as a kernel pointer: it needs PAGE_OFFSET and PHYS_OFFSET; supply a layout (-l)')
  }
  if (
    far !== undefined &&
    (far.kind === 'host' || far.kind === 'hyp') &&
    far.value >> 55n === 0x1ffn &&
    far.phys === undefined
  ) {
    list.push(
      'the physical address of FAR: it needs PAGE_OFFSET and PHYS_OFFSET, or kimage_voffset; supply a layout (-l)',
    )
  }
  if (pc?.link !== undefined && pc.printed === undefined) {
    if (names.given === 0) {
      list.push('the name of PC: supply --symbols (System.map, vmlinux or /proc/kallsyms of this kernel)')
    } else if (names.withoutHyp !== undefined && pc.of === 'hyp') {
      list.push('the name of PC: supply --symbols (System.map or vmlinux of this kernel)')
    }
  }
  return list
}
