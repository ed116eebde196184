import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { createNamer, createTranslator, parseLayout, parseSymbols } from 'hypva'
import { measure, ratio } from './measure.js'
import type { Report } from './report.js'

const BATCH = 1 << 20
const BAR = 10e6

/** Names: lookups a second, and text with names beside the same text translated. */
export async function benchNames(root: string, report: Report): Promise<void> {
  const traces = join(root, 'test/fixtures/traces')
  const layout = parseLayout(readFileSync(join(root, 'samples/exec-6.1.layout.json'), 'utf8'))
  const data = gunzipSync(readFileSync(join(traces, 'exec-6.1-kaslr.kallsyms.gz')))
  const symbols = parseSymbols(data)
  const namer = createNamer(layout, symbols)

  const parsed = await measure([{ name: 'parseSymbols', run: () => parseSymbols(data) }], { rounds: 3 })
  report.table(`a kallsyms of ${symbols.size} symbols`, [...parsed.values()], (ms) => `${ms.toFixed(0)} ms`)

  const pcs = readFileSync(join(traces, 'exec-6.1-kaslr.el2pcs.tsv'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('\tlinear\t'))
    .map((line) => BigInt(line.split('\t')[0]!))
  const { start, end } = layout.image!
  let state = 1n
  const random = () => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn
    return state >> 11n
  }
  const real = BigUint64Array.from({ length: BATCH }, (_, i) => pcs[i % pcs.length]!)
  const anywhere = BigUint64Array.from({ length: BATCH }, () => start + (random() % (end - start)))
  const times = await measure([
    { name: 'hyp PCs of the execution log', run: () => namer.nameBatch(real) },
    { name: 'random addresses of the image', run: () => namer.nameBatch(anywhere) },
  ])
  report.table(`names of ${BATCH} addresses, ${symbols.size} symbols`, [...times.values()], (ms) => {
    return `${(BATCH / ms / 1e3).toFixed(1)} million/s`
  })
  const bar = (BATCH / BAR) * 1e3
  for (const timing of times.values()) {
    const even = { name: '', median: bar, min: bar, max: bar, rounds: timing.rounds.map(() => bar) }
    report.ratio(`${timing.name} / ten million lookups a second`, ratio(timing, even), 1)
  }

  const trace = gunzipSync(readFileSync(join(traces, 'exec-6.1-kaslr.log.gz')))
  const toKernel = createTranslator(layout, { from: 'hyp', to: 'kernel', symbols })
  const drain = async (stream: TransformStream<Uint8Array, Uint8Array>) => {
    const source = new Blob([trace]).stream().pipeThrough(stream)
    for await (const _ of source);
  }
  const texts = await measure(
    [
      { name: 'translated', run: () => drain(toKernel.textStream()) },
      { name: 'names in place of addresses', run: () => drain(toKernel.nameStream()) },
      { name: 'translated, names behind', run: () => drain(toKernel.annotateStream()) },
    ],
    { rounds: 5, time: 100 },
  )
  report.table(
    'the execution log as a stream',
    [...texts.values()],
    (ms) => `${(trace.length / ms / 1e3).toFixed(0)} MB/s`,
  )
  report.ratio(
    'text with names / text translated',
    ratio(texts.get('names in place of addresses')!, texts.get('translated')!),
  )
}
