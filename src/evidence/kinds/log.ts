import { inOrder, joinTouching } from '../../layout/ranges.js'
import type { Mode, PageSize } from '../../layout/types.js'
import type { Range } from '../../u64.js'
import { type Fact, FileFindings } from '../facts.js'
import { LineReader } from '../line-reader.js'
import { hypOffsetOf, PANIC_WORDS, type PanicLine, type PanicReader, panicLine } from './panic.js'

/** One rule of what a kernel prints outside of a panic: it matches anywhere in a line, behind any prefix (printk's, a journal's). */
interface LogRule {
  readonly pattern: { exec(text: string): readonly (string | undefined)[] | null }
  /** Something every match contains, for a cheap test. */
  readonly hint: string
  say(findings: FileFindings, match: readonly (string | undefined)[], where: string): void
}

const hex = (digits: string): bigint => BigInt(`0x${digits}`)

const RULES: readonly LogRule[] = [
  {
    hint: 'Linux version ',
    pattern: /\bLinux version (\d+\.\d+\S*)/,
    say: (findings, [, release], where) => findings.say('release', release!, where, 'kernel version line'),
  },
  {
    hint: 'ainted',
    pattern: { exec: releaseAfterTaint },
    say: (findings, [, release], where) => findings.say('release', release!, where, 'kernel version in the panic'),
  },
  {
    hint: 'IDMAP page',
    pattern: /\bIDMAP page: (?:0x)?([0-9a-f]{1,16})\b/,
    say: (findings, [, page], where) => findings.say('idmap', hex(page!), where, 'IDMAP page (debug line)'),
  },
  {
    hint: 'HYP VA range',
    pattern: /\bHYP VA range: (?:0x)?([0-9a-f]{1,16}):(?:0x)?([0-9a-f]{1,16})\b/,
    say(findings, [, start, last], where) {
      findings.say('tag', hex(start!), where, 'HYP VA range begins at kern_hyp_va(PAGE_OFFSET), which is the tag')
      findings.hypAddress(hex(last!), where, 'HYP VA range ends at kern_hyp_va(high_memory - 1)')
    },
  },
  {
    hint: 'virtual addresses at EL2',
    pattern: /\bUsing (\d\d)-bit virtual addresses at EL2/,
    say(findings, [, bits], where) {
      // The page table's width is the larger of 48 and vabits_actual, so 52 can only come from the latter.
      if (bits === '52')
        findings.say('vaBitsActual', 52, where, 'virtual addresses at EL2: 52 bits only with 52 at EL1')
    },
  },
  {
    hint: 'Capping linear region',
    pattern: /\bCapping linear region to 51 bits for KVM in nVHE mode/,
    say(findings, _, where) {
      findings.say('vaBitsActual', 52, where, 'the linear region is capped for nVHE with 52 bits in use only')
    },
  },
  {
    hint: 'initialized successfully',
    pattern: /\b(?:(Hyp|Protected) (?:([nh])VHE )?|(VHE)(?:\+NV2)? )mode initialized successfully/,
    say(findings, [, kind, flavour, vhe], where) {
      const mode: Mode = vhe ? 'vhe' : kind === 'Protected' ? 'protected' : flavour === 'h' ? 'hvhe' : 'nvhe'
      findings.say('mode', mode, where, 'KVM prints its mode')
    },
  },
  {
    hint: ' pgtable: ',
    pattern: /\b(?:user|swapper) pgtable: (4|16|64)k pages, (\d\d)-bit VAs/,
    say(findings, [, kilobytes, bits], where) {
      findings.say('pageSize', (Number(kilobytes) * 1024) as PageSize, where, 'page table of an oops')
      findings.say('vaBitsActual', Number(bits), where, 'page table of an oops')
    },
  },
  {
    // A power-of-two table of more than a page: order = log2(bytes / page).
    hint: 'hash table entries',
    pattern: /hash table entries: \d+ \(order: ([1-9]\d?), (\d+) bytes/,
    say(findings, [, order, bytes], where) {
      const size = Number(bytes) / 2 ** Number(order)
      if (size === 4096 || size === 16384 || size === 65536) {
        findings.say('pageSize', size, where, 'bytes of a hash table by its order')
      }
    },
  },
]

/**
 * `CPU: 3 PID: 1 Comm: a Not tainted 6.1.0-13-arm64 #1`, or `Tainted: G W 6.1.0-13-arm64 #1`: the release is the word before
 * `#1`, and no other # stands between it and `Tainted:`. As a regular expression this takes time cubic in the line.
 */
function releaseAfterTaint(text: string): readonly [string, string] | null {
  const cpu = /\bCPU: \d+ /.exec(text)
  if (cpu === null) return null
  const from = cpu.index + cpu[0].length
  for (const { index } of text.matchAll(/ #\d/g)) {
    const blank = text.lastIndexOf(' ', index - 1)
    if (blank < from) continue
    const release = text.slice(blank + 1, index)
    if (!/^\d+\.\d+\S*$/.test(release)) continue
    const before = text.slice(Math.max(from, text.lastIndexOf('#', blank) + 1), blank)
    if (before.endsWith('Not tainted') || before.includes('Tainted: ')) return [text, release]
  }
  return null
}

/** Every line that is known here has one of these words in it, or an address. */
export const LOG_WORDS: readonly string[] = [...RULES.map(({ hint }) => hint), ...PANIC_WORDS, '[mem ']

const NODE = /\bnode +\d+: \[mem 0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})\]/

/** More banks, and more addresses in hyp text, than the log of a boot has: what a file may make of memory has an end. */
const MOST_BANKS = 1 << 14
const MOST_LINKS = 1 << 14

/** Tells where in a log a boot begins. What stands before the first version line is of the boot that prints it. */
export class BootStarts {
  private seen = false

  /** Whether a boot begins with this line that is not the log's first. */
  at(text: string): boolean {
    if (!/\bLinux version \d/.test(text)) return false
    const { seen } = this
    this.seen = true
    return seen
  }
}

/** What the lines of one boot say. */
class BootLog {
  readonly findings: FileFindings
  readonly firstLine: number
  readonly banks: (Range & { readonly line: number })[] = []
  bankLines = 0
  /** Link-time addresses in hyp text. */
  readonly links: { readonly link: bigint; readonly line: number }[] = []
  status: (NonNullable<PanicLine['status']> & { readonly line: number }) | undefined
  /** Link-time address of its first panic, and how many it has. */
  at: { readonly address: bigint; readonly line: number } | undefined
  panics = 0
  panicked = false

  constructor({ file, priority }: FileFindings, firstLine: number) {
    this.findings = new FileFindings(file, priority)
    this.firstLine = firstLine
  }

  /** Takes a line outside of panics; whether it is evidence. */
  line(text: string, line: number): boolean {
    let known = false
    for (const rule of RULES) {
      if (!text.includes(rule.hint)) continue
      const match = rule.pattern.exec(text)
      if (match === null) continue
      rule.say(this.findings, match, `line ${line}`)
      known = true
    }
    const node = text.includes('[mem ') ? NODE.exec(text) : null
    if (node === null) return known
    const bank = { start: hex(node[1]!), end: hex(node[2]!) + 1n, line }
    if (this.bankLines++ < MOST_BANKS) this.banks.push(bank)
    return true
  }

  /** Takes a line that may belong to a panic; whether it is evidence. */
  panic({ at, entry, hypOffset, kaslrOffset, linkBase, physOffset, status }: PanicLine, line: number): boolean {
    const { findings } = this
    const where = `line ${line}`
    if (hypOffset !== undefined) findings.say('hypOffset', hypOffset, where, 'Hyp Offset of the panic')
    if (kaslrOffset !== undefined) {
      const rule = linkBase === undefined ? 'Kernel Offset: disabled' : 'Kernel Offset'
      findings.say('kaslrOffset', kaslrOffset, where, rule)
    }
    if (linkBase !== undefined) {
      findings.say('linkBase', linkBase, where, 'Kernel Offset: what it counts from is KIMAGE_VADDR')
    }
    if (physOffset !== undefined) findings.say('physOffset', physOffset, where, 'PHYS_OFFSET of the panic')
    if (at !== undefined) this.panicked = true
    if (at?.address !== undefined) {
      this.at ??= { address: at.address, line }
      this.panics++
    }
    if (status !== undefined) this.status ??= { ...status, line }
    const nvhe = entry?.symbol.startsWith('__kvm_nvhe_') === true
    if (nvhe && this.links.length < MOST_LINKS) this.links.push({ link: entry.address, line })
    const offsets = hypOffset ?? kaslrOffset ?? physOffset
    return offsets !== undefined || at !== undefined || status !== undefined || nvhe
  }
}

/** dmesg, a serial log, a journal, a pasted panic. */
export class LogReader extends LineReader {
  /** How many boots there are; of these only two can be asked for. */
  private boots = 0
  private last: BootLog | undefined
  private lastPanicked: BootLog | undefined
  private readonly starts = new BootStarts()
  private readonly panics: PanicReader | undefined

  /** @param panics puts together the panics, where they are wanted */
  constructor(findings: FileFindings, panics?: PanicReader) {
    super(findings)
    this.panics = panics
  }

  line(text: string, line: number): boolean {
    const starts = this.starts.at(text)
    if (this.last === undefined || starts) {
      this.boots++
      this.last = new BootLog(this.findings, line)
    }
    const boot = this.last
    const panic = panicLine(text)
    let known = boot.line(text, line)
    if (panic !== undefined) {
      if (boot.panic(panic, line)) known = true
      if (boot.panicked) this.lastPanicked = boot
      this.panics?.line(panic, line)
    }
    if (known) this.found = true
    return known
  }

  override report(): void {
    // Of several boots in one log, the one that died at EL2 is what people ask about; else the last.
    const boot = this.lastPanicked ?? this.last
    if (boot === undefined || !this.found) return
    if (this.boots > 1) {
      const which = boot.panicked ? 'the last with a hyp panic' : 'the last'
      this.findings.note(`holds ${this.boots} boots; ${which}, from line ${boot.firstLine} on, is used`)
    }
    this.hypOffset(boot)
    this.findings.add(boot.findings)
    this.banks(boot)
    this.hypAddresses(boot)
  }

  /** The only panic of a log that lost its line `Hyp Offset:` still shows the offset: its address less PC. */
  private hypOffset({ findings, at, panics, status }: BootLog): void {
    if (at === undefined || panics > 1 || status === undefined) return
    if (findings.facts.some(({ field }) => field === 'hypOffset')) return
    const offset = hypOffsetOf(at.address, status.ps, status.pc)
    if (offset === undefined) return
    findings.say('hypOffset', offset, `lines ${at.line}, ${status.line}`, 'address of the panic, less PC')
  }

  private banks({ banks, bankLines }: BootLog): void {
    const [first] = banks
    if (first === undefined) return
    if (bankLines > MOST_BANKS) {
      this.findings.note(`lists ${bankLines} ranges of memory in one boot: no machine has as many, and none is used`)
      return
    }
    const where = banks.length === 1 ? `line ${first.line}` : `lines ${first.line}–${banks.at(-1)!.line}`
    this.findings.say('dram', joinTouching(inOrder(banks)), where, "early memory node ranges: memblock's memory")
  }

  /**
   * Link-time addresses that the panic itself found in hyp text, less Hyp Offset, are hyp addresses of linear memory. PC is one
   * only when its own link address is among them: after a jump through a bad pointer it is not.
   */
  private hypAddresses({ findings, links, status }: BootLog): void {
    const offset = findings.facts.find((fact): fact is Fact<'hypOffset'> => fact.field === 'hypOffset')
    if (offset === undefined) return
    for (const { link, line } of links) {
      const hyp = BigInt.asUintN(64, link - offset.value)
      if (hyp >> 52n !== 0n) continue
      const rule = status?.pc === hyp ? 'PC of the hyp panic, in hyp text' : 'address in hyp text, less Hyp Offset'
      this.findings.hypAddress(hyp, `line ${line}`, rule)
    }
  }
}
