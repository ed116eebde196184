import type { CensusResult } from '../translate/census.js'

/** Characters of the longest bar. */
const BAR = 24
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']

/** How often addresses of each region and symbol were seen, most frequent first, with shares and bars. */
export function formatCensus(census: CensusResult, top: number, withSymbols: boolean): string {
  const { addresses, regions, elsewhere, symbols, named } = census
  const lines = [`${addresses} ${addresses === 1 ? 'address' : 'addresses'}`, '', 'Regions']
  const rows = regions.map(({ count, kind, text }) => ({ count, text: `${kind}: ${text}` }))
  if (elsewhere > 0) rows.push({ count: elsewhere, text: 'elsewhere: in no region that the layout tells' })
  lines.push(...table(rows, addresses))
  if (withSymbols) {
    lines.push('', `Symbols (${named} of ${addresses} addresses have one, ${symbols.length} symbols seen)`)
    lines.push(
      ...table(
        symbols.slice(0, top).map(({ count, name }) => ({ count, text: name })),
        addresses,
      ),
    )
    const rest = symbols.slice(top).reduce((sum, { count }) => sum + count, 0)
    if (rest > 0) lines.push(`  and ${symbols.length - top} more with ${rest} addresses (--top shows more)`)
  }
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`
}

function table(rows: readonly { count: number; text: string }[], total: number): string[] {
  const most = Math.max(1, ...rows.map(({ count }) => count))
  const width = String(most).length
  return rows.map(({ count, text }) => {
    const share = `${((100 * count) / Math.max(1, total)).toFixed(1)}%`.padStart(6)
    return `  ${String(count).padStart(width)} ${share}  ${bar(count / most).padEnd(BAR)}  ${text}`
  })
}

/** A bar of eighths of characters; what was seen shows at least one. */
function bar(share: number): string {
  const eighths = Math.max(1, Math.round(share * BAR * 8))
  return '█'.repeat(eighths >> 3) + EIGHTHS[eighths & 7]!
}
