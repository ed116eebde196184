import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Kernel } from '../../src/translate/wasm.ts'
import { type OracleSegment, translateOracle } from '../oracle.ts'

const U64 = 2n ** 64n
const CANARY = 0xdead_beef_0bad_f00dn

/** Numbers that differ in every lane and every byte. */
const distinct = (length: number): BigUint64Array =>
  BigUint64Array.from({ length }, (_, i) => (BigInt(i) * 0x9e37_79b9_7f4a_7c15n + 0x0123_4567_89ab_cdefn) % U64)

/** A kernel with two windows of `length` u64, canaries around each, `shift` bytes off alignment. */
function arena(length: number, shift: number) {
  const size = (length + 8) * 8
  const kernel = new Kernel(2 * size + 16)
  const src = kernel.heap + 32 + shift
  const dst = src + size
  const view = new DataView(kernel.bytes.buffer)
  for (let at = kernel.heap; at + 8 <= kernel.heap + 2 * size; at += 8) view.setBigUint64(at, CANARY, true)
  const put = (values: BigUint64Array) => {
    for (const [i, v] of values.entries()) view.setBigUint64(src + 8 * i, v, true)
  }
  const get = (at: number) => BigUint64Array.from({ length }, (_, i) => view.getBigUint64(at + 8 * i, true))
  /** Bytes of the heap changed outside [at, at + 8 * length). */
  const strayed = (at: number, given: Uint8Array) =>
    kernel.bytes.findIndex((b, i) => i >= kernel.heap && (i < at || i >= at + 8 * length) && b !== given[i])
  return { kernel, src, dst, put, get, strayed }
}

function setTable(kernel: Kernel, segments: readonly OracleSegment[]) {
  kernel.setSegments(segments)
}

describe('unchecked batch', () => {
  const mask = 0x7fff_ffffn
  const tag = 0x89b3_8000_0000n

  test('every length 0..100, every misalignment, in place and apart, nothing written outside', () => {
    for (let length = 0; length <= 100; length++) {
      const shift = length % 8
      const { kernel, src, dst, put, get, strayed } = arena(length, shift)
      const input = distinct(length)
      const want = input.map((x) => (x & mask) + tag)
      kernel.setMacro(mask, tag)
      put(input)
      const given = kernel.bytes.slice()
      kernel.exports.maskTag(src, dst, length)
      expect(get(dst)).toEqual(want)
      expect(get(src)).toEqual(input)
      expect(strayed(dst, given)).toBe(-1)
      const half = kernel.bytes.slice()
      kernel.exports.maskTag(src, src, length)
      expect(get(src)).toEqual(want)
      expect(strayed(src, half)).toBe(-1)
    }
  })

  test('is an addition modulo 2^64', () => {
    const { kernel, src, put, get } = arena(9, 0)
    kernel.setMacro(U64 - 1n, 2n ** 48n)
    const input = distinct(9)
    put(input)
    kernel.exports.maskTag(src, src, 9)
    expect(get(src)).toEqual(input.map((x) => BigInt.asUintN(64, x + 2n ** 48n)))
  })
})

test('byte swap, every length', () => {
  for (let length = 0; length <= 40; length++) {
    const { kernel, src, put, get, strayed } = arena(length, length % 8)
    const input = distinct(length)
    put(input)
    const given = kernel.bytes.slice()
    kernel.exports.swapBytes(src, length)
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
    const { kernel, src, dst, put, get, strayed } = arena(length, shift)
    setTable(kernel, segments)
    put(input)
    const translated = Array.from(input, (x) => translateOracle(segments, x))
    const want = BigUint64Array.from(translated, (y, i) => y ?? input[i]!)
    const missed = translated.filter((y) => y === undefined).length
    const counts = { missed, translated: length - missed, firstMiss: translated.indexOf(undefined) }
    const given = kernel.bytes.slice()
    kernel.exports.translateBatch(src, dst, length, segments.length)
    expect(get(dst)).toEqual(want)
    expect(kernel.counts()).toEqual(counts)
    expect(strayed(dst, given)).toBe(-1)
    kernel.exports.translateBatch(src, src, length, segments.length)
    expect(get(src)).toEqual(want)
    expect(kernel.counts()).toEqual(counts)
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
      const { kernel, src, put, get } = arena(input.length, 0)
      setTable(kernel, THREE)
      put(input)
      kernel.exports.translateBatch(src, src, input.length, 3)
      put(input)
      kernel.exports.translateBatch(src, src, input.length, fewer)
      expect(get(src)).toEqual(input.map((x) => translateOracle(THREE.slice(0, fewer), x) ?? x))
    }
  })

  test('a full table', () => {
    const capacity = new Kernel(0).segmentCapacity
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
