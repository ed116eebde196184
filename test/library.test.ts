import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as hypvaApi from '../src/index.ts'
import { createTranslator, type HypLayout, kernHypVaBatch, parseMachine } from '../src/index.ts'
import { boot, machineJson } from './fixtures.ts'
import { translateOracle } from './oracle.ts'

const ROOT = join(import.meta.dirname, '..')
const layout = hypvaApi.computeLayout(parseMachine(machineJson(boot('exec-6.1-kaslr'))))
const { pairs, observed } = boot('exec-6.1-kaslr')
const KERNEL = pairs.slice(0, 50).map((p) => BigInt(p.kernel_va))
const HYP = pairs.slice(0, 50).map((p) => BigInt(p.hyp_va))

describe('batches', () => {
  const translator = createTranslator(layout)

  test('kernel to hyp is the default; a new array, one given, or the input itself', () => {
    const input = BigUint64Array.from(KERNEL)
    const want = BigUint64Array.from(HYP)
    const fresh = translator.translateBatch(input)
    expect(fresh).toEqual({ output: want, translated: 50, missed: 0, firstMiss: -1 })
    expect(input).toEqual(BigUint64Array.from(KERNEL))
    const given = new BigUint64Array(60)
    expect(translator.translateBatch(input, given).output).toBe(given)
    expect(given).toEqual(BigUint64Array.from([...HYP, ...Array(10).fill(0n)]))
    expect(translator.translateBatch(input, input).output).toBe(input)
    expect(input).toEqual(want)
  })

  test('a miss is left, counted, and the first reported, whichever tile it is in', () => {
    for (const last of [15, 4095, 4999, 299_999]) {
      for (const at of [0, 1, 14, 49, 4094, 4095, 4096, 4999, 200_000, last].filter((n) => n <= last)) {
        const input = new BigUint64Array(last + 1).fill(KERNEL[0]!)
        input[at] = 0x1234n
        input[last] = 0x5678n
        const { output, translated, missed, firstMiss } = translator.translateBatch(input)
        expect([translated, missed, firstMiss]).toEqual(at === last ? [last, 1, last] : [last - 1, 2, at])
        expect(output[at]).toBe(input[at])
        expect(output[last]).toBe(0x5678n)
        expect(output.filter((y) => y === HYP[0]).length).toBe(translated)
      }
    }
  })

  test('the output may overlap the input, before it and behind it, in one tile and in many', () => {
    for (const length of [1, 17, 4096, 4097, 20_000, 300_000]) {
      for (const shift of [1, 7, 4000, 4096, 5000, 40_000].filter((n) => n <= length)) {
        const input = BigUint64Array.from({ length }, (_, i) => (i % 11 === 3 ? BigInt(i) : KERNEL[i % 50]!))
        const want = input.map((x, i) => (i % 11 === 3 ? x : HYP[i % 50]!))
        const missed = input.filter((_, i) => i % 11 === 3).length
        const counts = { translated: length - missed, missed, firstMiss: missed > 0 ? 3 : -1 }
        for (const [from, to] of [
          [0, shift],
          [shift, 0],
        ] as const) {
          const memory = new BigUint64Array(length + shift)
          memory.set(input, from)
          const output = memory.subarray(to, to + length)
          expect(translator.translateBatch(memory.subarray(from, from + length), output)).toMatchObject(counts)
          expect(Buffer.compare(new Uint8Array(output.buffer, 8 * to, 8 * length), new Uint8Array(want.buffer))).toBe(0)
        }
      }
    }
  })

  test('strict fails at the first miss and says which', () => {
    const strict = createTranslator(layout, { strict: true })
    const input = BigUint64Array.from([KERNEL[0]!, 0x1234n, 0n])
    expect(() => strict.translateBatch(input)).toThrow(/^0x1234 \(index 1\): user addresses/)
    const resident = strict.allocate(3)
    resident.addresses.set(input)
    expect(() => resident.translate()).toThrow(/^0x1234 \(index 1\): user/)
  })

  test('residents work in place, have memory of their own, and stay valid', () => {
    const first = translator.allocate(50)
    first.addresses.set(KERNEL)
    const others = Array.from({ length: 4 }, () => translator.allocate(100_000))
    expect(first.translate()).toEqual({ translated: 50, missed: 0, firstMiss: -1 })
    expect(first.addresses).toEqual(BigUint64Array.from(HYP))
    expect(others[3]!.addresses.length).toBe(100_000)
    expect(first.translate(3)).toEqual({ translated: 0, missed: 3, firstMiss: 0 })
    expect(() => first.translate(51)).toThrow(/count: expected 0 … 50/)
    expect(() => translator.allocate(-1)).toThrow(/length: expected a whole number/)
    expect(() => translator.allocate(2 ** 40)).toThrow(/length: expected a whole number/)
  })

  test('any batch is what the segments say, by brute force', () => {
    const edges = translator.segments.flatMap(({ start, end }) => [start - 1n, start, end - 1n, end])
    const address = fc.oneof(fc.constantFrom(...edges, ...KERNEL), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
    fc.assert(
      fc.property(fc.array(address, { maxLength: 4000, size: 'max' }), (list) => {
        const { output } = translator.translateBatch(BigUint64Array.from(list))
        expect(Array.from(output)).toEqual(list.map((x) => translateOracle(translator.segments, x) ?? x))
      }),
      { numRuns: 50 },
    )
  })

  test('kernHypVaBatch is the macro for everything', () => {
    const only: HypLayout = { tagLsb: observed.tag_lsb, tagVal: BigInt(observed.tag_val) }
    const input = BigUint64Array.from({ length: 10_000 }, (_, i) => (BigInt(i) * 0x9e37_79b9_7f4a_7c15n) % 2n ** 64n)
    const want = input.map((x) => (x & BigInt(observed.va_mask)) | BigInt(observed.tag))
    expect(kernHypVaBatch(only, input)).toEqual(want)
    expect(kernHypVaBatch(only, input, input)).toBe(input)
    expect(input).toEqual(want)
    expect(kernHypVaBatch({ mode: 'vhe' }, want)).toEqual(want)
  })

  test('an unchecked translator is the macro in every tier', () => {
    const only: HypLayout = { tagLsb: observed.tag_lsb, tagVal: BigInt(observed.tag_val) }
    const unchecked = createTranslator(only, { unchecked: true })
    const input = [0n, 0x7f00_1234_5678n, 2n ** 64n - 1n, KERNEL[0]!]
    const want = input.map((x) => (x & BigInt(observed.va_mask)) | BigInt(observed.tag))
    expect(input.map((x) => unchecked.translate(x))).toEqual(want)
    expect(unchecked.translateBatch(BigUint64Array.from(input))).toMatchObject({
      output: BigUint64Array.from(want),
      missed: 0,
    })
    const resident = unchecked.allocate(4)
    resident.addresses.set(input)
    expect(resident.translate()).toEqual({ translated: 4, missed: 0, firstMiss: -1 })
    expect(resident.addresses).toEqual(BigUint64Array.from(want))
    expect(unchecked.explain(0x7f00_1234_5678n).result).toBe(want[1])
    expect(() => createTranslator(only, { unchecked: true, from: 'hyp', to: 'kernel' })).toThrow(
      /^unchecked: kern_hyp_va/,
    )
  })

  test('what is no batch is refused', () => {
    const code = (run: () => unknown) => {
      try {
        run()
      } catch (error) {
        return [(error as Error).constructor.name, (error as { code?: string }).code]
      }
      return 'no error'
    }
    const b = new BigUint64Array(8)
    expect(code(() => translator.translateBatch([1n] as never))).toEqual(['HypvaTypeError', 'HYPVA_ARGUMENT'])
    expect(code(() => translator.translateBatch(new Float64Array(1) as never))).toEqual([
      'HypvaTypeError',
      'HYPVA_ARGUMENT',
    ])
    expect(code(() => translator.translateBatch(b, new BigUint64Array(7)))).toEqual([
      'HypvaRangeError',
      'HYPVA_ARGUMENT',
    ])
    expect(code(() => translator.translate(1 as never))).toEqual(['HypvaTypeError', 'HYPVA_U64_TYPE'])
    expect(code(() => translator.tryTranslate(-1n))).toEqual(['HypvaRangeError', 'HYPVA_U64_RANGE'])
    expect(code(() => translator.explain(2n ** 64n))).toEqual(['HypvaRangeError', 'HYPVA_U64_RANGE'])
    expect(code(() => createTranslator(layout, { from: 'x' as never }))).toEqual(['HypvaTypeError', 'HYPVA_ARGUMENT'])
    expect(code(() => createTranslator({ tagLsb: 31 }))).toEqual(['HypvaError', 'HYPVA_LAYOUT'])
    expect(code(() => createTranslator({ ...layout, tagVal: 5 as never }))).toEqual([
      'HypvaTypeError',
      'HYPVA_U64_TYPE',
    ])
    expect(code(() => createTranslator({ tagLsb: 31, tagVal: 1n }))).toEqual([
      'MissingFieldError',
      'HYPVA_MISSING_FIELD',
    ])
    expect(code(() => createTranslator(layout, null as never))).toEqual(['HypvaTypeError', 'HYPVA_ARGUMENT'])
    expect(code(() => hypvaApi.kernHypVa(undefined as never, 1n))).toEqual(['HypvaTypeError', 'HYPVA_ARGUMENT'])
    expect(code(() => hypvaApi.parseLayout({} as never))).toEqual(['HypvaTypeError', 'HYPVA_ARGUMENT'])
    expect(code(() => translator.translate(0x1234n))).toEqual(['MissError', 'HYPVA_MISS'])
  })
})

test('with VHE kern_hyp_va is the identity, checked or not', () => {
  const { tagLsb: _l, tagVal: _v, vaMask: _m, hypPhysvirtOffset: _o, hypVaBits: _b, ...rest } = layout
  const vhe: HypLayout = { ...rest, mode: 'vhe' }
  const linear = BigInt(pairs[0]!.linear_va)
  for (const address of [linear, KERNEL[0]!]) {
    expect(createTranslator(vhe, { from: 'kernel', to: 'hyp' }).translate(address)).toBe(address)
    expect(createTranslator(vhe, { unchecked: true }).translate(address)).toBe(address)
  }
  expect(createTranslator(vhe, { from: 'hyp', to: 'phys' }).translate(linear)).toBe(BigInt(pairs[0]!.phys))
})

describe('streams', () => {
  async function through(stream: TransformStream<Uint8Array, Uint8Array>, chunks: Uint8Array[]): Promise<Buffer> {
    const source = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk)
        controller.close()
      },
    })
    const out: Uint8Array[] = []
    for await (const chunk of source.pipeThrough(stream)) out.push(chunk)
    return Buffer.concat(out)
  }
  const translator = createTranslator(layout)
  const text = KERNEL.map((x) => `0x${x.toString(16)} and\r\n`).join('')
  const want = HYP.map((x) => `0x${x.toString(16).padStart(16, '0')} and\r\n`).join('')

  test('text, cut anywhere, and chunks longer than the buffers', async () => {
    for (const size of [1, 5, 100, text.length]) {
      const chunks = Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
        Buffer.from(text.slice(i * size, (i + 1) * size)),
      )
      expect((await through(translator.textStream(), chunks)).toString()).toBe(want)
    }
    const long = await through(translator.textStream(), [Buffer.from(text.repeat(100))])
    expect(long.toString()).toBe(want.repeat(100))
  })

  test('raw words in both orders; a cut word is an error after the whole ones', async () => {
    const input = Buffer.from(BigUint64Array.from(KERNEL).buffer)
    const output = Buffer.from(BigUint64Array.from(HYP).buffer)
    const pieces = [input.subarray(0, 3), input.subarray(3, 21), input.subarray(21)]
    expect((await through(translator.binaryStream(), pieces)).equals(output)).toBe(true)
    const swapped = await through(translator.binaryStream('be'), [Buffer.from(input).swap64()])
    expect(swapped.swap64().equals(output)).toBe(true)

    const stream = translator.binaryStream()
    const writer = stream.writable.getWriter()
    const reader = stream.readable.getReader()
    void writer.write(input.subarray(0, 13)).catch(() => {})
    expect(Buffer.from((await reader.read()).value!).equals(output.subarray(0, 8))).toBe(true)
    void writer.close().catch(() => {})
    await expect(reader.read()).rejects.toMatchObject({
      code: 'HYPVA_TRUNCATED',
      message: expect.stringContaining('byte 8: 5 of'),
    })
  })

  test('strict streams fail at the first miss', async () => {
    const strict = createTranslator(layout, { strict: true })
    // A hole of DRAM; other numbers are no addresses.
    expect((await through(strict.textStream(), [Buffer.from(`${text}0x12`)])).toString()).toBe(`${want}0x12`)
    await expect(through(strict.textStream(), [Buffer.from(`${text}0xffff000000000000`)])).rejects.toMatchObject({
      code: 'HYPVA_MISS',
      message: expect.stringContaining(`byte ${text.length}:`),
    })
  })

  test('a chunk of another type is refused', async () => {
    await expect(through(translator.textStream(), ['text' as never])).rejects.toMatchObject({ code: 'HYPVA_ARGUMENT' })
  })
})

test('the library loads and translates in a bare context: no node: modules, no globals of Node', async () => {
  // Only what every browser has. The modules are linked by hand from the built package and its one dependency.
  const script = `
    import vm from 'node:vm'
    import { readFileSync } from 'node:fs'
    import { dirname, resolve } from 'node:path'
    const context = vm.createContext({ WebAssembly, atob, TransformStream })
    const modules = new Map()
    function load(file) {
      if (!modules.has(file)) modules.set(file, new vm.SourceTextModule(readFileSync(file, 'utf8'), { context, identifier: file }))
      return modules.get(file)
    }
    const [entry, valibot, layout, address] = process.argv.slice(1)
    const module = load(entry)
    await module.link((name, from) => {
      if (name === 'valibot') return load(valibot)
      if (!name.startsWith('.')) throw new Error('the library imports ' + name)
      return load(resolve(dirname(from.identifier), name))
    })
    await module.evaluate()
    const { createTranslator, parseLayout } = module.namespace
    context.translator = createTranslator(parseLayout(layout))
    console.log(String(vm.runInContext('translator.translateBatch(BigUint64Array.of(' + address + 'n)).output[0]', context)))
  `
  const valibot = join(ROOT, 'node_modules/valibot/dist/index.mjs')
  const args = ['--experimental-vm-modules', '--no-warnings', '--input-type=module', '-e', script]
  const out = execFileSync(process.execPath, [
    ...args,
    join(ROOT, 'dist/index.js'),
    valibot,
    hypvaApi.formatLayout(layout),
    String(KERNEL[0]),
  ])
  expect(BigInt(out.toString().trim())).toBe(HYP[0])
})
