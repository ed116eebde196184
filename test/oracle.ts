// Oracles: slow, obvious, and of no code in common with what they check.

/** A range of 64-bit values and what is added to them. */
export interface OracleSegment {
  start: bigint
  end: bigint
  delta: bigint
}

const WORD = /^[0-9A-Za-z_]$/
const TOKEN = /^(0[xX])?([0-9a-fA-F]+)$/

/**
 * DESIGN's "What is an address in text", word by word over Latin-1 text.
 * @param fewestDigits what misses and has fewer is not counted
 */
export function rewriteTextOracle(
  text: string,
  translate: (address: bigint) => bigint | undefined,
  fewestDigits = 1,
): { text: string; translated: number; missed: number; firstMiss: number } {
  let result = ''
  let translated = 0
  let missed = 0
  let firstMiss = -1
  for (let at = 0; at < text.length; ) {
    let end = at
    while (end < text.length && WORD.test(text[end]!)) end++
    if (end === at) {
      result += text[at++]
      continue
    }
    const word = text.slice(at, end)
    const match = TOKEN.exec(word)
    const digits = match?.[2] ?? ''
    const isToken = match !== null && digits.length <= 16 && (match[1] !== undefined || digits.length >= 9)
    const value = isToken ? translate(BigInt(`0x${digits}`)) : undefined
    if (isToken && value !== undefined) {
      translated++
      const plain = value.toString(16)
      const padded = digits.length === 16 ? plain.padStart(16, '0') : plain
      const upper = /[A-F]/.test(digits) && !/[a-f]/.test(digits)
      result += (match[1] ?? '') + (upper ? padded.toUpperCase() : padded)
    } else {
      if (isToken && digits.length >= fewestDigits) {
        if (firstMiss < 0) firstMiss = at
        missed++
      }
      result += word
    }
    at = end
  }
  return { text: result, translated, missed, firstMiss }
}

/** One address through a list of segments, by trying each. */
export function translateOracle(segments: readonly OracleSegment[], x: bigint): bigint | undefined {
  for (const { start, end, delta } of segments) if (x >= start && x < end) return (x + delta) % 2n ** 64n
  return undefined
}

export const latin1 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'))
export const fromLatin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
