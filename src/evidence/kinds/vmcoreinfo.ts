import { wrap64 } from '../../u64.js'
import type { FileFindings, Quantity } from '../facts.js'
import { LineReader } from '../line-reader.js'

const LINE =
  /^(?:(?:OSRELEASE|BUILD-ID|PAGESIZE|KERNELOFFSET|CRASHTIME)|(?:NUMBER|SYMBOL|OFFSET|SIZE|LENGTH)\([^)]+\))(?==.*$)/

/** The entries that show something of the layout: the field, its value (undefined for text that is none), and what to add to the rule. */
const ENTRIES: Readonly<
  Record<string, readonly [field: Quantity, value: (text: string) => unknown, note?: (text: string) => string]>
> = {
  OSRELEASE: ['release', (text) => text],
  PAGESIZE: ['pageSize', (text) => (['4096', '16384', '65536'].includes(text) ? Number(text) : undefined)],
  KERNELOFFSET: ['kaslrOffset', (text) => (/^[0-9a-f]{1,16}$/.test(text) ? BigInt(`0x${text}`) : undefined)],
  'NUMBER(VA_BITS)': ['vaBits', (text) => (/^\d\d$/.test(text) ? Number(text) : undefined)],
  'NUMBER(TCR_EL1_T1SZ)': ['vaBitsActual', bitsOfT1sz, (text) => `: 64 - ${number(text)}`],
  'NUMBER(kimage_voffset)': ['kimageVoffset', number],
  'NUMBER(PHYS_OFFSET)': ['physOffset', number],
  'NUMBER(MODULES_END)': ['linkBase', number, () => ': KIMAGE_VADDR'],
  'SYMBOL(_stext)': ['stext', (text) => number(`0x${text}`)],
}

/** VMCOREINFO: /sys/kernel/vmcoreinfo's text, which cores carry as a note. */
export class VmcoreinfoReader extends LineReader {
  private readonly place: (line: number) => string

  /** @param place says where a line stands */
  constructor(findings: FileFindings, place: (line: number) => string = (line) => `line ${line}`) {
    super(findings)
    this.place = place
  }

  line(text: string, line: number): boolean {
    const [name] = LINE.exec(text) ?? []
    if (name === undefined) return false
    this.found = true
    const [field, read, note] = ENTRIES[name] ?? []
    const shown = text.slice(name.length + 1)
    const value = read?.(shown)
    if (field !== undefined && value !== undefined) {
      this.findings.say(field, value as never, this.place(line), `VMCOREINFO ${name}${note?.(shown) ?? ''}`)
    }
    return true
  }
}

function bitsOfT1sz(text: string): number | undefined {
  const size = number(text)
  return size !== undefined && size >= 12n && size <= 28n ? 64 - Number(size) : undefined
}

/** A hex or decimal number, possibly negative, modulo 2^64. */
function number(text: string): bigint | undefined {
  if (/^0x[0-9a-f]{1,16}$/i.test(text)) return BigInt(text)
  if (/^-?\d{1,20}$/.test(text)) return wrap64(BigInt(text))
  return undefined
}
