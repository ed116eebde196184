import { HypvaError } from '../errors.js'
import { isSince } from '../layout/generations.js'
import type { HypLayout } from '../layout/types.js'
import { formatU64, wrap64 } from '../u64.js'
import { isLinkBase } from './line.js'
import { isNvhe, SymbolTable } from './table.js'

/** _stext lies behind _text by the header's section: 64 KiB since 5.11 or so, one page or less before. */
const MOST_HEAD = 0x10000n
/** Two images of one kernel end at the same place; what reports an end may round it to a segment. */
const SEGMENT_ALIGN = 0x10000n

/**
 * What to add to a table's addresses so that they are those of the kernel where it runs: 0 for a table of this boot
 * (/proc/kallsyms), the KASLR offset for a link-time one (System.map, vmlinux).
 * @throws HypvaError `HYPVA_SYMBOLS` when the table fits neither way, with the reason
 */
export function placeSymbols(table: SymbolTable, layout: HypLayout): bigint {
  const { image, kaslrOffset } = layout
  // Modules alone are where they are.
  if (!table.modules.includes(undefined)) return 0n
  const text = table.landmarks.get('_text')
  const head = text ?? table.landmarks.get('_stext')
  const [name, slack] = text === undefined ? ['_stext', MOST_HEAD] : ['_text', 0n]
  if (image === undefined) {
    if (head === undefined || kaslrOffset === undefined) return byIdmap(table, layout, head)
    if (linkedAt(head)) return kaslrOffset
    if (linkedAt(wrap64(head - kaslrOffset))) return 0n
    throw misfit(
      table,
      `${name} is at ${formatU64(head)}, no link address, and less kaslrOffset ${formatU64(kaslrOffset)} neither`,
    )
  }
  if (head === undefined) return byShare(table, image, kaslrOffset)

  const begins = (address: bigint) => address >= image.start && address - image.start <= slack
  let shift: bigint
  if (begins(head)) {
    shift = 0n
  } else if (kaslrOffset !== undefined && begins(wrap64(head + kaslrOffset))) {
    shift = kaslrOffset
  } else if (kaslrOffset === undefined && linkedAt(head)) {
    // Where the image begins says what the KASLR offset is; nothing else is needed for it.
    shift = wrap64(image.start - (isLinkBase(head) ? head : head - MOST_HEAD))
  } else {
    const there = `${name} is at ${formatU64(head)}, the image begins at ${formatU64(image.start)}`
    const linked =
      kaslrOffset === undefined
        ? 'and no kernel is linked there'
        : `and with the KASLR offset ${formatU64(kaslrOffset)} it would be at ${formatU64(wrap64(head + kaslrOffset))}`
    throw misfit(table, `${there}, ${linked}`)
  }
  const end = table.landmarks.get('_end')
  if (end !== undefined) {
    const difference = BigInt.asIntN(64, end + shift - image.end)
    if (difference >= SEGMENT_ALIGN || difference <= -SEGMENT_ALIGN) {
      throw misfit(
        table,
        `it begins where the image does, but _end is at ${formatU64(wrap64(end + shift))} and the image ends at ${formatU64(image.end)}`,
      )
    }
  }
  return shift
}

/** Where neither image nor KASLR offset tell: by the idmap page, which is a page of the image. */
function byIdmap(table: SymbolTable, { idmap, kimageVoffset }: HypLayout, head: bigint | undefined): bigint {
  const start = table.landmarks.get('__hyp_idmap_text_start')
  if (idmap === undefined || kimageVoffset === undefined || start === undefined) return 0n
  if (head !== undefined && linkedAt(head)) return 0n
  const page = wrap64(idmap + kimageVoffset)
  // With pages of 64 KiB the section begins somewhere in its page.
  if (wrap64(start - page) < 0x10000n) return 0n
  throw misfit(table, `__hyp_idmap_text_start is at ${formatU64(start)}, the idmap page at ${formatU64(page)}`)
}

function linkedAt(address: bigint): boolean {
  return isLinkBase(address) || isLinkBase(wrap64(address - MOST_HEAD))
}

/** A table without _text and _stext, such as a part of one: by where its symbols come to lie. */
function byShare(table: SymbolTable, image: { start: bigint; end: bigint }, kaslrOffset: bigint | undefined): bigint {
  const own = [...table.starts].filter((_, i) => table.names[i] !== '' && table.modules[i] === undefined)
  for (const shift of kaslrOffset === undefined ? [0n] : [0n, kaslrOffset]) {
    if (own.every((start) => wrap64(start + shift) >= image.start && wrap64(start + shift) <= image.end)) return shift
  }
  throw misfit(
    table,
    `it has neither _text nor _stext, and its symbols (${formatU64(own[0]!)} … ${formatU64(own.at(-1)!)}) do not lie in the image, ${formatU64(image.start)} to ${formatU64(image.end)}, with the KASLR offset or without`,
  )
}

function misfit({ source }: SymbolTable, why: string): HypvaError {
  return new HypvaError(
    'HYPVA_SYMBOLS',
    `${source}: symbols of another kernel or another boot: ${why}. Wanted: /proc/kallsyms of this boot, or System.map or vmlinux of this kernel`,
  )
}

/**
 * What EL2 runs in every kernel. Before 5.9 these stand in the hyp text under their own names; since then the nVHE object's
 * have the prefix, and those without it are VHE's, in the kernel's text before the hyp text. The hyp text by itself proves
 * nothing: the stub that a host leaves at EL2 (hyp-stub.S) is in it, without a prefix, in all versions.
 */
const EL2_FUNCTIONS = ['__kvm_hyp_vector', '__guest_enter', '__guest_exit', '__kvm_vcpu_run', 'hyp_panic']

/** Whether a table has symbols of the hypervisor, so that what it says of a hyp address is true. */
function namesHyp(table: SymbolTable, { generation }: Partial<HypLayout>): boolean {
  if (table.names.some(isNvhe)) return true
  const start = table.landmarks.get('__hyp_text_start')
  // What has no landmarks is a part of a table; no kernel before 5.9 keeps anything back.
  if (start === undefined) return generation !== undefined && !isSince(generation, '5.9')
  const end = table.landmarks.get('__hyp_text_end')
  return EL2_FUNCTIONS.flatMap((name) => table.addressesOf(name)).some(
    (address) => address >= start && (end === undefined || address < end),
  )
}

/**
 * Why tables cannot name hyp addresses, and which could; undefined when one of them can. A host with VHE has no others than its
 * own. What a table without the hypervisor's symbols has at their addresses is whatever stands before them.
 */
export function cannotNameHyp(tables: readonly SymbolTable[], layout: Partial<HypLayout>): string | undefined {
  if (layout.mode === 'vhe' || tables.length === 0 || tables.some((table) => namesHyp(table, layout))) return undefined
  const sources = tables.map(({ source }) => source).join(', ')
  const { generation } = layout
  // The generation of 5.15 reaches beyond 5.19.
  const why =
    generation !== undefined && isSince(generation, '7.0')
      ? 'it is of a kernel without nVHE KVM, or filtered; System.map and vmlinux of this kernel are complete'
      : 'before Linux 5.19 /proc/kallsyms leaves them out; System.map and vmlinux of this kernel have them'
  return `${sources}: no symbols of the hypervisor (__kvm_nvhe_…) in it, so it cannot name hyp addresses: ${why}`
}

/** Tables as one, each moved by its shift. Of several names of an address that of the first table counts. */
export function joinSymbols(tables: readonly { readonly table: SymbolTable; readonly shift: bigint }[]): SymbolTable {
  const [only] = tables
  if (tables.length === 1 && only!.shift === 0n) return only!.table
  const entries: { start: bigint; name: string; module: string | undefined }[] = []
  const landmarks = new Map<string, bigint>()
  const aliases = new Map<bigint, readonly string[]>()
  for (const { table, shift } of tables) {
    for (const [start, names] of table.movedAliases(shift)) aliases.set(start, names)
    const { starts, names, modules } = table
    for (let i = 0; i < starts.length; i++) {
      const module = modules[i]
      // A table moved to another boot says nothing of where modules were in this one.
      if (shift !== 0n && module !== undefined) continue
      entries.push({ start: wrap64(starts[i]! + shift), name: names[i]!, module })
    }
    for (const [name, address] of table.landmarks) {
      if (!landmarks.has(name)) landmarks.set(name, wrap64(address + shift))
    }
  }
  entries.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
  const kept: typeof entries = []
  for (const entry of entries) {
    const last = kept.at(-1)
    if (last?.start !== entry.start) kept.push(entry)
    // Where one table ends another may go on.
    else if (last.name === '') kept[kept.length - 1] = entry
  }
  return new SymbolTable(
    tables.map(({ table }) => table.source).join(', '),
    BigUint64Array.from(kept, ({ start }) => start),
    kept.map(({ name }) => name),
    kept.map(({ module }) => module),
    landmarks,
    aliases,
  )
}
