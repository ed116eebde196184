import { describe, expect, test } from 'vitest'
import { BinaryRewriter } from '../../src/translate/binary.ts'
import { Census } from '../../src/translate/census.ts'
import type { Rewriter } from '../../src/translate/rewriter.ts'
import { TextRewriter } from '../../src/translate/text-rewriter.ts'
import { fromLatin1, latin1 } from '../oracle.ts'

const PLAN = { kind: 'checked', segments: [{ start: 0x1000n, end: 0x2000n, delta: 0x10n }] } as const
const WORDS = [0x1000n, 0x1fffn, 0x2000n, 0x1234n]
const MOVED = [0x1010n, 0x200fn, 0x2000n, 0x1244n]

function raw(words: readonly bigint[], order: 'le' | 'be'): Buffer {
  const bytes = Buffer.from(BigUint64Array.from(words).buffer)
  return order === 'be' ? bytes.swap64() : bytes
}

/** Feeds the pieces of an input between cuts, as many bytes at a time as there is space for. */
function feed(rewriter: Rewriter, input: Uint8Array, cuts: readonly number[]): Buffer {
  const out: Buffer[] = []
  let at = 0
  for (const cut of [...cuts, input.length]) {
    while (at < cut) {
      const space = rewriter.space()
      expect(space.length).toBeGreaterThan(0)
      const length = Math.min(space.length, cut - at)
      space.set(input.subarray(at, at + length))
      at += length
      out.push(Buffer.from(rewriter.commit(length, false)))
    }
  }
  rewriter.space()
  out.push(Buffer.from(rewriter.commit(0, true)))
  return Buffer.concat(out)
}

function* everyTwoCuts(length: number): Iterable<[number, number]> {
  for (let a = 0; a <= length; a++) for (let b = a; b <= length; b++) yield [a, b]
}

describe.each(['le', 'be'] as const)('raw addresses, %s, in chunks of one', (order) => {
  const input = Buffer.concat([raw(WORDS, order), Buffer.from([1, 2, 3])])

  test('every two cuts give the same bytes, counts and end', () => {
    for (const cuts of everyTwoCuts(input.length)) {
      const rewriter = new BinaryRewriter(PLAN, order, 8)
      expect(feed(rewriter, input, cuts).equals(raw(MOVED, order))).toBe(true)
      expect(rewriter.counts).toEqual({
        bytesIn: 35,
        bytesOut: 32,
        translated: 3,
        missed: 1,
        failed: 1,
        firstFailed: 16,
      })
      expect(rewriter.end()).toEqual({ offset: 32, bytes: 3 })
    }
  })

  test('begun in the middle, it counts from there and knows nothing of what was held back', () => {
    const rewriter = new BinaryRewriter(PLAN, order, 8)
    feed(rewriter, input, [])
    rewriter.begin(4096, new Uint8Array()).set(raw([0x2000n], order))
    expect(Buffer.from(rewriter.commit(8, true)).equals(raw([0x2000n], order))).toBe(true)
    expect(rewriter.end()).toBeUndefined()
    rewriter.begin(8192, new Uint8Array()).set([1])
    rewriter.commit(1, true)
    expect(rewriter.end()).toEqual({ offset: 8192, bytes: 1 })
  })

  test('a census counts the same wherever the words are cut, and begins anew at the next input', () => {
    const layout = { tagLsb: 31, tagVal: 0x11367n, dram: [{ start: 0x1000n, end: 0x2000n }] }
    for (const cuts of everyTwoCuts(32)) {
      const census = new Census(layout, { from: 'phys', order, chunk: 8 })
      for (const words of [WORDS, WORDS.slice(0, 1)]) {
        expect(feed(census, raw(words, order), words.length === 1 ? [] : cuts).length).toBe(0)
        expect(census.end()).toBeUndefined()
      }
      expect(census.result()).toMatchObject({ addresses: 5, elsewhere: 1, regions: [{ count: 4 }] })
      expect(census.counts).toMatchObject({ bytesIn: 40, bytesOut: 0, translated: 4, missed: 1 })
    }
    const cut = new Census(layout, { from: 'phys', order, chunk: 8 })
    feed(cut, raw(WORDS, order).subarray(0, 13), [3])
    expect(cut.end()).toEqual({ offset: 8, bytes: 5 })
  })
})

test('text at the beginning of an input does not see the end of the one before', () => {
  const rewriter = new TextRewriter(PLAN)
  expect(fromLatin1(feed(rewriter, latin1('0x1000_'), [6]))).toBe('0x1000_')
  // The underscore now stands before it, and would make it part of a word.
  rewriter.space()
  rewriter.begin(0, new Uint8Array()).set(latin1('0x1000'))
  expect(fromLatin1(rewriter.commit(6, true))).toBe('0x1010')
  rewriter.begin(7, latin1('00_')).set(latin1('0x1000'))
  expect(fromLatin1(rewriter.commit(6, true))).toBe('0x1000')
})

test('a census of more regions than the engine has room for is an error, not a wrong count', () => {
  const dram = Array.from({ length: 1025 }, (_, i) => ({ start: BigInt(2 * i) << 12n, end: BigInt(2 * i + 1) << 12n }))
  const layout = { tagLsb: 31, tagVal: 0x11367n, dram }
  expect(() => new Census(layout, { from: 'phys' })).toThrow(/1025 separate ranges of memory; at most 1024/)
  expect(() => new Census({ ...layout, dram: dram.slice(1) }, { from: 'phys' })).not.toThrow()
})
