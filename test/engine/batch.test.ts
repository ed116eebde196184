import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Engine } from '../../src/engine/engine.ts'
import { ABI } from '../../src/engine/wasm.generated.ts'
import { Census, createNamer, createTranslator, type HypLayout, kernHypVaBatch, parseSymbols } from '../../src/index.ts'
import { type OracleSegment, translateOracle } from '../oracle.ts'

const U64 = 2n ** 64n
const CANARY = 0xdead_beef_0bad_f00dn

/** Numbers that differ in every lane and every byte. */
const distinct = (length: number): BigUint64Array =>
  BigUint64Array.from({ length }, (_, i) => (BigInt(i) * 0x9e37_79b9_7f4a_7c15n + 0x0123_4567_89ab_cdefn) % U64)

/** An engine with two windows of `length` u64, canaries around each, `shift` bytes off alignment. */
function arena(length: number, shift: number) {
  const size = (length + 8) * 8
  const engine = new Engine(2 * size + 16)
  const src = engine.heap + 32 + shift
  const dst = src + size
  const view = new DataView(engine.bytes.buffer)
  for (let at = engine.heap; at + 8 <= engine.heap + 2 * size; at += 8) view.setBigUint64(at, CANARY, true)
  const put = (values: BigUint64Array) => {
    for (const [i, v] of values.entries()) view.setBigUint64(src + 8 * i, v, true)
  }
  const get = (at: number) => BigUint64Array.from({ length }, (_, i) => view.getBigUint64(at + 8 * i, true))
  /** Bytes of the heap changed outside [at, at + 8 * length). */
  const strayed = (at: number, given: Uint8Array) =>
    engine.bytes.findIndex((b, i) => i >= engine.heap && (i < at || i >= at + 8 * length) && b !== given[i])
  return { engine, src, dst, put, get, strayed }
}

function setTable(engine: Engine, segments: readonly OracleSegment[]) {
  engine.load({ kind: 'checked', segments })
}

describe('unchecked batch', () => {
  const mask = 0x7fff_ffffn
  const tag = 0x89b3_8000_0000n

  test('every length 0..100, every misalignment, in place and apart, nothing written outside', () => {
    for (let length = 0; length <= 100; length++) {
      const shift = length % 8
      const { engine, src, dst, put, get, strayed } = arena(length, shift)
      const input = distinct(length)
      const want = input.map((x) => (x & mask) + tag)
      engine.load({ kind: 'macro', mask, tag })
      put(input)
      const given = engine.bytes.slice()
      engine.exports.maskTag(src, dst, length)
      expect(get(dst)).toEqual(want)
      expect(get(src)).toEqual(input)
      expect(strayed(dst, given)).toBe(-1)
      const half = engine.bytes.slice()
      engine.exports.maskTag(src, src, length)
      expect(get(src)).toEqual(want)
      expect(strayed(src, half)).toBe(-1)
    }
  })

  test('is an addition modulo 2^64', () => {
    const { engine, src, put, get } = arena(9, 0)
    engine.load({ kind: 'macro', mask: U64 - 1n, tag: 2n ** 48n })
    const input = distinct(9)
    put(input)
    engine.exports.maskTag(src, src, 9)
    expect(get(src)).toEqual(input.map((x) => BigInt.asUintN(64, x + 2n ** 48n)))
  })
})

test('byte swap, every length', () => {
  for (let length = 0; length <= 40; length++) {
    const { engine, src, put, get, strayed } = arena(length, length % 8)
    const input = distinct(length)
    put(input)
    const given = engine.bytes.slice()
    engine.exports.swapBytes(src, length)
    const swapped = input.map((x) =>
      BigInt(`0x${Buffer.from(x.toString(16).padStart(16, '0'), 'hex').reverse().toString('hex')}`),
    )
    expect(get(src)).toEqual(swapped)
    expect(strayed(src, given)).toBe(-1)
  }
})

describe('checked batch', () => {
  function check(segments: readonly OracleSegment[], input: BigUint64Array, shift = 0) {
    const length = input.length
    const { engine, src, dst, put, get, strayed } = arena(length, shift)
    setTable(engine, segments)
    put(input)
    const translated = Array.from(input, (x) => translateOracle(segments, x))
    const want = BigUint64Array.from(translated, (y, i) => y ?? input[i]!)
    const missed = translated.filter((y) => y === undefined).length
    const counts = { missed, translated: length - missed, firstMiss: translated.indexOf(undefined) }
    const given = engine.bytes.slice()
    engine.exports.translateBatch(src, dst, length, segments.length)
    expect(get(dst)).toEqual(want)
    expect(engine.counts()).toEqual(counts)
    expect(strayed(dst, given)).toBe(-1)
    engine.exports.translateBatch(src, src, length, segments.length)
    expect(get(src)).toEqual(want)
    expect(engine.counts()).toEqual(counts)
  }

  const THREE: OracleSegment[] = [
    { start: 0n, end: 0x1000n, delta: 0x8000n },
    { start: 0x7fff_ffff_ffff_f000n, end: 0x8000_0000_0000_1000n, delta: U64 - 5n },
    { start: U64 - 0x1000n, end: U64, delta: 0x10n },
  ]
  const edges = (segments: readonly OracleSegment[]) =>
    segments
      .flatMap(({ start, end }) => [start - 1n, start, start + 1n, end - 1n, end, end + 1n])
      .map((x) => BigInt.asUintN(64, x))

  test('the edges of each segment, at every position of a block', () => {
    const all = edges(THREE)
    for (let position = 0; position < 17; position++) {
      for (const x of all) {
        const input = distinct(17).map((_, i) => BigInt(i))
        input[position] = x
        check(THREE, input)
      }
    }
  })

  test('every length 0..100, every misalignment', () => {
    const all = edges(THREE)
    for (let length = 0; length <= 100; length++) {
      check(
        THREE,
        BigUint64Array.from({ length }, (_, i) => all[(i * 7 + length) % all.length]!),
        length % 8,
      )
    }
  })

  // A segment is shorter than 2^64: its size is a u64.
  const table = (most: number) =>
    fc.uniqueArray(fc.bigInt({ min: 1n, max: U64 }), { minLength: 2, maxLength: 2 * most }).chain((cuts) => {
      const sorted = [...cuts].sort((a, b) => (a < b ? -1 : 1))
      const pairs = Array.from({ length: sorted.length >> 1 }, (_, i) => [sorted[2 * i]!, sorted[2 * i + 1]!] as const)
      return fc
        .array(fc.bigInt({ min: 0n, max: U64 - 1n }), { minLength: pairs.length, maxLength: pairs.length })
        .map((deltas) => pairs.map(([start, end], i) => ({ start, end, delta: deltas[i]! })))
    })

  test.each([1, 2, 3, 8, 16, 17, 100])('any table of up to %i segments', (most) => {
    fc.assert(
      fc.property(
        table(most).chain((segments) =>
          fc.record({
            segments: fc.constant(segments),
            input: fc.array(fc.oneof(fc.constantFrom(...edges(segments)), fc.bigInt({ min: 0n, max: U64 - 1n })), {
              maxLength: 40,
            }),
          }),
        ),
        ({ segments, input }) => check(segments, BigUint64Array.from(input)),
      ),
      { numRuns: 200 },
    )
  })

  // Long enough for stretches in one segment, stretches of mixed addresses, and the ways from one to the other.
  test.each([1, 2, 3, 8, 30])('runs of any lengths in up to %i segments', (most) => {
    fc.assert(
      fc.property(
        table(most).chain((segments) =>
          fc.record({
            segments: fc.constant(segments),
            runs: fc.array(
              fc.tuple(fc.constantFrom(...edges(segments)), fc.integer({ min: 1, max: 120 }), fc.boolean()),
              { minLength: 1, maxLength: 40 },
            ),
          }),
        ),
        ({ segments, runs }) => {
          const all = edges(segments)
          const input = runs.flatMap(([x, length, mixed], r) =>
            Array.from({ length }, (_, i) => (mixed ? all[(i * 5 + r) % all.length]! : x)),
          )
          check(segments, BigUint64Array.from(input))
        },
      ),
      { numRuns: 100 },
    )
  })

  test('a table with fewer segments than the one before it', () => {
    const input = BigUint64Array.from({ length: 100 }, (_, i) => edges(THREE)[i % 18]!)
    for (const fewer of [0, 1, 2]) {
      const { engine, src, put, get } = arena(input.length, 0)
      setTable(engine, THREE)
      put(input)
      engine.exports.translateBatch(src, src, input.length, 3)
      put(input)
      engine.exports.translateBatch(src, src, input.length, fewer)
      expect(get(src)).toEqual(input.map((x) => translateOracle(THREE.slice(0, fewer), x) ?? x))
    }
  })

  test('a full table', () => {
    const capacity = ABI.SEGMENT_CAPACITY
    const segments = Array.from({ length: capacity }, (_, i) => ({
      start: BigInt(i) * 0x1_0000n,
      end: BigInt(i) * 0x1_0000n + 0x8000n,
      delta: BigInt(i),
    }))
    check(
      segments,
      BigUint64Array.from({ length: 4 * capacity }, (_, i) => BigInt(i) * 0x4000n),
    )
  })
})

describe('arrays that have lost their memory', () => {
  const layout: HypLayout = {
    tagLsb: 31,
    tagVal: 0x11367n,
    pageOffset: 0xffff_0000_0000_0000n,
    physOffset: 0x4000_0000n,
    dram: [{ start: 0x4000_0000n, end: 0xc000_0000n }],
    image: { start: 0xffff_8000_0800_0000n, end: 0xffff_8000_0900_0000n },
    kimageVoffset: 0xffff_7fff_c000_0000n,
  }
  const symbols = parseSymbols('ffff800008000000 T _text\nffff800008010000 t __kvm_nvhe___host_hvc\n')
  const translator = createTranslator(layout)
  const namer = createNamer(layout, symbols)
  const full = () => BigUint64Array.of(0xffff_0000_0000_1000n)
  const want = {
    code: 'HYPVA_ARGUMENT',
    name: 'HypvaTypeError',
    message: expect.stringContaining('was transferred (to a worker, perhaps) or shrunk'),
  }

  const transferred = (bytes = 32) => {
    const array = new BigUint64Array(bytes / 8)
    structuredClone(array.buffer, { transfer: [array.buffer] })
    return array
  }
  /** A view of a buffer that is then made smaller, by its constructor's arguments. */
  const shrunk = (left: number, ...view: [offset: number, length?: number]) => {
    const buffer = new (ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer)(64, {
      maxByteLength: 64,
    })
    const array = new BigUint64Array(buffer, ...view)
    ;(buffer as unknown as { resize(bytes: number): void }).resize(left)
    return array
  }

  test.each<[string, BigUint64Array]>([
    ['a transferred buffer', transferred()],
    ['an empty array of a transferred buffer', transferred(0)],
    ['the end outside of a buffer made smaller', shrunk(32, 8, 4)],
    ['the beginning outside of it', shrunk(8, 16)],
  ])('%s: the documented error, for input and output', (_, lost) => {
    expect(lost.length).toBe(0)
    for (const call of [
      () => translator.translateBatch(lost),
      () => translator.translateBatch(full(), lost),
      () => translator.translateBatch(new BigUint64Array(0), lost),
      () => kernHypVaBatch(layout, lost),
      () => kernHypVaBatch(layout, full(), lost),
      () => namer.nameBatch(lost),
      () => translator.translateBatch(lost, full()),
    ]) {
      let thrown: unknown
      try {
        call()
      } catch (error) {
        thrown = error
      }
      expect(thrown).toBeInstanceOf(TypeError)
      expect(thrown).toMatchObject(want)
    }
  })

  test('empty arrays, and what is left of a buffer made smaller, are honest', () => {
    for (const empty of [new BigUint64Array(0), shrunk(0, 0), shrunk(64, 64), shrunk(64, 8, 0), full().subarray(1)]) {
      expect(translator.translateBatch(empty)).toMatchObject({ translated: 0, missed: 0, firstMiss: -1 })
      expect(kernHypVaBatch(layout, empty).length).toBe(0)
      expect(namer.nameBatch(empty)).toMatchObject({ named: 0, missed: 0 })
    }
    const left = shrunk(16, 0)
    left.fill(0xffff_0000_0000_1000n)
    expect([...translator.translateBatch(left).output]).toEqual([0x89b3_8000_1000n, 0x89b3_8000_1000n])
  })

  test('a resident batch keeps its memory whatever becomes of a clone', () => {
    const batch = translator.allocate(2)
    batch.addresses.fill(0xffff_0000_0000_1000n)
    // Node 20 clones the memory of WebAssembly, later ones refuse to.
    try {
      structuredClone(batch.addresses.buffer, { transfer: [batch.addresses.buffer as ArrayBuffer] })
    } catch (error) {
      expect((error as Error).name).toBe('DataCloneError')
    }
    expect(batch.translate()).toMatchObject({ translated: 2 })
    expect([...batch.addresses]).toEqual([0x89b3_8000_1000n, 0x89b3_8000_1000n])
  })

  test('a range of 2^64 bytes is refused wherever a layout goes in', () => {
    const whole = { start: 0n, end: 2n ** 64n }
    const wrong: HypLayout = { ...layout, tagLsb: 63, tagVal: 0n, dram: [whole], image: whole, kimageVoffset: 0n }
    const code = expect.objectContaining({ code: 'HYPVA_LAYOUT' })
    for (const to of ['hyp', 'phys', 'image'] as const)
      expect(() => createTranslator(wrong, { from: 'phys', to })).toThrow(code)
    expect(() => createNamer(wrong, symbols, { from: 'phys' })).toThrow(code)
    expect(() => new Census(wrong)).toThrow(code)
    const engine = new Engine(64)
    expect(() => engine.load({ kind: 'checked', segments: [{ ...whole, delta: 0n }] })).toThrow(code)
    expect(() =>
      engine.load({ kind: 'checked', segments: [{ start: 0n, end: 2n ** 64n - 1n, delta: 0n }] }),
    ).not.toThrow()
  })
})
