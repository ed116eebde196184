import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { TextRewriter } from '#dist/translate/text-rewriter.js'
import { type Range, textInputs } from './inputs.js'
import { measure, ratio, type Subject } from './measure.js'
import type { Native } from './native.js'
import { byteLoop, regex } from './plain-text.js'
import type { Report } from './report.js'

const CHUNK = 65536
/** Where plain JavaScript is timed as well: what it does is the same everywhere. */
const PLAIN = ['ftrace', 'no address', 'all addresses, bare']

/** The engine alone: a chunk that is in WASM memory already, beside the same algorithm in C with AVX2. */
export async function benchText(root: string, native: Native | undefined, report: Report): Promise<void> {
  for (const { name, bytes, ranges } of textInputs(root)) {
    const rewriter = new TextRewriter({ kind: 'checked', segments: ranges }, { chunk: CHUNK })
    const chunk = bytes.subarray(0, CHUNK)
    const call = rewriter.resident(chunk)
    const subjects: Subject[] = [{ name: 'WASM', run: () => void call() }]
    const stays = ranges.every(({ delta }) => delta === 0n)
    if (native !== undefined && stays) {
      writeFileSync(join(root, '.build/bench-text'), chunk)
      await native.ask(`load ${join(root, '.build/bench-text')}`)
      const digits = ranges[0]!.start.toString(16).length
      const table = ranges.map(({ start, end, delta }) => `${start} ${end - start} ${delta}`).join(' ')
      subjects.push({
        name: 'C with AVX2',
        repetitions: 200,
        run: async () => 200 * (await native.time(`text ${CHUNK} 200 ${digits} ${ranges.length} ${table}`)),
      })
    }
    const plain = PLAIN.some((start) => name.startsWith(start))
    if (plain) subjects.push(...plainSubjects(chunk, ranges))
    const times = await measure(subjects, { rounds: 9, time: 30 })
    report.table(`Text in memory: ${name}`, [...times.values()], (ms) => `${(chunk.length / ms / 1e6).toFixed(2)} GB/s`)
    const wasm = times.get('WASM')!
    const bar = name.startsWith('ftrace') ? 4 : 2
    const speed = (ms: number) => chunk.length / ms / 1e6
    report.ratio(
      `GB/s of rewriteText: ${name}`,
      { median: speed(wasm.median), min: speed(wasm.max), max: speed(wasm.min) },
      bar,
    )
    if (plain) {
      for (const way of ['byte loop', 'regular expression']) {
        report.ratio(`rewriteText / plain JS, ${way}: ${name}`, ratio(wasm, times.get(`plain JS, ${way}`)!))
      }
    }
    if (times.has('C with AVX2'))
      report.ratio(`rewriteText / C with AVX2: ${name}`, ratio(wasm, times.get('C with AVX2')!), 0.8)
  }
}

/** The same in JavaScript alone, once it has been seen to give the same bytes. */
function plainSubjects(chunk: Uint8Array, ranges: readonly Range[]): Subject[] {
  const loop = byteLoop(ranges)
  const replace = regex(ranges)
  const output = new Uint8Array(chunk.length)
  const text = Buffer.from(chunk).toString('latin1')
  loop(chunk, output)
  // Onto themselves is where the addresses go.
  for (const result of [output, Buffer.from(replace(text), 'latin1')]) {
    if (Buffer.compare(result, chunk) !== 0) throw new Error('bench/plain-text.ts is wrong')
  }
  return [
    { name: 'plain JS, byte loop', run: () => loop(chunk, output) },
    { name: 'plain JS, regular expression', run: () => void replace(text) },
  ]
}
