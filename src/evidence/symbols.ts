import type { FileFindings, Quantity } from './facts.js'

/** A line of /proc/kallsyms, System.map or `nm` output. */
export interface SymbolLine {
  readonly address: bigint
  /** nm's letter: T and t text, D and d data, B and b zeroed data … */
  readonly type: string
  readonly name: string
  /** Of /proc/kallsyms: the module, `bpf` …; absent for the kernel's own. */
  readonly module: string | undefined
}

// With `nm -S` a size stands between address and type.
const SYMBOL = /^([0-9a-fA-F]{8,16}) (?:[0-9a-fA-F]{8,16} )?([A-Za-z?]) (\S+)(?:[ \t]+\[([^\]]+)\])?$/

/** Reads one line of a symbol table; undefined for anything else (undefined symbols of `nm` among it). */
export function parseSymbolLine(line: string): SymbolLine | undefined {
  // A symbol line's type stands alone between two blanks: cheap to rule out.
  if (line.charCodeAt(16) !== 32 && line.charCodeAt(8) !== 32) return undefined
  const match = SYMBOL.exec(line)
  if (match === null) return undefined
  return { address: BigInt(`0x${match[1]}`), type: match[2]!, name: match[3]!, module: match[4] }
}

/**
 * KIMAGE_VADDR - PAGE_END in all versions: modules (and once BPF, and KASAN's shadow) lie between. An image at such a distance from
 * some PAGE_END is at its link-time place; a KASLR displacement is at least 1/32 of the space, never as small as this.
 */
const IMAGE_GAPS = [0x8000000n, 0x10000000n, 0x80000000n]
/** log2 of 2^64 - PAGE_END that there are, by VA_BITS_MIN since 5.4; before, PAGE_END's place is VA_START = -(2^VA_BITS). */
const VA_BITS_MINS = [36, 39, 42, 47, 48]

/** The VA_BITS_MIN for which `base` is a KIMAGE_VADDR of Linux 5.4 or later; undefined when for none. */
export function vaBitsMinOfLinkBase(base: bigint): number | undefined {
  const end = 1n << 64n
  return VA_BITS_MINS.find((bits) => IMAGE_GAPS.includes(base - (end - (1n << BigInt(bits - 1)))))
}

/** Whether `text`, the address of _text, is where a kernel is linked: of Linux 5.4 and later, or of the versions before. */
export function isLinkBase(text: bigint): boolean {
  if (vaBitsMinOfLinkBase(text) !== undefined) return true
  // Up to 5.3: VA_START = -(2^VA_BITS), then modules; the image TEXT_OFFSET (512 KiB) above that.
  const start = text - (text % 0x200000n)
  return VA_BITS_MINS.some((bits) => IMAGE_GAPS.includes(start - ((1n << 64n) - (1n << BigInt(bits)))))
}

/** Variables of the kernel that say something of the layout, read from a core by these names. */
export const KERNEL_VARIABLES = [
  'tag_lsb',
  'tag_val',
  'va_mask',
  'hyp_physvirt_offset',
  '__kvm_nvhe_hyp_physvirt_offset',
  'memstart_addr',
  'kimage_voffset',
  'hyp_idmap_start',
  'kvm_mode',
] as const

const WANTED: ReadonlySet<string> = new Set([
  '_text',
  '_stext',
  '_end',
  '__hyp_idmap_text_start',
  'reserved_pg_dir',
  'swapper_pg_dir',
  ...KERNEL_VARIABLES,
])

/** The symbols of one file that matter here. */
export class SymbolReader {
  readonly symbols = new Map<string, { readonly address: bigint; readonly line: number }>()
  private readonly wanted: ReadonlySet<string>
  private count = 0
  private zero = 0
  private modules = false
  private low: bigint | undefined

  /** @param named further symbols to keep, for pairs that name them */
  constructor(named: ReadonlySet<string>) {
    this.wanted = named.size === 0 ? WANTED : new Set([...WANTED, ...named])
  }

  line(text: string, line: number): boolean {
    const symbol = parseSymbolLine(text)
    if (symbol === undefined) return false
    this.count++
    if (symbol.address === 0n) {
      this.zero++
      return true
    }
    if (symbol.module !== undefined) {
      this.modules = true
      return true
    }
    // Absolute symbols (section sizes, per-CPU offsets) are no addresses.
    if (symbol.type === 'A' || symbol.type === 'a') return true
    if (this.wanted.has(symbol.name) && !this.symbols.has(symbol.name)) {
      this.symbols.set(symbol.name, { address: symbol.address, line })
    }
    if (this.low === undefined && (symbol.type === 'T' || symbol.type === 't')) this.low = symbol.address
    return true
  }

  get found(): boolean {
    return this.count > 0
  }

  /** Whether the addresses are link-time ones: a System.map, or /proc/kallsyms of a boot without KASLR. */
  get linkTime(): boolean {
    if (this.modules) return false
    const text = this.symbols.get('_text')?.address ?? this.symbols.get('_stext')?.address
    if (text === undefined) return false
    return isLinkBase(text) || isLinkBase(text - 0x10000n)
  }

  report(findings: FileFindings): void {
    if (this.count === 0) return
    if (this.zero === this.count || (this.symbols.size === 0 && this.zero > this.count / 2)) {
      findings.note(
        `all ${this.count} symbols are at address 0: /proc/kallsyms hides addresses from this reader; read it as root, with kernel.kptr_restrict at 0 or 1`,
      )
      return
    }
    const at = (name: string) => this.symbols.get(name)
    const [reserved, swapper] = [at('reserved_pg_dir'), at('swapper_pg_dir')]
    if (reserved !== undefined && swapper !== undefined) {
      const size = Number(swapper.address - reserved.address)
      if (size === 4096 || size === 16384 || size === 65536) {
        findings.say('pageSize', size, `line ${swapper.line}`, 'reserved_pg_dir is one page before swapper_pg_dir')
      }
    }
    if (this.linkTime) {
      const text = at('_text')
      const stext = at('_stext')
      const base = text ?? (stext && { address: stext.address - 0x10000n, line: stext.line })
      if (base !== undefined) {
        // Until 5.7 the image began TEXT_OFFSET (512 KiB) above KIMAGE_VADDR.
        const linkBase = base.address - (base.address % 0x200000n)
        const rule = `link-time address of ${text === undefined ? '_stext, 64 KiB above _text' : '_text'}`
        findings.say('linkBase', linkBase, `line ${base.line}`, rule)
      }
      const linked = { linkStext: '_stext', linkEnd: '_end', linkIdmapSymbol: '__hyp_idmap_text_start' } as const
      this.say(findings, linked, 'link-time address')
      findings.note(
        'its addresses are link-time ones: a System.map, or /proc/kallsyms of a boot without KASLR. They give no run-time address unless other evidence gives the KASLR offset',
      )
      return
    }
    this.say(
      findings,
      { text: '_text', stext: '_stext', end: '_end', idmapSymbol: '__hyp_idmap_text_start' },
      'address',
    )
  }

  private say(findings: FileFindings, names: Readonly<Partial<Record<Quantity, string>>>, what: string): void {
    for (const [field, name] of Object.entries(names)) {
      const symbol = this.symbols.get(name)
      if (symbol !== undefined) {
        findings.say(field as 'text', symbol.address, `line ${symbol.line}`, `${what} of ${name}`)
      }
    }
  }
}
