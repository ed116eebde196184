import { wrap64 } from '../../u64.js'
import { LineReader } from '../line-reader.js'
import { sayVariable } from './variables.js'

/** The variables that a debugger may print; `hyp_physvirt_offset` also with the prefix of EL2's own. */
export const DEBUGGER_WORDS = [
  ...['tag_lsb', 'tag_val', 'va_mask'],
  ...['hyp_physvirt_offset', 'memstart_addr', 'kimage_voffset', 'hyp_idmap_start'],
]
const NAMES = DEBUGGER_WORDS.join('|').replace('hyp_physvirt', '(?:__kvm_nvhe_)?hyp_physvirt')
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
export class DebuggerReader extends LineReader {
  private asked: string | undefined
  private named = false

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
      this.found = true
      return true
    }
    return false
  }

  override report(): void {
    if (this.found && !this.named) {
      this.findings.note('values ($1 = …) without names: include the commands, or write tag_val = …')
    }
  }

  private say(name: string, text: string, line: number): void {
    const value = wrap64(text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text))
    this.found = true
    this.named = true
    sayVariable(this.findings, name, value, `line ${line}`, `the kernel's ${name}, by a debugger`)
  }
}
