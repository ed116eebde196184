import type { ByteSource } from '../source.js'
import { wrap64 } from '../u64.js'
import type { ElfCore } from './elf-core.js'

// What may be read of the memory of a running kernel. With pKVM the hypervisor takes its own pages away from the host: its text,
// data and bss, the idmap page and the memory it has reserved. A read of one of them through /proc/kcore is an abort that the
// hypervisor answers with a panic of the whole machine (KERNEL-FACTS section 4).

/** Addresses of symbols: where they are at run time, or where they were linked. */
export interface SymbolAddresses {
  readonly file: string
  readonly linkTime: boolean
  /** Of the kernel that is running: /proc/kallsyms itself, no copy. */
  readonly live: boolean
  readonly addresses: ReadonlyMap<string, bigint>
  /** Symbols of EL2, by name: those of the nVHE object, and the bounds of the hypervisor's sections. */
  readonly el2: ReadonlyMap<string, bigint>
}

/**
 * Bytes from _stext on that are the host's in every kernel: the linker places the hypervisor's text behind all other text, and no
 * kernel with KVM has less than 2 MiB of that (a small configuration of 5.x: 0x1ff000 bytes).
 */
export const SURELY_HOST = 1n << 20n

/**
 * Whether an ELF core is the memory of the running machine. /proc/vmcore is under /proc as well and holds the memory of the kernel that
 * crashed: its segments follow each other in the file without gaps, while those of /proc/kcore stand where their addresses put them.
 */
export function isLiveCore(source: ByteSource, { segments }: ElfCore): boolean {
  if (source.live !== true) return false
  const dense = segments.every(({ offset }, i) => {
    const before = segments[i - 1]
    return (
      before === undefined ||
      (offset >= before.offset + before.fileSize && offset - before.offset - before.fileSize < 65536)
    )
  })
  return segments.length < 2 || !dense
}

/** The parts of the running kernel's image that belong to the host without doubt. */
export class HostMemory {
  /** First address of the host's text. */
  readonly stext: bigint
  /** Where the hypervisor's text begins, or how far the host's reaches in any case; exclusive. */
  readonly textEnd: bigint
  /** The symbols by which `textEnd` is known; undefined when it is only what holds for any kernel. */
  readonly by: SymbolAddresses | undefined
  private readonly el2: readonly bigint[]
  private readonly sections: readonly { readonly start: bigint; readonly end: bigint }[]
  private readonly page: bigint

  /**
   * @param stext run-time address of _stext
   * @param table symbols of this very kernel, if there are any, and what to add to their addresses
   * @param page bytes; the largest there is when not known
   */
  constructor(
    stext: bigint,
    table: { readonly symbols: SymbolAddresses; readonly shift: bigint } | undefined,
    page: bigint,
  ) {
    this.stext = stext
    this.page = page
    const own = new Map(
      [...(table?.symbols.el2 ?? [])].map(([name, address]) => [name, wrap64(address + table!.shift)]),
    )
    this.el2 = [...own.values()].sort((a, b) => (a < b ? -1 : 1))
    this.sections = [...own].flatMap(([name, start]) => {
      const end = name.endsWith('_start') ? own.get(name.replace(/_start$/, '_end')) : undefined
      return end === undefined ? [] : [{ start, end }]
    })
    // Not the first symbol of the nVHE object: some are other names of the host's own functions.
    const starts = ['__hyp_idmap_text_start', '__hyp_text_start'].map((name) => own.get(name))
    const [idmap, text] = starts
    const known = idmap !== undefined && text !== undefined && idmap > stext && text > stext
    this.by = known ? table!.symbols : undefined
    const first = known && text < idmap ? text : idmap!
    this.textEnd = known ? first - (first % page) : stext + SURELY_HOST
  }

  /** Whether the page of [address, address + size) holds nothing of EL2, as far as symbols of this very kernel tell. */
  owns(address: bigint, size: number): boolean {
    if (this.by === undefined) return false
    const start = address - (address % this.page)
    const end = address + BigInt(size) + this.page - 1n - ((address + BigInt(size) - 1n) % this.page)
    return (
      this.el2.every((symbol) => symbol < start || symbol >= end) &&
      this.sections.every((section) => section.end <= start || section.start >= end)
    )
  }
}
