import { type ByteSource, readFully } from '../source.js'

/** `mrs Xn, tpidr_el1` and `mrs Xn, tpidr_el2` with any register: the kernel reads the base of its per-CPU data. */
const TPIDR_EL1 = 0xd538d080
const TPIDR_EL2 = 0xd53cd040
const REGISTER = 0x1f

/** Fewer reads than this prove nothing. A MiB of text has hundreds. */
const LEAST = 16

/**
 * Counts the reads of TPIDR_EL1 and TPIDR_EL2 in kernel text. The kernel builds each read of TPIDR_EL1 with an alternative that reads
 * TPIDR_EL2, and keeps both in its text. Since 4.16 a host that runs at EL2 replaces the original by the alternative at boot. So the
 * two counts are about equal without VHE; with VHE almost no read of TPIDR_EL1 is left.
 */
export function perCpuReads(source: ByteSource, offset: number, length: number) {
  const bytes = new Uint8Array(length)
  const reads = { el1: 0, el2: 0 }
  let have: number
  try {
    have = readFully(source, offset, bytes)
  } catch {
    return reads
  }
  const view = new DataView(bytes.buffer)
  for (let at = 0; at + 4 <= have; at += 4) {
    const word = (view.getUint32(at, true) & ~REGISTER) >>> 0
    if (word === TPIDR_EL1) reads.el1++
    else if (word === TPIDR_EL2) reads.el2++
  }
  return reads
}

/** Whether these counts are those of a host that runs at EL2. */
export function isVheText({ el1, el2 }: ReturnType<typeof perCpuReads>): boolean {
  return el2 >= LEAST && el1 * 8 < el2
}
