import type { ByteSource } from '../source.js'
import type { ElfCore } from './kinds/elf-core.js'

// What may be read of the memory of a running kernel. With pKVM the hypervisor takes its own pages away from the host: its text,
// data and bss, the idmap page and the memory it has reserved. A read of one of them through /proc/kcore is an abort that the
// hypervisor answers with a panic of the whole machine (docs/kernel-facts.md, 4).

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
 * Bytes from _stext on that are the host's in every kernel. The linker places the hypervisor's text behind all other text, of which
 * a kernel with KVM has several MiB; the smallest configuration seen has 0x1ff000 bytes of it.
 */
export const SURELY_HOST = 1n << 20n

/** Virtual addresses and file offsets of /proc/kcore agree in so many bits, but for a constant. */
const KCORE_BITS = 36

/**
 * Whether an ELF core is the memory of the running machine. /proc/vmcore is under /proc as well and holds the memory of the kernel that
 * crashed: its segments follow each other in the file without gaps, while those of /proc/kcore stand where their addresses put them.
 * A source that does not say whether it is live is taken for it when it is laid out like that.
 */
export function isLiveCore({ live }: ByteSource, { segments }: ElfCore): boolean {
  if (live === false) return false
  const dense = segments.every(({ offset }, i) => {
    const before = segments[i - 1]
    if (before === undefined) return true
    const gap = offset - before.offset - before.fileSize
    return gap >= 0 && gap < 65536
  })
  if (live === true) return segments.length < 2 || !dense
  const constants = segments.map(({ offset, virtual }) => BigInt.asUintN(KCORE_BITS, BigInt(offset) - virtual))
  return segments.length > 1 && !dense && constants.every((constant) => constant === constants[0])
}

/** The parts of the running kernel's image that belong to the host without doubt. */
export class HostMemory {
  /** Where the hypervisor's text begins, or how far the host's reaches in any case; exclusive. */
  readonly textEnd: bigint
  /** The symbols by which `textEnd` is known; undefined when it is only what holds for any kernel. */
  readonly by: SymbolAddresses | undefined
  private readonly el2: readonly bigint[]
  private readonly sections: readonly { readonly start: bigint; readonly end: bigint }[]
  private readonly page: bigint

  /**
   * @param stext run-time address of _stext
   * @param symbols those of /proc/kallsyms itself: a copy, or a System.map, may be of another build of the same kernel
   * @param page bytes; the largest there is when not known
   */
  constructor(stext: bigint, symbols: SymbolAddresses | undefined, page: bigint) {
    this.page = page
    const own = symbols?.el2 ?? new Map<string, bigint>()
    this.el2 = [...own.values()]
    this.sections = [...own].flatMap(([name, start]) => {
      const end = name.endsWith('_start') ? own.get(name.replace(/_start$/, '_end')) : undefined
      return end === undefined ? [] : [{ start, end }]
    })
    // Not the first symbol of the nVHE object: some are other names of the host's own functions.
    const starts = ['__hyp_idmap_text_start', '__hyp_text_start'].map((name) => own.get(name))
    const [idmap, text] = starts
    const known = idmap !== undefined && text !== undefined && idmap > stext && text > stext
    this.by = known ? symbols : undefined
    const first = known && text < idmap ? text : idmap!
    this.textEnd = known ? first - (first % page) : stext + SURELY_HOST
  }

  /** Whether the page of [address, address + size) holds nothing of EL2. */
  owns(address: bigint, size: number): boolean {
    if (this.by === undefined) return false
    const { page } = this
    const last = address + BigInt(size) - 1n
    const start = address - (address % page)
    const end = last - (last % page) + page
    return (
      this.el2.every((symbol) => symbol < start || symbol >= end) &&
      this.sections.every((section) => section.end <= start || section.start >= end)
    )
  }
}
