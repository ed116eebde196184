import type { LineFilter } from '../source.js'

// Most lines of a log are no evidence, and a log can have any length. Every line that a reader looks for has one of these marks, so
// hypva turns only lines with one of them into strings:
// - seven hex digits in a row (an address),
// - four characters of a word (a gram), upper or lower case,
// - at its beginning two capitals (VMCOREINFO) or a dollar sign (a debugger's answer).

const DIGITS = 7
const GRAM = 4
/** Common characters of logs, the commonest first: a gram of rare ones is in few lines. */
const COMMON = ' etaoinsrhldcumfpgwybvkxjqz'

/** Picks the four characters of a word that the fewest other lines contain. */
function gramOf(word: string): string {
  const commonness = (gram: string) =>
    [...gram].reduce((sum, char) => sum + (COMMON.includes(char) ? COMMON.length - COMMON.indexOf(char) : 0), 0)
  const lower = word.toLowerCase()
  const grams = Array.from({ length: lower.length - GRAM + 1 }, (_, i) => lower.slice(i, i + GRAM))
  return grams.reduce((best, gram) => (commonness(gram) < commonness(best) ? gram : best))
}

const HEX = new Uint8Array(256)
for (const char of '0123456789abcdefABCDEF') HEX[char.charCodeAt(0)] = 1

/** Hash of the four bytes that end at `last`, the same for upper and lower case. */
const hash = (bytes: Uint8Array, last: number): number =>
  ((bytes[last - 3]! | 0x20) << 24) |
  ((bytes[last - 2]! | 0x20) << 16) |
  ((bytes[last - 1]! | 0x20) << 8) |
  (bytes[last]! | 0x20)

/** A word as lower-case bytes, and the index of the last byte of its gram. */
interface Word {
  readonly bytes: Uint8Array
  readonly last: number
}

/** Finds lines that hold one of `words` (each of four characters or more), or an address, or begin like VMCOREINFO or an answer. */
export function lineFilter(words: readonly string[]): LineFilter {
  const grams: string[] = []
  const wanted = new Map<number, Word[]>()
  for (const word of words) {
    const gram = gramOf(word)
    const bytes = Uint8Array.from(word.toLowerCase(), (char) => char.charCodeAt(0))
    const last = word.toLowerCase().indexOf(gram) + GRAM - 1
    const key = hash(bytes, last)
    wanted.set(key, [...(wanted.get(key) ?? []), { bytes, last }])
    grams.push(gram)
  }
  // Wu and Manber's table of shifts: how far ahead of two bytes a gram can end at the earliest.
  const shift = new Uint8Array(1 << 16).fill(GRAM - 1)
  for (const gram of grams) {
    for (let at = 0; at + 1 < GRAM; at++) {
      for (const first of bothCases(gram.charCodeAt(at))) {
        for (const second of bothCases(gram.charCodeAt(at + 1))) {
          const pair = (first << 8) | second
          shift[pair] = Math.min(shift[pair]!, GRAM - 2 - at)
        }
      }
    }
  }
  return {
    find(bytes, end, places) {
      let count = 0
      for (let i = GRAM - 1; i < end; ) {
        const skip = shift[(bytes[i - 1]! << 8) | bytes[i]!]!
        if (skip > 0) {
          i += skip
          continue
        }
        if (wanted.get(hash(bytes, i))?.some((word) => isAt(word, bytes, i))) {
          if (count === places.length) return count
          places[count++] = i
        }
        i++
      }
      const words = count
      for (let i = DIGITS - 1; i < end; ) {
        if (HEX[bytes[i]!] === 0) {
          i += DIGITS
          continue
        }
        let first = i
        while (first > i - DIGITS && HEX[bytes[first]!] === 1) first--
        if (first > i - DIGITS) {
          i = first + DIGITS
          continue
        }
        if (count === places.length) return count
        places[count++] = i
        // A row of digits counts once.
        while (i < end && HEX[bytes[i]!] === 1) i++
        i += DIGITS - 1
      }
      if (words > 0) places.subarray(0, count).sort()
      return count
    },
    begins(first, second) {
      return first === 0x24 || (first >= 65 && first <= 90 && second >= 65 && second <= 90)
    },
  }
}

/** Whether `text` has the word with its gram ending at `place`. Bytes other than letters may differ in a bit: an extra line does no harm. */
function isAt({ bytes, last }: Word, text: Uint8Array, place: number): boolean {
  const start = place - last
  if (start < 0) return false
  for (let i = 0; i < bytes.length; i++) {
    if ((bytes[i]! | 0x20) !== (text[start + i]! | 0x20)) return false
  }
  return true
}

function bothCases(byte: number): number[] {
  const lower = byte | 0x20
  return lower >= 97 && lower <= 122 ? [lower, byte & ~0x20] : [byte]
}
