import { wrap64 } from '../u64.js'
import type { FileFindings } from './facts.js'

const HEX = '(?:0[xX])?([0-9a-fA-F]{8,16})'
/** Words that may stand around the addresses of a pair. Others make it some other kind of line. */
const WORDS = '(?:kern(?:el)?|hyp(?:ervisor)?|linear|image|el1|el2|vaddr|va|addr(?:ess)?|to|is|maps|at|and)'
const FILLER = String.raw`(?:[^0-9A-Za-z_]|\b${WORDS}\b)*`
const NAME = String.raw`[\[<(]*([A-Za-z_][\w.$]*)(?:\+0x([0-9a-f]+)(?:/0x[0-9a-f]+)?)?[\])>]*`
/** Kernel and hyp address in either order, then perhaps what is there. */
const TWO = new RegExp(`^${FILLER}${HEX}(?![0-9A-Za-z_])${FILLER}${HEX}(?:[^0-9A-Za-z_+]+${NAME})?[^0-9A-Za-z_]*$`, 'i')
/** A hyp address and a symbol, in either order. */
const NAMED = new RegExp(String.raw`^\s*0[xX]?([0-9a-fA-F]{7,16})(?:[^0-9A-Za-z_]|\b(?:is|at)\b)+${NAME}\s*$`)
const NAMED_FIRST = new RegExp(String.raw`^\s*${NAME}(?:[\s,;]|->|=>|\b(?:is|at)\b)+0[xX]([0-9a-fA-F]{10,16})\s*$`)

/** Below this a value is no hyp address of linear memory, whatever it is. */
const LEAST = 1n << 24n

/** Known pairs: an address of the kernel (or a symbol) and where EL2 has it. */
export class PairReader {
  readonly names = new Set<string>()
  private count = 0
  private readonly findings: FileFindings

  constructor(findings: FileFindings) {
    this.findings = findings
  }

  get found(): boolean {
    return this.count > 0
  }

  line(text: string, line: number): boolean {
    if (text.length > 256) return false
    const bare = text.replace(/\s+#.*$/, '')
    const two = TWO.exec(bare)
    if (two !== null) {
      const [, a, b] = two
      const first = untagged(BigInt(`0x${a}`))
      const second = untagged(BigInt(`0x${b}`))
      const [kernel, hyp] = isKernel(first) ? [first, second] : [second, first]
      if (!isKernel(kernel) || !isHyp(hyp)) return false
      return this.add(kernel, undefined, hyp, line)
    }
    const named = NAMED.exec(bare)
    const first = named === null ? NAMED_FIRST.exec(bare) : null
    const [name, offset, address] =
      named !== null ? [named[2], named[3], named[1]] : [first?.[1], first?.[2], first?.[3]]
    if (name === undefined || address === undefined || new RegExp(`^${WORDS}$`, 'i').test(name)) return false
    const hyp = BigInt(`0x${address}`)
    if (!isHyp(hyp)) return false
    this.names.add(name)
    return this.add(undefined, name, wrap64(hyp - BigInt(`0x${offset ?? '0'}`)), line)
  }

  private add(kernel: bigint | undefined, symbol: string | undefined, hyp: bigint, line: number): true {
    this.count++
    this.findings.pair(kernel, symbol, hyp, `line ${line}`)
    return true
  }
}

/** Bit 55 tells kernel from user; tags above it (TBI, MTE, KASAN) are taken off. */
function untagged(address: bigint): bigint {
  return (address >> 55n) & 1n ? address | (0xffn << 56n) : address
}

function isKernel(address: bigint): boolean {
  return address >> 52n === 0xfffn
}

function isHyp(address: bigint): boolean {
  return address >> 52n === 0n && address >= LEAST
}
