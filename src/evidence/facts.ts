import { LAYOUT_FIELDS } from '../layout/fields.js'
import type { HypLayout, Mode } from '../layout/types.js'
import { ownText } from '../source.js'
import type { Range } from '../u64.js'

/**
 * Everything that evidence can show: the fields of a layout, and quantities from which they follow. Addresses and offsets are modulo 2^64.
 */
export interface Quantities extends Required<HypLayout> {
  /** uname -r. */
  release: string
  mode: Mode
  /** log2 of twice the distance of PAGE_END from 2^64: vaBits, or for 52 what smaller hardware has (48 or 47). */
  vaBitsMin: number
  /** KIMAGE_VADDR: where the image is linked. */
  linkBase: bigint
  /** Run-time addresses of _text, _stext and _end. */
  text: bigint
  stext: bigint
  end: bigint
  /** Image VA of __hyp_idmap_text_start. */
  idmapSymbol: bigint
  /** The same symbols where they were linked: run-time address less KASLR offset. */
  linkStext: bigint
  linkEnd: bigint
  linkIdmapSymbol: bigint
  /** Physical start of /proc/iomem's "Kernel code" and end of its "Kernel data". */
  codePhys: bigint
  endPhys: bigint
  /** A panic's "Hyp Offset": hyp to link-time address. */
  hypOffset: bigint
  /** Linear VA - physical address: PAGE_OFFSET - PHYS_OFFSET. */
  linearShift: bigint
  /** The tag where it stands: tag_val << tag_lsb, or what a proposal adds. */
  tag: bigint
  /** Memory that an ELF core's headers list; DRAM only if the tag agrees. */
  coreRam: readonly Range[]
}

export type Quantity = keyof Quantities

/** The values known at some stage of the reasoning. */
export type Values = Partial<Quantities>

/** Where a value comes from: the file, the line or offset in it, and the rule. */
export interface Provenance {
  readonly file: string
  readonly where: string
  readonly rule: string
}

/** Picks the provenance out of a fact. */
export function provenanceOf({ file, where, rule }: Provenance): Provenance {
  return { file, where, rule }
}

/** Evidence that disagrees about one field: each value and its provenance. */
export interface Conflict {
  readonly field: string
  readonly sides: readonly { readonly value: unknown; readonly provenance: readonly Provenance[] }[]
}

/** One statement of one piece of evidence, or one that follows from others. */
export interface Fact<Q extends Quantity = Quantity> extends Provenance {
  readonly field: Q
  readonly value: Quantities[Q]
  /**
   * 2: given by the caller. 1: from a preferred file. 0: from any other file. -1: likely, used only without better evidence. A derived
   * fact has the lowest priority of the facts it rests on.
   */
  readonly priority: number
  /** For a derived fact: every quantity it rests on, directly or not. */
  readonly ancestors?: ReadonlySet<Quantity>
  /** It is a field of a layout file. */
  readonly ofLayout?: true
  /** For a derived fact: the places in the evidence that it rests on. */
  readonly roots?: readonly Place[]
}

/** A place in a file. */
export type Place = Pick<Provenance, 'file' | 'where'>

/** A known pair: a kernel address (linear or image) or a symbol, and its hyp address. */
export interface Pair extends Provenance {
  readonly kernel: bigint | undefined
  readonly symbol: string | undefined
  readonly hyp: bigint
  readonly priority: number
}

/** An address known to lie in the hyp linear region, such as a panic's PC. */
export interface HypAddress extends Provenance {
  readonly hyp: bigint
  readonly priority: number
}

/** A remark about a file. */
export interface Note {
  readonly file: string
  readonly text: string
}

export interface Tag {
  readonly tagLsb: number
  readonly tagVal: bigint
}

/** A value as text. Equal values have equal texts. */
export function valueText(value: unknown): string {
  if (typeof value === 'bigint') return `"0x${value.toString(16)}"`
  return JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `0x${v.toString(16)}` : v))
}

/** How many equal facts by the same rule in one file are kept. Further ones are only counted. */
const MOST_ALIKE = 64
/** How many values that one file gives a field are kept: so many contradict each other anyway. */
const MOST_VALUES = 256

/** A list of facts with bounded length: a log with a million panics of one boot proves no more than a log with sixty. */
export class FactList {
  readonly kept: Fact[] = []
  private readonly alike = new Map<string, { count: number; index: number; where: string }>()
  private readonly values = new Map<string, number>()

  add(fact: Fact): void {
    const { field, file, where, rule, priority } = fact
    const key = `${field}\n${file}\n${priority}\n${rule}\n${valueText(fact.value)}`
    const known = this.alike.get(key)
    if (known === undefined) {
      const group = `${field}\n${file}\n${priority}`
      const values = (this.values.get(group) ?? 0) + 1
      if (values > MOST_VALUES) return
      this.values.set(group, values)
      this.alike.set(key, { count: 1, index: this.kept.push(fact) - 1, where })
      return
    }
    known.count++
    if (known.count <= MOST_ALIKE) {
      known.index = this.kept.push(fact) - 1
      known.where = where
    } else {
      const last = this.kept[known.index]!
      this.kept[known.index] = { ...last, where: `${known.where} and ${known.count - MOST_ALIKE} more` }
    }
  }
}

/** How many pairs, and how many addresses in hyp text, are kept of a file. */
const MOST_PAIRS = 100_000
const MOST_NOTES = 100

/** What hypva has read in one file, before it draws any conclusion. */
export class FileFindings {
  readonly pairs: Pair[] = []
  readonly hypAddresses: HypAddress[] = []
  readonly notes: Note[] = []
  /** Tags that whole groups of patched sequences show, when there is more than one. */
  readonly rivals: Tag[] = []
  readonly file: string
  readonly priority: number
  private readonly list = new FactList()
  private moreNotes = 0
  private full = false

  constructor(file: string, priority: number) {
    this.file = file
    this.priority = priority
  }

  get facts(): readonly Fact[] {
    return this.list.kept
  }

  say<Q extends Quantity>(field: Q, value: Quantities[Q], where: string, rule: string, priority = this.priority): void {
    const own = typeof value === 'string' ? ownText(value) : value
    this.list.add({ field, value: own, file: this.file, where, rule, priority } as Fact)
  }

  /** Records every known field of a layout. */
  sayLayout(layout: Partial<HypLayout>, rule = 'layout file'): void {
    const { file, priority } = this
    for (const field of LAYOUT_FIELDS) {
      const value = layout[field]
      if (value === undefined) continue
      this.list.add({ field, value, file, where: field, rule, priority, ofLayout: true } as Fact)
    }
  }

  pair(kernel: bigint | undefined, symbol: string | undefined, hyp: bigint, where: string): void {
    if (this.pairs.length === MOST_PAIRS) {
      if (!this.full) this.note(`holds more than ${MOST_PAIRS} pairs; only those before ${where} are used`)
      this.full = true
      return
    }
    const name = symbol === undefined ? undefined : ownText(symbol)
    this.pairs.push({ kernel, symbol: name, hyp, file: this.file, where, rule: 'known pair', priority: this.priority })
  }

  hypAddress(hyp: bigint, where: string, rule: string): void {
    if (this.hypAddresses.length >= MOST_PAIRS) return
    this.hypAddresses.push({ hyp, file: this.file, where, rule, priority: this.priority })
  }

  note(text: string): void {
    if (this.notes.length < MOST_NOTES) this.notes.push({ file: this.file, text })
    else this.notes[MOST_NOTES] = { file: this.file, text: `${++this.moreNotes} more notes like these` }
  }

  /** Adds other findings of this file. */
  add({ facts, hypAddresses, notes }: FileFindings): void {
    for (const fact of facts) this.list.kept.push(fact)
    for (const address of hypAddresses) this.hypAddresses.push(address)
    for (const note of notes) this.note(note.text)
  }
}
