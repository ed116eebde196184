import type { ByteSource } from '../source.js'
import { readFully } from '../source.js'

/** `mrs Xn, tpidr_el1` and `mrs Xn, tpidr_el2`, whatever the register: how the kernel finds its per-CPU data. */
const TPIDR_EL1 = 0xd538d080
const TPIDR_EL2 = 0xd53cd040
const REGISTER = 0x1f

/** Fewer reads than this say nothing. A MiB of text has hundreds. */
const LEAST = 16

/** How kernel text reads the register of its per-CPU data. */
interface PerCpuReads {
  readonly el1: number
  readonly el2: number
}

/**
 * Counts the reads of TPIDR_EL1 and TPIDR_EL2 in kernel text. Each read of the former is built with an alternative that reads the
 * latter, which stands in the text as well; at boot the alternative replaces the original when the host runs at EL2 (since 4.16). So there
 * are about as many of both, or, with VHE, next to none of TPIDR_EL1.
 */
export function perCpuReads(source: ByteSource, offset: number, length: number): PerCpuReads {
  const bytes = new Uint8Array(length)
  let have: number
  try {
    have = readFully(source, offset, bytes)
  } catch {
    return { el1: 0, el2: 0 }
  }
  const view = new DataView(bytes.buffer)
  let el1 = 0
  let el2 = 0
  for (let at = 0; at + 4 <= have; at += 4) {
    const word = (view.getUint32(at, true) & ~REGISTER) >>> 0
    if (word === TPIDR_EL1) el1++
    else if (word === TPIDR_EL2) el2++
  }
  return { el1, el2 }
}

/** Whether text that reads its registers so is that of a host at EL2. */
export function isVheText({ el1, el2 }: PerCpuReads): boolean {
  return el2 >= LEAST && el1 * 8 < el2
}
