const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const

/** A size for a label: a few digits and a unit, with ≈ where that is not exact. */
export function sizeText(bytes: bigint): string {
  let unit = 0
  // Up to 9999: 3968 TiB is what people say.
  while (unit < UNITS.length - 1 && bytes >= 10_000n << BigInt(10 * unit)) unit++
  while (unit < UNITS.length - 1 && bytes > 0n && bytes % (1n << BigInt(10 * (unit + 1))) === 0n) unit++
  const whole = 1n << BigInt(10 * unit)
  if (bytes % whole === 0n) return `${bytes / whole} ${UNITS[unit]}`
  if (bytes >= 100n * whole) return `≈${(bytes + whole / 2n) / whole} ${UNITS[unit]}`
  const tenths = (bytes * 10n + whole / 2n) / whole
  return `≈${tenths / 10n}${tenths % 10n === 0n ? '' : `.${tenths % 10n}`} ${UNITS[unit]}`
}

/** The logarithm of a size to base 2, 0 for nothing. */
export function bitsOf(bytes: bigint): number {
  return bytes === 0n ? 0 : bytes.toString(2).length - 1
}
