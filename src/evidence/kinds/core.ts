import { HypvaError } from '../../errors.js'
import { inOrder, sizeOf, united, within } from '../../layout/ranges.js'
import { type ByteSource, bytesSource, forEachLine, readFully, reason } from '../../source.js'
import { vaBitsMinOfLinkBase } from '../../symbols/link-base.js'
import { formatU64, type Range, wrap64 } from '../../u64.js'
import type { Fact, FileFindings, Quantity } from '../facts.js'
import { HostMemory, isLiveCore, SURELY_HOST, type SymbolAddresses } from '../host-memory.js'
import { kernelKind } from '../kernel-address.js'
import { PatchScanner } from '../patch-scan.js'
import { isVheText, perCpuReads } from '../vhe.js'
import { type CoreSegment, type ElfCore, readElfCore } from './elf-core.js'
import { reportScan, scanMemory } from './memory.js'
import { sayVariable, VARIABLES } from './variables.js'
import { VmcoreinfoReader } from './vmcoreinfo.js'

/** No kernel's text is larger, in bytes. */
const TEXT_SPAN = 1 << 26
/** Bytes of an instruction, and of all but the first instruction of a patched sequence. */
const WORD = 4
const OVERLAP = 16
/** How many segments of the image hypva checks for VHE. A real core has one; made-up headers can list any number. */
const MOST_IMAGES = 4
/** Every KVM host has at least this much memory. Headers that list less belong to an excerpt of a core. */
const LEAST_RAM = 1n << 25n

/** `either`: image or linear map, but the address does not show which. */
type SegmentKind = 'image' | 'linear' | 'physical' | 'either'

interface KnownSegment extends CoreSegment {
  readonly physical: bigint
  readonly kind: SegmentKind
  readonly index: number
}

/**
 * Reads an ELF core: VMCOREINFO, the program headers, the kernel's text and, where symbols give their addresses, its variables.
 * @throws HypvaError `HYPVA_LIVE` for an exhaustive scan of a running kernel's memory
 */
export function readCore(
  source: ByteSource,
  findings: FileFindings,
  symbols: readonly SymbolAddresses[],
  exhaustive: boolean,
): void {
  const core = readElfCore(source)
  if ('refused' in core) {
    findings.note(core.refused)
    if (core.scannable) scanMemory(source, findings)
    return
  }
  const live = isLiveCore(source, core)
  if (live && exhaustive) {
    throw new HypvaError(
      'HYPVA_LIVE',
      `${source.name}: not scanned exhaustively: it is the memory of the running kernel, and reading a page that the hypervisor owns panics a protected host`,
    )
  }
  for (const warning of core.warnings) findings.note(warning)
  for (const note of core.notes) {
    if (note.name !== 'VMCOREINFO') continue
    const reader = new VmcoreinfoReader(findings, (line) => `VMCOREINFO note, line ${line}`)
    forEachLine(bytesSource(source.name, note.data), (text, line) => reader.line(withoutNuls(text), line))
  }
  if (!core.littleEndian) findings.note('a big-endian core: its instructions are little-endian all the same')
  const segments = classify(core, symbols, findings)
  sayHeaders(segments, findings)
  const scanner = new PatchScanner()
  if (live) {
    readLive(source, core, segments, symbols, scanner, findings)
  } else {
    for (const table of symbols) readVariables(source, core, segments, table, findings)
    scanSegments(source, segments, scanner, exhaustive, findings)
  }
  reportScan(scanner, findings, 'physical address')
}

/** Scans the kernel's text, and then all other memory unless the text has settled the tag. */
function scanSegments(
  source: ByteSource,
  segments: readonly KnownSegment[],
  scanner: PatchScanner,
  exhaustive: boolean,
  findings: FileFindings,
): void {
  // One set for each alignment: a segment at an odd file offset reads other words than its neighbour.
  const seen = Array.from({ length: WORD }, () => new Seen())
  const enough = () => !exhaustive && scanner.overwhelming
  const scan = (ranges: readonly ScanRange[]) => {
    for (const { segment, from, length } of ranges) {
      const start = segment.offset + from
      for (const piece of seen[start % WORD]!.add(start, start + length)) {
        // A sequence may cross the border to bytes that were scanned before.
        const begin = Math.max(start, piece.start - ((piece.start - start) % WORD) - OVERLAP)
        const end = Math.min(start + length, piece.end + OVERLAP)
        scanner.scan(source, begin, end - begin, segment.physical + BigInt(begin - segment.offset), enough)
        if (enough()) return
      }
    }
  }
  const { text, rest } = scanOrder(segments, findings)
  scan(text)
  if (enough()) return
  // The rest of a VHE host's memory may contain a guest's own patched text: do not scan it.
  const shown = text.slice(0, MOST_IMAGES)
  if (!exhaustive && scanner.groups.length === 0 && shown.some((range) => sayVhe(source, range, findings))) return
  scan(rest)
}

/** Records mode vhe if the host's text shows it. */
function sayVhe(source: ByteSource, { segment, from, length }: ScanRange, findings: FileFindings): boolean {
  const reads = perCpuReads(source, segment.offset + from, Math.min(length, Number(SURELY_HOST)))
  if (!isVheText(reads)) return false
  const where = `physical address ${formatU64(segment.physical + BigInt(from))}`
  const rule = `kernel text without a patched sequence reads per-CPU data through TPIDR_EL2 (${reads.el2} places, TPIDR_EL1 ${reads.el1}), as it is patched to when the host runs at EL2`
  findings.say('mode', 'vhe', where, rule)
  return true
}

/**
 * Reads only such memory of a running kernel as the host is sure to own: variables in pages without EL2 symbols, and the text
 * before the hypervisor's, where the scan stops as soon as two patched sequences agree.
 */
function readLive(
  source: ByteSource,
  core: ElfCore,
  segments: readonly KnownSegment[],
  symbols: readonly SymbolAddresses[],
  scanner: PatchScanner,
  findings: FileFindings,
): void {
  const kallsyms = symbols.find(({ live, addresses }) => live && addresses.has('_stext'))
  const stext = fact(findings, 'stext') ?? kallsyms?.addresses.get('_stext')
  const image = segments.find((segment) => stext !== undefined && holds(segment, stext))
  if (stext === undefined || image === undefined) {
    findings.note(
      'hypva read no memory, because it does not know where the kernel image is: add /proc/kallsyms, read as root',
    )
    return
  }
  const host = new HostMemory(stext, kallsyms, BigInt(fact(findings, 'pageSize') ?? 65536))
  if (host.by !== undefined) readVariables(source, core, [image], host.by, findings, (at, size) => host.owns(at, size))
  const range = (start: bigint, end: bigint): ScanRange => {
    const from = Number(start - image.virtual)
    return { segment: image, from, length: Math.max(0, Math.min(Number(end - image.virtual), image.fileSize) - from) }
  }
  const scan = ({ segment, from, length }: ScanRange) =>
    scanner.scan(source, segment.offset + from, length, segment.physical + BigInt(from), () => scanner.agreed)
  const sure = stext + SURELY_HOST < host.textEnd ? stext + SURELY_HOST : host.textEnd
  scan(range(stext, sure))
  if (scanner.agreed || (scanner.groups.length === 0 && sayVhe(source, range(stext, sure), findings))) return
  if (sure < host.textEnd) scan(range(sure - BigInt(OVERLAP), host.textEnd))
  // Unreadable bytes have a note of their own, and may have contained the sequences.
  if (scanner.groups.length > 0 || scanner.unpatched !== undefined || scanner.unreadable > 0) return
  findings.note(
    host.by === undefined
      ? 'no patched kern_hyp_va sequence in the first MiB of kernel text. Only /proc/kallsyms tells where the hypervisor begins after that: add that file itself, not a copy (root, kernel.kptr_restrict at 0 or 1)'
      : "no kern_hyp_va sequence in the host's text, patched or not: this kernel is probably built without KVM, or older than 4.17",
  )
}

/** Removes the NULs that pad a note. */
function withoutNuls(text: string): string {
  let end = text.length
  while (end > 0 && text.charCodeAt(end - 1) === 0) end--
  return text.slice(0, end)
}

/** The parts of a file that were read before: any number of program headers can list the same bytes. */
class Seen {
  /** Ascending, with gaps between them. */
  private readonly ranges: { readonly start: number; readonly end: number }[] = []

  /** Adds a range and returns the parts of it that are new. */
  add(start: number, end: number) {
    const { ranges } = this
    const fresh: typeof ranges = []
    if (start >= end) return fresh
    let first = 0
    for (let last = ranges.length; first < last; ) {
      const middle = (first + last) >> 1
      if (ranges[middle]!.end < start) first = middle + 1
      else last = middle
    }
    let at = start
    let low = start
    let high = end
    let next = first
    for (; next < ranges.length && ranges[next]!.start <= end; next++) {
      const known = ranges[next]!
      if (at < known.start) fresh.push({ start: at, end: known.start })
      at = Math.max(at, known.end)
      low = Math.min(low, known.start)
      high = Math.max(high, known.end)
    }
    if (at < end) fresh.push({ start: at, end })
    ranges.splice(first, next - first, { start: low, end: high })
    return fresh
  }
}

/** Whether a segment maps a virtual address. */
function holds({ virtual, memorySize }: CoreSegment, address: bigint): boolean {
  return virtual <= address && address - virtual < memorySize
}

function fact<Q extends Quantity>(findings: FileFindings, field: Q): Fact<Q>['value'] | undefined {
  return (findings.facts.find((known) => known.field === field) as Fact<Q> | undefined)?.value
}

/** Sorts the segments into image, linear map and plain physical memory; drops those that are not memory. */
function classify(core: ElfCore, symbols: readonly SymbolAddresses[], findings: FileFindings): readonly KnownSegment[] {
  const voffset = fact(findings, 'kimageVoffset')
  const base = fact(findings, 'linkBase')
  const vaBitsMin = base === undefined ? undefined : vaBitsMinOfLinkBase(base)
  const texts = symbols.flatMap((table) => textAddress(table, findings) ?? [])
  const segments = core.segments.flatMap<KnownSegment>((segment, index) => {
    const { physical, virtual, fileSize } = segment
    if (physical === undefined || fileSize === 0) return []
    const shift = wrap64(virtual - physical)
    let kind: SegmentKind
    if (shift === 0n) kind = 'physical'
    else if (virtual >> 52n !== 0xfffn) return []
    else if (voffset !== undefined && shift === voffset) kind = 'image'
    else {
      kind = texts.some((text) => holds(segment, text)) ? 'image' : kernelKind(virtual, vaBitsMin)
      // /proc/kcore of old kernels gave vmalloc and modules a physical address of 0.
      if (physical === 0n && kind !== 'linear') return []
    }
    return [{ ...segment, physical, kind, index }]
  })
  return decideEither(segments)
}

/** The run-time address that a table gives _text, or _stext if it lacks _text. */
function textAddress({ linkTime, addresses }: SymbolAddresses, findings: FileFindings): bigint | undefined {
  const text = addresses.get('_text') ?? addresses.get('_stext')
  const shift = linkTime ? fact(findings, 'kaslrOffset') : 0n
  return text === undefined || shift === undefined ? undefined : wrap64(text + shift)
}

/**
 * Decides the segments whose address fits both image and linear map. Segments with the same difference between virtual and physical
 * address are of the same kind. If exactly two differences occur and both map the same memory, the higher one is the image's, which lies
 * above the linear map. With more than two this proves nothing: the dump then has vmalloc memory, too.
 */
function decideEither(segments: readonly KnownSegment[]): readonly KnownSegment[] {
  const shift = ({ virtual, physical }: KnownSegment) => wrap64(virtual - physical)
  const kinds = new Map<bigint, SegmentKind>()
  for (const segment of segments) {
    const known = kinds.get(shift(segment))
    if (known === undefined || known === 'either') kinds.set(shift(segment), segment.kind)
  }
  kinds.delete(0n)
  const constants = [...kinds.keys()].sort((a, b) => (a < b ? -1 : 1))
  if (constants.length === 2) {
    const [low, high] = constants as [bigint, bigint]
    const ranges = (constant: bigint) => memoryOf(segments.filter((segment) => shift(segment) === constant))
    if (meet(ranges(low), ranges(high)) && kinds.get(high) !== 'linear' && kinds.get(low) !== 'image') {
      kinds.set(low, 'linear')
      kinds.set(high, 'image')
    }
  }
  return segments.map((segment) =>
    segment.kind === 'either' ? { ...segment, kind: kinds.get(shift(segment))! } : segment,
  )
}

/** Whether two ascending lists of ranges overlap anywhere. */
function meet(a: readonly Range[], b: readonly Range[]): boolean {
  let j = 0
  for (const { start, end } of a) {
    while (j < b.length && b[j]!.end <= start) j++
    if (j < b.length && b[j]!.start < end) return true
  }
  return false
}

function sayHeaders(segments: readonly KnownSegment[], findings: FileFindings): void {
  const image = segments.find(({ kind }) => kind === 'image')
  if (image !== undefined) {
    const rule = 'segment of the kernel image: virtual - physical address'
    findings.say('kimageVoffset', wrap64(image.virtual - image.physical), `segment ${image.index}`, rule)
    const base = fact(findings, 'linkBase')
    const offset = fact(findings, 'kaslrOffset')
    const whole = base !== undefined && offset !== undefined && image.virtual === wrap64(base + offset)
    if (whole && image.memorySize >= 1n << 22n) {
      const end = image.virtual + image.memorySize
      findings.say('end', end, `segment ${image.index}`, 'end of the segment of the kernel image')
    }
  }
  const linear = segments.find(({ kind }) => kind === 'linear')
  if (linear !== undefined) {
    const rule = 'segment of the linear map: virtual - physical address'
    findings.say('linearShift', wrap64(linear.virtual - linear.physical), `segment ${linear.index}`, rule)
  }
  const ram = memoryOf(segments.filter(({ kind }) => kind !== 'image'))
  if (sizeOf(ram) >= LEAST_RAM) findings.say('coreRam', ram, 'program headers', 'memory that the program headers list')
}

/** The physical memory that segments show. */
function memoryOf(segments: readonly KnownSegment[]): Range[] {
  return united(inOrder(segments.map(({ physical, memorySize }) => ({ start: physical, end: physical + memorySize }))))
}

interface ScanRange {
  readonly segment: KnownSegment
  readonly from: number
  readonly length: number
}

/** Splits the memory into kernel text, to be scanned first, and the rest, without what the image's segments already show. */
function scanOrder(segments: readonly KnownSegment[], findings: FileFindings) {
  const whole = (segment: KnownSegment): ScanRange => ({ segment, from: 0, length: segment.fileSize })
  const image = segments.filter(({ kind }) => kind === 'image')
  const inFile = ({ physical, fileSize }: KnownSegment) => ({ start: physical, end: physical + BigInt(fileSize) })
  // Memory that the image's segments show is not read a second time.
  const shown = united(inOrder(image.map(inFile)))
  const others = segments.filter((segment) => {
    const { start, end } = inFile(segment)
    return segment.kind !== 'image' && sizeOf(within(shown, start, end)) < end - start
  })
  const stext = fact(findings, 'stext')
  const voffset = fact(findings, 'kimageVoffset')
  if (image.length > 0 || stext === undefined || voffset === undefined)
    return { text: image.map(whole), rest: others.map(whole) }
  const text = wrap64(stext - voffset)
  const first: ScanRange[] = []
  const rest: ScanRange[] = []
  for (const segment of others) {
    const end = segment.physical + BigInt(segment.fileSize)
    if (text + BigInt(TEXT_SPAN) <= segment.physical || end <= text) {
      rest.push(whole(segment))
      continue
    }
    const from = text > segment.physical ? Number(text - segment.physical) : 0
    const length = Math.min(TEXT_SPAN, segment.fileSize - from)
    first.push({ segment, from, length })
    if (from > 0) rest.push({ segment, from: 0, length: from })
    if (from + length < segment.fileSize)
      rest.push({ segment, from: from + length, length: segment.fileSize - from - length })
  }
  return { text: first, rest }
}

/**
 * Reads the kernel's own variables, through the image mapping where the core has it. Since 7.x the linear alias of .data and .bss is
 * unmapped and reads as zeros in /proc/kcore, so a zero that was read through the linear map proves nothing.
 * @param allowed tells whether hypva may read these bytes at a run-time address of the image
 */
function readVariables(
  source: ByteSource,
  core: ElfCore,
  segments: readonly KnownSegment[],
  table: SymbolAddresses,
  findings: FileFindings,
  allowed: (address: bigint, size: number) => boolean = () => true,
): void {
  const voffset = fact(findings, 'kimageVoffset')
  const shift = table.linkTime ? fact(findings, 'kaslrOffset') : 0n
  if (shift === undefined) return
  let told = false
  const readNumber = (at: number, size: number): bigint | undefined => {
    const bytes = new Uint8Array(size)
    try {
      if (readFully(source, at, bytes) < size) return undefined
    } catch (error) {
      if (!told)
        findings.note(`variables at offset ${formatU64(BigInt(at))} could not be read (${reason(source, error)})`)
      told = true
      return undefined
    }
    if (!core.littleEndian) bytes.reverse()
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)
  }
  const read = (name: string): { value: bigint; image: boolean; at: number } | undefined => {
    const linked = table.addresses.get(name)
    if (linked === undefined) return undefined
    const address = wrap64(linked + shift)
    const { size = 8 } = VARIABLES[name]!
    if (!allowed(address, size)) return undefined
    for (const kind of ['image', 'physical', 'linear', 'either'] as const) {
      if (kind !== 'image' && voffset === undefined) continue
      for (const segment of segments) {
        if (segment.kind !== kind) continue
        const into = kind === 'image' ? address - segment.virtual : wrap64(address - voffset!) - segment.physical
        if (into < 0n || into + BigInt(size) > BigInt(segment.fileSize)) continue
        const at = segment.offset + Number(into)
        const value = readNumber(at, size)
        if (value !== undefined) return { value, image: kind === 'image' || kind === 'physical', at }
      }
    }
    return undefined
  }
  const mask = read('va_mask')
  const unset = mask !== undefined && mask.value === 0n
  for (const name of Object.keys(VARIABLES)) {
    const variable = read(name)
    if (variable === undefined) continue
    const { value, image, at } = variable
    if (!image && value === 0n) continue
    // If va_mask is zero, the kernel has not set its neighbours either, or none of them could be read.
    if (unset && ['tag_lsb', 'tag_val', 'va_mask'].includes(name)) continue
    const where = `offset ${formatU64(BigInt(at))} (${name})`
    sayVariable(findings, name, value, where, `the kernel's ${name}, by the symbols of ${table.file}`)
  }
}
