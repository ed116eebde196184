import type { Range } from './inputs.js'

// Text the way one would rewrite it in JavaScript alone: tokens of sixteen digits, as kernel addresses have them.

const DIGITS = 16
/** By byte: 0 … 15 the value of a digit, 16 another byte of a word, 17 none of a word. */
const CLASS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte)
  return /[0-9a-fA-F]/.test(char) ? Number.parseInt(char, 16) : /[g-zG-Z_]/.test(char) ? 16 : 17
})
const LOWER = Uint8Array.from('0123456789abcdef', (char) => char.charCodeAt(0))

/** Bytes, table lookups and 32-bit halves; nothing is allocated. `output` is as long as `input`. */
export function byteLoop(ranges: readonly Range[]): (input: Uint8Array, output: Uint8Array) => void {
  const split = (x: bigint) => [Number(x >> 32n) >>> 0, Number(x & 0xffffffffn) >>> 0] as const
  // Ends are the last address, so that a range may reach up to 2^64.
  const table = ranges.map(({ start, end, delta }) => [...split(start), ...split(end - 1n), ...split(delta)] as const)
  return (input, output) => {
    const { length } = input
    for (let at = 0; at < length; ) {
      let kind = CLASS[input[at]!]!
      if (kind === 17) {
        output[at] = input[at]!
        at++
        continue
      }
      const begin = at
      let high = 0
      let low = 0
      let digits = 0
      let token = true
      if (input[at] === 0x30 && at + 1 < length && (input[at + 1]! | 0x20) === 0x78) {
        at += 2
        kind = at < length ? CLASS[input[at]!]! : 17
      }
      const first = at
      while (kind !== 17) {
        if (kind === 16) token = false
        high = (high << 4) | (low >>> 28)
        low = (low << 4) | (kind & 15)
        digits++
        at++
        kind = at < length ? CLASS[input[at]!]! : 17
      }
      for (let i = begin; i < at; i++) output[i] = input[i]!
      if (!token || digits !== DIGITS) continue
      high >>>= 0
      low >>>= 0
      for (let r = 0; r < table.length; r++) {
        const [startHigh, startLow, endHigh, endLow, deltaHigh, deltaLow] = table[r]!
        if (high < startHigh || (high === startHigh && low < startLow)) continue
        if (high > endHigh || (high === endHigh && low > endLow)) continue
        const sum = low + deltaLow
        let rest = sum >>> 0
        let upper = (high + deltaHigh + (sum > 0xffffffff ? 1 : 0)) >>> 0
        for (let i = first + DIGITS - 1; i >= first; i--) {
          output[i] = LOWER[rest & 15]!
          rest = (rest >>> 4) | (upper << 28)
          upper >>>= 4
        }
        break
      }
    }
  }
}

/** A regular expression and bigints, from string to string. */
export function regex(ranges: readonly Range[]): (text: string) => string {
  const TOKEN = /(?<![0-9A-Za-z_])(0[xX])?([0-9a-fA-F]{16})(?![0-9A-Za-z_])/g
  return (text) =>
    text.replace(TOKEN, (all, prefix: string | undefined, digits: string) => {
      const x = BigInt(`0x${digits}`)
      for (const { start, end, delta } of ranges) {
        if (x >= start && x < end) {
          return (
            (prefix ?? '') +
            BigInt.asUintN(64, x + delta)
              .toString(16)
              .padStart(DIGITS, '0')
          )
        }
      }
      return all
    })
}
