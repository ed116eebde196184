import { ownText } from '../../source.js'
import { parseSymbolLine } from '../../symbols/line.js'
import { isLinkedHead } from '../../symbols/link-base.js'
import type { FileFindings, Quantity } from '../facts.js'
import type { SymbolAddresses } from '../host-memory.js'
import { LineReader } from '../line-reader.js'
import { VARIABLES } from './variables.js'

const WANTED: ReadonlySet<string> = new Set([
  '_text',
  '_stext',
  '_end',
  '__hyp_idmap_text_start',
  '__hyp_text_start',
  'reserved_pg_dir',
  'swapper_pg_dir',
  ...Object.keys(VARIABLES),
])

/** What belongs to EL2: the symbols of the nVHE object, and the bounds of its sections. */
const EL2_SYMBOL = /^__(?:kvm_nvhe_|hyp_\w+_(?:start|end)$)/

/** /proc/kallsyms, System.map, nm's output: the symbols that matter here. */
export class SymbolReader extends LineReader {
  private readonly symbols = new Map<string, { readonly address: bigint; readonly line: number }>()
  /** Addresses of all symbols of EL2, by name. */
  private readonly el2 = new Map<string, bigint>()
  private readonly wanted: ReadonlySet<string>
  private count = 0
  private zero = 0
  private modules = false

  /** @param named further symbols to keep, for pairs that name them */
  constructor(findings: FileFindings, named: ReadonlySet<string> = new Set()) {
    super(findings)
    this.wanted = new Set([...WANTED, ...named])
  }

  line(text: string, line: number): boolean {
    const symbol = parseSymbolLine(text)
    if (symbol === undefined) return false
    this.found = true
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
    if (symbol.name.startsWith('__') && EL2_SYMBOL.test(symbol.name)) this.el2.set(symbol.name, symbol.address)
    if (this.wanted.has(symbol.name) && !this.symbols.has(symbol.name)) {
      this.symbols.set(ownText(symbol.name), { address: symbol.address, line })
    }
    return true
  }

  /** Whether the addresses are link-time ones: a System.map, or /proc/kallsyms of a boot without KASLR. */
  private get linkTime(): boolean {
    if (this.modules) return false
    const text = this.symbols.get('_text')?.address ?? this.symbols.get('_stext')?.address
    if (text === undefined) return false
    return isLinkedHead(text)
  }

  /**
   * What other evidence needs of the symbols.
   * @param live whether they are those of the running kernel
   */
  addresses(live: boolean): SymbolAddresses {
    const { symbols, linkTime, el2 } = this
    const addresses = new Map([...symbols].map(([name, { address }]) => [name, address] as const))
    return { file: this.findings.file, linkTime, live, addresses, el2 }
  }

  override report(): void {
    const { findings } = this
    if (!this.found) return
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
      this.say(linked, 'link-time address')
      findings.note(
        'its addresses are link-time ones: a System.map, or /proc/kallsyms of a boot without KASLR. They give no run-time address unless other evidence gives the KASLR offset',
      )
      return
    }
    this.say({ text: '_text', stext: '_stext', end: '_end', idmapSymbol: '__hyp_idmap_text_start' }, 'address')
  }

  private say(names: Readonly<Partial<Record<Quantity, string>>>, what: string): void {
    for (const [field, name] of Object.entries(names)) {
      const symbol = this.symbols.get(name)
      if (symbol !== undefined) {
        this.findings.say(field as 'text', symbol.address, `line ${symbol.line}`, `${what} of ${name}`)
      }
    }
  }
}
