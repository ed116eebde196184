import { createTranslator, type HypLayout, kernHypVaBatch } from 'hypva'
import { measure, ratio, type Subject } from './measure.js'
import type { Native } from './native.js'
import type { Report } from './report.js'

const TAG = 0x89b380000000n

/** Plain JavaScript at its best: one monomorphic loop that V8 compiles to machine words. */
function plainBigint(input: BigUint64Array, output: BigUint64Array): void {
  for (let i = 0; i < input.length; i++) output[i] = (input[i]! & 0x7fffffffn) + 0x89b380000000n
}

/** The same through 32-bit halves. */
function plainInt32(input: Int32Array, output: Int32Array): void {
  for (let i = 0; i < input.length; i += 2) {
    output[i] = (input[i]! & 0x7fffffff) | 0x80000000
    output[i + 1] = 0x89b3
  }
}

const memory = new BigUint64Array(1 << 16)

/** What a heap batch cannot do without: into other memory and back again. The tile is the batch's (src/translate/batch.ts). */
function twoCopies(input: BigUint64Array, output: BigUint64Array): void {
  const tile = memory.subarray(256, 256 + (input.length < 262144 ? 4096 : 32768))
  for (let at = 0; at < input.length; at += tile.length) {
    tile.set(input.subarray(at, at + tile.length))
    output.set(tile, at)
  }
}

export async function benchBatches(layout: HypLayout, native: Native | undefined, report: Report): Promise<void> {
  const only: HypLayout = { tagLsb: 31, tagVal: TAG >> 31n }
  const unchecked = createTranslator(layout, { from: 'linear', to: 'hyp' })
  // Onto itself, so that what was translated in place is the same input again.
  const three = createTranslator(withBanks(layout), { from: 'linear', to: 'linear' })

  for (const size of [64, 512, 4096, 65536, 1 << 20, 8 << 20]) {
    const input = new BigUint64Array(size).fill(0xffff6f3700001000n)
    const output = new BigUint64Array(size)
    const input32 = new Int32Array(input.buffer)
    const output32 = new Int32Array(output.buffer)
    // A call of some nanoseconds is lost in what it takes to ask for the time.
    const calls = Math.max(1, Math.floor(65536 / size))
    const often = (name: string, call: () => unknown): Subject => ({
      name,
      repetitions: calls,
      run: () => {
        for (let i = 0; i < calls; i++) call()
      },
    })
    const subjects: Subject[] = [
      often('heap batch', () => kernHypVaBatch(only, input, output)),
      often('heap batch, checked', () => unchecked.translateBatch(input, output)),
      often('plain JS, BigUint64Array', () => plainBigint(input, output)),
      often('plain JS, Int32Array pairs', () => plainInt32(input32, output32)),
      often('TypedArray.set', () => output.set(input)),
    ]
    if (size >= 65536) subjects.push(often('two copies through a tile, no engine', () => twoCopies(input, output)))
    if (size >= 4096) {
      const resident = createTranslator(only, { unchecked: true }).allocate(size)
      resident.addresses.fill(0xffff6f3700001000n)
      const runs = three.allocate(size)
      const mixed = three.allocate(size)
      const one = three.allocate(size)
      for (let i = 0; i < size; i++) {
        runs.addresses[i] = three.segments[(i >> 6) % 3]!.start + BigInt(i % 4096)
        mixed.addresses[i] = three.segments[i % 3]!.start + BigInt(i % 4096)
        one.addresses[i] = three.segments[1]!.start + BigInt(i % 4096)
      }
      subjects.push(often('resident batch, unchecked', () => resident.translate()))
      // Some milliseconds a command: what it takes to ask does not count then.
      const repetitions = Math.max(1, Math.floor(2e7 / size))
      if (native !== undefined) {
        const inC = (name: string, command: string): Subject => ({
          name,
          repetitions,
          run: async () => (await native.time(`${command} ${size} ${repetitions}`)) * repetitions,
        })
        subjects.push(inC('C in place', 'mask'), inC('C in place, 128-bit vectors', 'mask128'))
        subjects.push(inC('C, checked, 3 segments, in turns', 'checked'))
        subjects.push(inC('C, checked, 3 segments, in turns, 128-bit vectors', 'checked128'))
        subjects.push(inC('C memcpy', 'copy'))
      }
      subjects.push(often('resident batch, checked, 3 segments, in one', () => one.translate()))
      subjects.push(often('resident batch, checked, 3 segments, in runs of 64', () => runs.translate()))
      subjects.push(often('resident batch, checked, 3 segments, in turns', () => mixed.translate()))
    }
    const times = await measure(subjects, { rounds: size > 1e6 ? 7 : 9, time: size > 1e6 ? 60 : 25 })
    report.table(`${count(size)} addresses`, [...times.values()], (ms) => `${(size / ms / 1e6).toFixed(2)} Gaddr/s`)
    const of = (name: string) => times.get(name)!
    const compare = (what: string, a: string, b: string, bar?: number) =>
      report.ratio(`${what}, ${count(size)}`, ratio(of(a), of(b)), bar)
    const js =
      of('plain JS, BigUint64Array').median < of('plain JS, Int32Array pairs').median
        ? 'plain JS, BigUint64Array'
        : 'plain JS, Int32Array pairs'
    compare('heap batch / best plain JS loop', 'heap batch', js, size >= 4096 ? 2 : 1)
    if (size === 65536 || size === 8 << 20) {
      compare('heap batch / TypedArray.set', 'heap batch', 'TypedArray.set', size === 65536 ? 0.45 : 0.7)
      const copies = 'two copies through a tile, no engine'
      compare(`${copies} / TypedArray.set`, copies, 'TypedArray.set')
    }
    if (times.has('C in place')) {
      const vectors = 'C in place, 128-bit vectors'
      compare('resident unchecked / C in place with 128-bit vectors', 'resident batch, unchecked', vectors, 0.95)
      compare('resident unchecked / C in place', 'resident batch, unchecked', 'C in place', 0.95)
    }
    if (size === 4096) {
      for (const order of ['in one', 'in runs of 64', 'in turns']) {
        const checked = `resident batch, checked, 3 segments, ${order}`
        compare(`resident checked / unchecked, 3 segments, ${order}`, checked, 'resident batch, unchecked', 0.5)
      }
      for (const width of native === undefined ? [] : ['', ', 128-bit vectors']) {
        const inTurns = 'checked, 3 segments, in turns'
        compare(
          `resident checked / C${width}, 3 segments, in turns`,
          `resident batch, ${inTurns}`,
          `C, ${inTurns}${width}`,
        )
      }
    }
  }
}

/** The layout with its bank in three pieces, hence three segments. */
function withBanks(layout: HypLayout): HypLayout {
  const [{ start, end }] = layout.dram as [{ start: bigint; end: bigint }]
  const third = ((end - start) / 3n) & ~0xffffn
  const piece = (i: bigint) => ({ start: start + i * third, end: start + (i + 1n) * third - 0x10000n })
  return { ...layout, dram: [piece(0n), piece(1n), piece(2n)] }
}

function count(size: number): string {
  return size >= 1 << 20 ? `${size >> 20} Mi` : size >= 1024 ? `${size >> 10} Ki` : String(size)
}
