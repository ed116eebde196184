import { formatU64, type Range } from '../u64.js'

/** JSON for programs: 64-bit values as hex strings, as everywhere in hypva's formats. */
export function toJson(value: unknown): string {
  return `${JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? formatU64(v) : v), 2)}\n`
}

/** Start and last address, as the kernel prints ranges. */
export function formatRange({ start, end }: Range): string {
  const hex = (value: bigint) => value.toString(16).padStart(16, '0')
  return `${hex(start)}–${hex(end - 1n)}`
}
