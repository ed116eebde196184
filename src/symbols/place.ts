import { HypvaError } from '../errors.js'
import type { HypLayout } from '../layout/types.js'
import { formatU64, type Range, wrap64 } from '../u64.js'
import { isLinkBase, isLinkedHead, MOST_HEAD } from './link-base.js'
import { formatName, isNvhe, isPrinted, type SymbolTable } from './table.js'

/** Two images of one kernel end at the same place, but some sources round the end up to a segment. */
const SEGMENT_ALIGN = 0x10000n

/** Where the image begins by a table's own addresses: at the landmark, or up to `slack` bytes before it. */
interface Head {
  readonly name: '_text' | '_stext'
  readonly address: bigint
  readonly slack: bigint
}

function headOf({ landmarks }: SymbolTable): Head | undefined {
  const text = landmarks.get('_text')
  if (text !== undefined) return { name: '_text', address: text, slack: 0n }
  const stext = landmarks.get('_stext')
  return stext === undefined ? undefined : { name: '_stext', address: stext, slack: MOST_HEAD }
}

/** What to add to a table's addresses so that its image begins at `start`: 0 or `offset`; undefined when it fits neither way. */
function shiftTo(start: bigint, { address, slack }: Head, offset: bigint | undefined): bigint | undefined {
  return [0n, offset].find((shift) => shift !== undefined && wrap64(address + shift - start) <= slack)
}

/**
 * What to add to a table's addresses so that they are those of the kernel where it runs: 0 for a table of this boot
 * (/proc/kallsyms), the KASLR offset for a link-time one (System.map, vmlinux).
 * @throws HypvaError `HYPVA_SYMBOLS` when the table fits neither way, with the reason
 */
export function placeSymbols(table: SymbolTable, layout: HypLayout): bigint {
  const { image, kaslrOffset } = layout
  // A table of modules alone has run-time addresses already.
  if (!table.modules.includes(undefined)) return 0n
  const head = headOf(table)
  if (image === undefined) {
    if (head === undefined || kaslrOffset === undefined) return byIdmap(table, layout, head)
    if (isLinkedHead(head.address)) return kaslrOffset
    if (isLinkedHead(wrap64(head.address - kaslrOffset))) return 0n
    throw misfit(
      table,
      `${head.name} is at ${formatU64(head.address)}, no link address, and less kaslrOffset ${formatU64(kaslrOffset)} neither`,
    )
  }
  if (head === undefined) return byShare(table, image, kaslrOffset)
  const shift = shiftTo(image.start, head, kaslrOffset) ?? byLinkBase(head, image, kaslrOffset)
  if (shift === undefined) {
    const linked =
      kaslrOffset === undefined
        ? 'and no kernel is linked there'
        : `and with the KASLR offset ${formatU64(kaslrOffset)} it would be at ${formatU64(wrap64(head.address + kaslrOffset))}`
    throw misfit(
      table,
      `${head.name} is at ${formatU64(head.address)}, the image begins at ${formatU64(image.start)}, ${linked}`,
    )
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

/** For a link-time table and an unknown KASLR offset: where the image begins shows what it is. */
function byLinkBase({ address }: Head, image: Range, kaslrOffset: bigint | undefined): bigint | undefined {
  if (kaslrOffset !== undefined || !isLinkedHead(address)) return undefined
  return wrap64(image.start - (isLinkBase(address) ? address : address - MOST_HEAD))
}

/** For an unknown image and KASLR offset: by the idmap page, which is a page of the image. */
function byIdmap(table: SymbolTable, { idmap, kimageVoffset }: HypLayout, head: Head | undefined): bigint {
  const start = table.landmarks.get('__hyp_idmap_text_start')
  if (idmap === undefined || kimageVoffset === undefined || start === undefined) return 0n
  if (head !== undefined && isLinkedHead(head.address)) return 0n
  const page = wrap64(idmap + kimageVoffset)
  // With pages of 64 KiB the section begins somewhere in its page.
  if (wrap64(start - page) < 0x10000n) return 0n
  throw misfit(table, `__hyp_idmap_text_start is at ${formatU64(start)}, the idmap page at ${formatU64(page)}`)
}

/** A table without _text and _stext, such as a part of one: by where its symbols come to lie. */
function byShare(table: SymbolTable, image: Range, kaslrOffset: bigint | undefined): bigint {
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

/** An address that a log printed, with its symbol where the kernel could name it. */
export interface Printed {
  readonly address: bigint
  readonly symbol?: string
}

/**
 * What to add to a table's addresses so that they are link-time ones, as a panic's log prints. The log says where the kernel was
 * linked and by how much KASLR moved it, and often names some addresses itself: so even a table of another boot of the same kernel
 * can be placed, and one of another kernel is found out.
 * @param nvhe whether the table has symbols of the hypervisor
 * @throws HypvaError `HYPVA_SYMBOLS` for a table of another kernel, with what gave it away
 */
export function placeAtLink(
  table: SymbolTable,
  nvhe: boolean,
  linkBase: bigint | undefined,
  kaslrOffset: bigint | undefined,
  printed: readonly Printed[],
): { readonly shift: bigint; readonly note?: string } {
  const head = headOf(table)
  const named = printed.filter(({ symbol }) => symbol !== undefined)
  const known = head && shiftAtLink(head, linkBase, kaslrOffset)
  const shift = known ?? byNames(table, named)
  const reason = known === undefined ? whyNotAtLink(head, linkBase, kaslrOffset) : ''
  if (shift === undefined) {
    throw new HypvaError(
      'HYPVA_SYMBOLS',
      `${table.source}: symbols of another kernel or another boot: ${reason}. Wanted: System.map or vmlinux of the kernel that panicked, or its /proc/kallsyms`,
    )
  }
  // A single wrong name may come from a word that is no address. If all are wrong, the table is of another kernel. Names of the
  // hypervisor's symbols are compared only with a table that has such symbols.
  const judged = nvhe ? named : named.filter(({ symbol }) => !isNvhe(symbol!))
  const located = judged.map(({ address, symbol }) => {
    const found = table.locateReturn(wrap64(address - shift))
    return { address, symbol: symbol!, found, fits: found !== undefined && isPrinted(table, found, symbol!) }
  })
  const [first] = located
  if (first !== undefined && !located.some(({ fits }) => fits)) {
    const { address, symbol, found } = first
    throw new HypvaError(
      'HYPVA_SYMBOLS',
      `${table.source}: symbols of another kernel: ${formatU64(address)} is ${found === undefined ? 'none of them' : formatName(found, { rawNames: true })} there, and ${symbol} in the log`,
    )
  }
  if (known !== undefined) return { shift }
  const note = `${table.source}: of another boot (${reason}); moved by ${formatU64(wrap64(-shift))} so that the names in the log fit`
  return { shift, note }
}

function shiftAtLink(head: Head, linkBase: bigint | undefined, kaslrOffset: bigint | undefined): bigint | undefined {
  if (linkBase === undefined) return isLinkedHead(head.address) ? 0n : undefined
  return shiftTo(linkBase, head, kaslrOffset === undefined ? undefined : wrap64(-kaslrOffset))
}

function whyNotAtLink(head: Head | undefined, linkBase: bigint | undefined, kaslrOffset: bigint | undefined): string {
  if (head === undefined) return 'it has neither _text nor _stext'
  const begins = `it begins at ${formatU64(head.address)}`
  if (linkBase === undefined) return `${begins}, which is no link address, and the log has no "Kernel Offset:"`
  const ran = kaslrOffset === undefined ? '' : ` and ran at ${formatU64(wrap64(linkBase + kaslrOffset))}`
  return `${begins}; this kernel was linked at ${formatU64(linkBase)}${ran}`
}

/** What to add so that the names that the log prints fit, where they agree on that. */
function byNames(table: SymbolTable, named: readonly Printed[]): bigint | undefined {
  const shifts = new Set(
    named.flatMap(({ address, symbol }) => {
      const [, name, offset] = /^(\S+)\+0x([0-9a-f]+)\/0x/.exec(symbol!) ?? []
      const [start, ...more] = name === undefined ? [] : table.addressesOf(name)
      return start === undefined || more.length > 0 ? [] : [wrap64(address - BigInt(`0x${offset}`) - start)]
    }),
  )
  return shifts.size === 1 ? [...shifts][0] : undefined
}
