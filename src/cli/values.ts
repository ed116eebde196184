import { InvalidArgumentError } from 'commander'
import { describe, formatU64, type Range, U64_MAX } from '../u64.js'

// Numbers as people type them on the command line. They mean the same in every command.

export const PAGE_SIZES: Readonly<Record<string, number>> = { '4k': 4096, '16k': 16384, '64k': 65536 }

/** A number of bits, in decimal as everyone writes it. */
export function parseBits(text: string): number {
  if (!/^[0-9]{1,3}$/.test(text)) throw new InvalidArgumentError('Expected a number of bits.')
  return Number(text)
}

/**
 * A 64-bit value: hexadecimal, with or without 0x. A number that someone may have meant to be decimal is refused.
 * @param max 2^64 for the end of a range
 */
export function parseWord(text: string, max = U64_MAX): bigint {
  if (!/^(0[xX])?[0-9a-fA-F]+$/.test(text)) {
    throw new InvalidArgumentError(`Expected a value like 0xffff000040000000, got ${describe(text)}.`)
  }
  // Up to 9 both readings agree, and nobody pads a decimal number with zeros.
  if (/^[1-9][0-9]+$/.test(text)) {
    const decimal = BigInt(text)
    if (decimal > max) throw new InvalidArgumentError(`${describe(text)} needs more than 64 bits.`)
    const hex = text.length <= 16 ? `0x${text} or, for the decimal number, ` : ''
    throw new InvalidArgumentError(
      `${describe(text)} may be hexadecimal or decimal: write ${hex}${formatU64(decimal)}.`,
    )
  }
  const value = BigInt(/^0[xX]/.test(text) ? text : `0x${text}`)
  if (value > max) throw new InvalidArgumentError(`${describe(text)} needs more than 64 bits.`)
  return value
}

/** START-END, half-open. */
export function parseRange(text: string): Range {
  const [start, end, ...rest] = text.split('-')
  if (!start || !end || rest.length > 0)
    throw new InvalidArgumentError('Expected START-END, such as 0x40000000-0xc0000000.')
  return { start: parseWord(start), end: parseWord(end, U64_MAX + 1n) }
}

/** One more value of an argument or option that users may repeat. */
export function collect(text: string, previous: readonly string[] = []): string[] {
  return [...previous, text]
}
