import { HypvaError } from '../../errors.js'
import { parseLayout } from '../../layout/json.js'
import { type ByteSource, readFully } from '../../source.js'
import type { FileFindings } from '../facts.js'

/** No layout is as large. */
const MOST_BYTES = 1 << 20

/**
 * Reads a layout that hypva wrote; whether the file is one.
 * @throws HypvaError `HYPVA_LAYOUT` for a broken one
 */
export function readLayout(source: ByteSource, findings: FileFindings): boolean {
  const bytes = new Uint8Array(MOST_BYTES)
  const size = readFully(source, 0, bytes)
  const text = new TextDecoder().decode(bytes.subarray(0, size))
  if (size === MOST_BYTES || !/^\s*\{/.test(text) || !text.includes('"hypva-layout/1"')) return false
  try {
    findings.sayLayout(parseLayout(text))
  } catch (error) {
    throw new HypvaError('HYPVA_LAYOUT', `${source.name}: ${(error as Error).message}`)
  }
  return true
}
