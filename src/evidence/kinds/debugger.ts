import { formatU64, wrap64 } from '../../u64.js'
import type { FileFindings } from '../facts.js'

/** The variables that are known; the prefix of EL2's own may stand before the fourth. */
export const VARIABLES = [
  ...['tag_lsb', 'tag_val', 'va_mask'],
  ...['hyp_physvirt_offset', 'memstart_addr', 'kimage_voffset', 'hyp_idmap_start'],
]
const NAMES = VARIABLES.join('|').replace('hyp_physvirt', '(?:__kvm_nvhe_)?hyp_physvirt')
/** No 64-bit value has more digits. */
const VALUE = '(-?0x[0-9a-fA-F]{1,16}|-?[0-9]{1,20})(?![0-9a-zA-Z])'
/** `tag_val = 0x1e83`, crash's `tag_val = $1 = 7811`, drgn's `tag_val = (u64)7811`, `tag_val: 7811`. */
const ASSIGNMENT = new RegExp(
  String.raw`(?<![\w.])(${NAMES})\s*[=:]\s*(?:\$\d+\s*=\s*)?(?:\([^()]*\)\s*)?${VALUE}`,
  'g',
)
/** `x/gx &tag_val`: `0xffff…<tag_val>:	0x1e83`. */
const EXAMINED = new RegExp(String.raw`<(${NAMES})>:\s+${VALUE}`)
/** The command whose answer is the next line: `(gdb) p/x tag_val`, `crash> p tag_val`, `>>> prog["tag_val"]`. */
const COMMAND = new RegExp(
  String.raw`^(?:\(gdb\)|crash(?:64)?>|gdb-?\w*[$>]|>>>)\s*(?:p|print|px|pd|output|prog\[['"])(?:/\w+)?\s*(${NAMES})\b|^>>>\s*prog\[['"](${NAMES})['"]\]`,
)
const ANSWER = new RegExp(String.raw`^(?:\$\d+\s*=\s*)?(?:\([^()]*\)\s*)?${VALUE}`)

/** What gdb, crash or drgn printed of the kernel's own variables. */
export class DebuggerReader {
  private asked: string | undefined
  private count = 0
  private unnamed = 0
  private readonly findings: FileFindings

  constructor(findings: FileFindings) {
    this.findings = findings
  }

  get found(): boolean {
    return this.count > 0 || this.unnamed > 0
  }

  line(text: string, line: number): boolean {
    const command = COMMAND.exec(text)
    if (command !== null) {
      this.asked = command[1] ?? command[2]
      return true
    }
    const { asked } = this
    this.asked = undefined
    let known = false
    for (const [, name, value] of text.matchAll(ASSIGNMENT)) {
      this.say(name!, value!, line)
      known = true
    }
    if (known) return true
    const examined = EXAMINED.exec(text)
    if (examined !== null) {
      this.say(examined[1]!, examined[2]!, line)
      return true
    }
    const answer = ANSWER.exec(text)
    if (answer !== null && asked !== undefined) {
      this.say(asked, answer[1]!, line)
      return true
    }
    if (answer !== null && text.startsWith('$')) {
      this.unnamed++
      return true
    }
    return false
  }

  report(): void {
    if (this.unnamed > 0 && this.count === 0) {
      this.findings.note(
        'values ($1 = …) without the names of what was printed: keep the commands, or write tag_val = …',
      )
    }
  }

  private say(name: string, text: string, line: number): void {
    const value = wrap64(text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text))
    this.count++
    sayVariable(this.findings, name, value, `line ${line}`, `the kernel's ${name}, by a debugger`)
  }
}

/** A variable of the kernel, by the name it has there. Values that no booted kernel has say nothing. */
export function sayVariable(findings: FileFindings, name: string, value: bigint, where: string, rule: string): void {
  switch (name) {
    case 'tag_lsb':
      if (value >= 1n && value <= 63n) findings.say('tagLsb', Number(value), where, rule)
      else findings.note(`${where}: tag_lsb is ${value}: not set yet, not readable, or the host runs with VHE`)
      break
    case 'tag_val':
      findings.say('tagVal', value, where, rule)
      break
    case 'va_mask':
      if (value !== 0n && (value & (value + 1n)) === 0n && value < 1n << 63n) findings.say('vaMask', value, where, rule)
      else findings.note(`${where}: va_mask is ${formatU64(value)}, no mask of low bits: not set yet, or not readable`)
      break
    case 'hyp_physvirt_offset':
    case '__kvm_nvhe_hyp_physvirt_offset':
      if (value !== 0n) findings.say('hypPhysvirtOffset', value, where, rule)
      break
    case 'memstart_addr':
      // -1 until memblock is set up.
      if (value !== wrap64(-1n)) findings.say('physOffset', value, where, rule)
      break
    case 'kimage_voffset':
      if (value !== 0n) findings.say('kimageVoffset', value, where, rule)
      break
    case 'hyp_idmap_start':
      if (value !== 0n && value % 4096n === 0n) findings.say('idmap', value, where, rule)
      break
    case 'kvm_mode':
      if ((value & 0xffffffffn) === 1n) findings.say('mode', 'protected', where, `${rule}: KVM_MODE_PROTECTED`)
      break
  }
}
