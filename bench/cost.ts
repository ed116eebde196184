import { createTranslator, type HypLayout } from 'hypva'
import { TextRewriter } from '#dist/translate/text-rewriter.js'
import { measure, type Subject } from './measure.js'
import type { Report } from './report.js'

/** A call on `size` addresses, as often as it takes to be seen on a clock. */
function often(name: string, size: number, call: () => unknown): { name: string; addresses: number; run: () => void } {
  const calls = Math.max(1, Math.floor(16384 / size))
  const run = () => {
    for (let i = 0; i < calls; i++) call()
  }
  return { name, addresses: calls * size, run }
}

/** What one address costs in each tier of the library, in nanoseconds. */
export async function benchCost(layout: HypLayout, report: Report): Promise<void> {
  const translator = createTranslator(layout, { from: 'linear', to: 'linear' })
  const address = translator.segments[0]!.start + 0x1000n
  const tiers: { name: string; addresses: number; run: () => unknown }[] = []
  tiers.push(often('translate(), one bigint', 1, () => translator.translate(address)))
  for (const size of [1, 16, 64, 256, 1024, 4096, 1 << 20]) {
    const input = new BigUint64Array(size).fill(address)
    const output = new BigUint64Array(size)
    tiers.push(often(`translateBatch() of ${size}`, size, () => translator.translateBatch(input, output)))
  }
  for (const size of [16, 4096, 1 << 20]) {
    const resident = translator.allocate(size)
    resident.addresses.fill(address)
    tiers.push(often(`resident batch of ${size}`, size, () => resident.translate()))
  }
  const line = Buffer.from(`${address.toString(16)}\n`.repeat(3000))
  const rewriter = new TextRewriter({ kind: 'checked', segments: translator.segments })
  const text = () => {
    rewriter.space().set(line)
    rewriter.commit(line.length, false)
  }
  tiers.push({ name: 'text, a line each', addresses: 3000, run: text })
  const subjects: Subject[] = tiers.map(({ name, run }) => ({ name, run }))
  const times = await measure(subjects, { rounds: 7, time: 30 })
  report.say('\nWhat one address costs')
  for (const { name, addresses } of tiers) {
    const { median, min, max } = times.get(name)!
    const ns = (ms: number) => ((ms * 1e6) / addresses).toFixed(2)
    report.say(`  ${name.padEnd(44)} ${ns(median).padStart(10)} ns   (${ns(max)} … ${ns(min)})`)
    report.cost(name, (median * 1e6) / addresses)
  }
}
