import type { PageSize } from '../../layout/types.js'
import { wrap64 } from '../../u64.js'
import type { FileFindings } from '../facts.js'

const LINE =
  /^(?:(OSRELEASE|BUILD-ID|PAGESIZE|KERNELOFFSET|CRASHTIME)|(NUMBER|SYMBOL|OFFSET|SIZE|LENGTH)\(([^)]+)\))=(.*)$/

/** VMCOREINFO: /sys/kernel/vmcoreinfo's text, which cores carry as a note. */
export class VmcoreinfoReader {
  private count = 0
  private readonly findings: FileFindings
  private readonly place: (line: number) => string

  /** @param place says where a line stands */
  constructor(findings: FileFindings, place: (line: number) => string = (line) => `line ${line}`) {
    this.findings = findings
    this.place = place
  }

  get found(): boolean {
    return this.count > 0
  }

  line(text: string, line: number): boolean {
    const match = LINE.exec(text)
    if (match === null) return false
    this.count++
    const [, plain, kind, name, value = ''] = match
    const where = this.place(line)
    const { findings } = this
    const rule = `VMCOREINFO ${plain ?? `${kind}(${name})`}`
    switch (plain ?? `${kind}(${name})`) {
      case 'OSRELEASE':
        findings.say('release', value, where, rule)
        break
      case 'PAGESIZE':
        if (['4096', '16384', '65536'].includes(value)) findings.say('pageSize', Number(value) as PageSize, where, rule)
        break
      case 'KERNELOFFSET':
        if (/^[0-9a-f]{1,16}$/.test(value)) findings.say('kaslrOffset', BigInt(`0x${value}`), where, rule)
        break
      case 'NUMBER(VA_BITS)':
        if (/^\d\d$/.test(value)) findings.say('vaBits', Number(value), where, rule)
        break
      case 'NUMBER(TCR_EL1_T1SZ)': {
        const size = number(value)
        if (size !== undefined && size >= 12n && size <= 28n) {
          findings.say('vaBitsActual', 64 - Number(size), where, `${rule}: 64 - ${size}`)
        }
        break
      }
      case 'NUMBER(kimage_voffset)':
        this.say('kimageVoffset', value, where, rule)
        break
      case 'NUMBER(PHYS_OFFSET)':
        this.say('physOffset', value, where, rule)
        break
      case 'NUMBER(MODULES_END)':
        this.say('linkBase', value, where, `${rule}: KIMAGE_VADDR`)
        break
      case 'SYMBOL(_stext)':
        this.say('stext', `0x${value}`, where, rule)
        break
    }
    return true
  }

  private say(field: 'kimageVoffset' | 'physOffset' | 'linkBase' | 'stext', text: string, where: string, rule: string) {
    const value = number(text)
    if (value !== undefined) this.findings.say(field, value, where, rule)
  }
}

/** A hex or decimal number, possibly negative, modulo 2^64. */
function number(text: string): bigint | undefined {
  if (/^0x[0-9a-f]{1,16}$/i.test(text)) return BigInt(text)
  if (/^-?\d{1,20}$/.test(text)) return wrap64(BigInt(text))
  return undefined
}
