import { InvalidArgumentError } from 'commander'

// Values of the flags that describe machines and layouts.

export const PAGE_SIZES: Readonly<Record<string, number>> = { '4k': 4096, '16k': 16384, '64k': 65536 }

export function parseNumber(text: string): number {
  if (!/^[0-9]{1,3}$/.test(text)) throw new InvalidArgumentError('Expected a number of bits.')
  return Number(text)
}

/** START-END as the machine JSON writes it. */
export function parseRange(text: string): { start: string; end: string } {
  const [start, end, ...rest] = text.split('-')
  if (!start || !end || rest.length > 0)
    throw new InvalidArgumentError('Expected START-END, such as 0x40000000-0xc0000000.')
  return { start, end }
}

export function parseRanges(
  text: string,
  previous: { start: string; end: string }[] = [],
): { start: string; end: string }[] {
  return [...previous, parseRange(text)]
}
