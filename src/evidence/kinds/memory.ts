import { countOdd } from '../../content.js'
import { type ByteSource, readFully } from '../../source.js'
import { formatU64 } from '../../u64.js'
import type { FileFindings } from '../facts.js'
import { PatchScanner, weigh } from '../patch-scan.js'

/** Scans all of a file as raw memory; whether it shows kern_hyp_va's sequence, patched or not. */
export function scanMemory(source: ByteSource, findings: FileFindings): boolean {
  const scanner = new PatchScanner()
  scanner.scan(source, 0, undefined, 0n)
  reportScan(scanner, findings, 'offset')
  return scanner.groups.length > 0 || scanner.unpatched !== undefined
}

/** Logs that begin with garbage are not larger. */
const MOST_LOG = 1 << 26

/** Whether a file that does not begin as text is text by the rest of it. */
export function isMostlyText(source: ByteSource): boolean {
  if (source.sequential === 'once' || source.size === undefined || source.size > MOST_LOG) return false
  const chunk = new Uint8Array(1 << 16)
  let odd = 0
  for (let at = 0; at < source.size; at += chunk.length) {
    const got = readFully(source, at, chunk)
    odd += countOdd(chunk.subarray(0, got))
  }
  return odd * 64 <= source.size
}

/**
 * Turns the hits of a scan into facts and notes.
 * @param unit what the places of the hits are: an offset, a physical address
 */
export function reportScan(scanner: PatchScanner, findings: FileFindings, unit: string): void {
  const { best, strays, rivals } = weigh(scanner.groups)
  const places = (at: readonly bigint[], count: number) => {
    const more = count > at.length ? ` and ${count - at.length} more` : ''
    return `${at.map(formatU64).join(', ')}${more}`
  }
  if (best !== undefined) {
    const { count, form, at } = best
    const where = `${unit} ${formatU64(at[0]!)}${count > 1 ? ` and ${count - 1} more` : ''}`
    const rule = `patched instruction sequence${form === 'mask-only' ? ' (mask only: the tag is zero)' : ''}${count > 1 ? `, ${count} that agree` : ''}`
    findings.say('tagLsb', best.tagLsb, where, rule)
    findings.say('tagVal', best.tagVal, where, rule)
  }
  for (const rival of rivals) {
    const where = `${unit} ${places(rival.at, rival.count)}`
    findings.say('tagLsb', rival.tagLsb, where, `patched instruction sequence, ${rival.count} that agree`)
    findings.say('tagVal', rival.tagVal, where, `patched instruction sequence, ${rival.count} that agree`)
    findings.rivals.push(rival)
  }
  if (rivals.length > 0) findings.note(`holds patched text of ${rivals.length} kernels or boots`)
  for (const { tagLsb, tagVal, count, at } of strays) {
    findings.note(
      `${count} patched sequence${count === 1 ? '' : 's'} disagree: tag_lsb ${tagLsb}, tag_val ${formatU64(tagVal)} at ${unit} ${places(at, count)}`,
    )
  }
  const swapped = best?.swapped ?? rivals.some((rival) => rival.swapped)
  if (swapped) findings.note('the bytes of every 32-bit word are reversed (big-endian data): read accordingly')
  if (scanner.unpatched !== undefined) {
    const { count, first } = scanner.unpatched
    const what = `${count} kern_hyp_va sequence${count === 1 ? '' : 's'} before patching, first at ${unit} ${formatU64(first)}`
    findings.note(
      best === undefined && rivals.length === 0
        ? `${what}: a kernel image as built, or memory from before KVM patched it; the kernel chooses the tag at boot, so it is not here`
        : what,
    )
  }
  if (scanner.unreadable > 0) findings.note(`${scanner.unreadable} bytes could not be read and were skipped`)
}
