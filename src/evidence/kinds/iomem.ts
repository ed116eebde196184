import { groupBy } from '../../group-by.js'
import { inOrder, joinTouching } from '../../layout/ranges.js'
import { ownText } from '../../source.js'
import type { Range } from '../../u64.js'
import { LineReader } from '../line-reader.js'

const LINE = /^( *)([0-9a-f]{8,16})-([0-9a-f]{8,16}) : (.+)$/

/** How many of the lines that list memory the provenance names. */
const MOST_LINES = 64

interface Entry extends Range {
  readonly name: string
  readonly line: number
}

/** Ranges kept: many times what any machine lists. */
const MOST_ENTRIES = 1 << 16

/** /proc/iomem: System RAM is memblock's memory, Kernel code and data are the image. */
export class IomemReader extends LineReader {
  private readonly top: Entry[] = []
  private readonly kernel: Entry[] = []
  /** Bounds of reserved memory inside System RAM: the kernel rounds them out to pages. */
  private bounds = 0n
  private count = 0
  private zero = 0
  private full = false

  line(text: string, line: number): boolean {
    const match = LINE.exec(text)
    if (match === null) return false
    this.found = true
    this.count++
    const start = BigInt(`0x${match[2]}`)
    const last = BigInt(`0x${match[3]}`)
    if (last === 0n) this.zero++
    if (last <= start) return true
    if (this.top.length + this.kernel.length === MOST_ENTRIES) {
      this.full = true
      return true
    }
    const entry = { start, end: last + 1n, name: ownText(match[4]!), line }
    if (match[1] === '') this.top.push(entry)
    else if (entry.name === 'reserved') this.bounds |= entry.start | entry.end
    else if (entry.name === 'Kernel code' || entry.name === 'Kernel data') this.kernel.push(entry)
    return true
  }

  override report(): void {
    const { findings } = this
    if (!this.found) return
    if (this.zero === this.count) {
      findings.note('all addresses are 0: /proc/iomem hides them from this reader; read it as root')
      return
    }
    if (this.full) findings.note(`holds more than ${MOST_ENTRIES} ranges; the first are used`)
    const ram = this.top.filter(({ name }) => name === 'System RAM')
    const first = ram[0]
    if (first !== undefined) {
      const { banks, extended } = this.banks(ram)
      const lines = ram.slice(0, MOST_LINES).map(({ line }) => line)
      const more = ram.length > MOST_LINES ? ` and ${ram.length - MOST_LINES} more` : ''
      const where = ram.length === 1 ? `line ${lines[0]}` : `lines ${lines.join(', ')}${more}`
      const rule = extended
        ? 'System RAM, and the reserved memory touching it (memblock holds it, the linear map leaves it out)'
        : 'System RAM'
      findings.say('dram', banks, where, rule)
    }
    if (this.bounds !== 0n && this.bounds % 8192n === 4096n) {
      const rule = 'they are rounded to pages, and some to no more than 4096'
      findings.say('pageSize', 4096, 'reserved ranges in System RAM', rule)
    }
    if (this.top.some(({ name }) => name.startsWith('System RAM ('))) {
      findings.note('memory added after boot ("System RAM (…)") is left out of dram: the layout was fixed before')
    }
    for (const { name, start, end, line } of this.kernel) {
      if (name === 'Kernel code') findings.say('codePhys', start, `line ${line}`, 'start of Kernel code')
      else findings.say('endPhys', end, `line ${line}`, 'end of Kernel data: physical address of _end')
    }
  }

  /**
   * arm64 lists all of memblock's memory at the top level, and calls memory that it must not map (the firmware's) "reserved". The kernel
   * computes tag_lsb from the ends of all of it, so such ranges count as DRAM if they touch System RAM.
   */
  private banks(ram: readonly Entry[]): { banks: Range[]; extended: boolean } {
    const reserved = this.top.filter(({ name }) => name === 'reserved')
    const byStart = groupBy(reserved, ({ start }) => start)
    const byEnd = groupBy(reserved, ({ end }) => end)
    // Deletes each group once it is used, so that every address is looked up once. The loop also visits the entries that it adds.
    const chosen = new Set(ram)
    for (const { start, end } of chosen) {
      for (const [index, place] of [[byStart, end] as const, [byEnd, start] as const]) {
        for (const entry of index.get(place) ?? []) chosen.add(entry)
        index.delete(place)
      }
    }
    return { banks: joinTouching(inOrder([...chosen])), extended: chosen.size > ram.length }
  }
}
