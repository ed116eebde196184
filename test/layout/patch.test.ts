import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { kernHypVa } from '../../src/layout/macro.js'
import { decodePatch, encodePatch } from '../../src/layout/patch.js'
import { NOP, runA64 } from './a64.js'
import { boots } from './boots.js'

// docs/kernel-facts.md, 2: "checked with GNU binutils".
const VECTORS = [
  [38, 1n, 0, '92409400 93c09800 91000400 91000000 93c06800'],
  [33, 0x24n, 0, '92408000 93c08400 91009000 91000000 93c07c00'],
  [35, 0x1e83n, 0, '92408800 93c08c00 913a0c00 91400400 93c07400'],
  [36, 0xf897n, 8, '92408d08 93c89108 91225d08 91403d08 93c87108'],
  [47, 0n, 3, '9240b863 d503201f d503201f d503201f d503201f'],
] as const

const wordsOf = (text: string) => text.split(' ').map((word) => Number.parseInt(word, 16))

const registers = fc.integer({ min: 0, max: 30 })
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
/** tag_lsb and a tag_val that patched code carries whole. */
const tags = fc.integer({ min: 1, max: 63 }).chain((tagLsb) =>
  fc.record({
    tagLsb: fc.constant(tagLsb),
    tagVal: fc.bigInt({ min: 0n, max: 2n ** BigInt(Math.min(24, 64 - tagLsb)) - 1n }),
  }),
)

test.each(VECTORS)('vector: L=%i tag_val=%s x%i', (tagLsb, tagVal, register, text) => {
  expect(encodePatch({ tagLsb, tagVal }, register)).toEqual(wordsOf(text))
  const vaMask = 2n ** BigInt(tagLsb) - 1n
  expect(decodePatch(wordsOf(text))).toEqual({ kind: 'patched', tagLsb, tagVal, vaMask, register })
})

describe.each(boots.map((boot) => [boot.name, boot] as const))('%s', (_, boot) => {
  const { tag_lsb: tagLsb, tag_val, va_mask } = boot.observed
  const tagVal = BigInt(tag_val)
  const sequences = [boot.patched_sequence, ...boot.patched_sequence.other_examples]

  test.each(sequences.map(({ words, reg }) => [reg, words] as const))('patched code on %s: %s', (reg, hex) => {
    const register = Number(reg.slice(1))
    const words = hex.map(Number)
    expect(decodePatch(words)).toEqual({ kind: 'patched', tagLsb, tagVal, vaMask: BigInt(va_mask), register })
    expect(encodePatch({ tagLsb, tagVal }, register)).toEqual(words)
  })
})

test('decoding gives back what was encoded', () => {
  fc.assert(
    fc.property(tags, registers, ({ tagLsb, tagVal }, register) => {
      const vaMask = 2n ** BigInt(tagLsb) - 1n
      expect(decodePatch(encodePatch({ tagLsb, tagVal }, register))).toEqual({
        kind: 'patched',
        tagLsb,
        tagVal,
        vaMask,
        register,
      })
    }),
    { numRuns: 2000 },
  )
})

test('the encoded instructions, run, are kern_hyp_va, and touch no other register', () => {
  fc.assert(
    fc.property(tags, registers, fc.array(u64, { minLength: 31, maxLength: 31 }), (layout, register, before) => {
      const after = [...before]
      runA64(encodePatch(layout, register), after)
      const expected = before.with(register, kernHypVa(layout, before[register]!))
      expect(after).toEqual(expected)
    }),
    { numRuns: 2000 },
  )
})

test('a tag of more than 24 bits: the low 24 are encoded, as a kernel does', () => {
  const words = encodePatch({ tagLsb: 20, tagVal: 0xa000_1234n }, 5)
  const state = Array<bigint>(31).fill(0n)
  state[5] = 0xffff_0000_0001_2345n
  runA64(words, state)
  expect(state[5]).toBe((0x1234n << 20n) | 0x1_2345n)
  expect(decodePatch(words)).toMatchObject({ kind: 'patched', tagVal: 0x1234n })
  // Nothing left in the low 24 bits: still five instructions, that add nothing.
  expect(decodePatch(encodePatch({ tagLsb: 20, tagVal: 0x100_0000n }, 5))).toMatchObject({
    kind: 'patched',
    tagVal: 0n,
  })
})

test('mode vhe is five NOPs, both ways', () => {
  expect(encodePatch({ mode: 'vhe' }, 9)).toEqual([NOP, NOP, NOP, NOP, NOP])
  expect(decodePatch([NOP, NOP, NOP, NOP, NOP])).toEqual({ kind: 'vhe' })
})

test('code that is not patched yet', () => {
  expect(decodePatch(wordsOf('92400000 93c00400 91000000 91400000 93c0fc00'))).toEqual({
    kind: 'unpatched',
    register: 0,
  })
  expect(decodePatch(wordsOf('92400108 93c80508 91000108 91400108 93c8fd08'))).toEqual({
    kind: 'unpatched',
    register: 8,
  })
})

test.each([
  ['AND of two registers', '92408d09 93c89108 91225d08 91403d08 93c87108', 1],
  ['AND with a rotated mask', '92418d08 93c89108 91225d08 91403d08 93c87108', 1],
  ['32-bit AND', '12008d08 93c89108 91225d08 91403d08 93c87108', 1],
  ['reserved mask of 64 bits', '9240fd08 d503201f d503201f d503201f d503201f', 1],
  ['register 31', '92408fff d503201f d503201f d503201f d503201f', 1],
  ['register 31, as a placeholder', '924003ff 93df07ff 910003ff 914003ff 93dfffff', 1],
  ['NOP first', 'd503201f 93c89108 91225d08 91403d08 93c87108', 1],
  ['ROR by another amount', '92408d08 93c89508 91225d08 91403d08 93c87108', 2],
  ['ROR of another register', '92408d08 93c99108 91225d08 91403d08 93c87108', 2],
  ['first ADD shifted', '92408d08 93c89108 91625d08 91403d08 93c87108', 3],
  ['first ADD on another register', '92408d08 93c89108 91225d09 91403d08 93c87108', 3],
  ['second ADD shifted and zero', '92408d08 93c89108 91225d08 91400108 93c87108', 4],
  ['second ADD not shifted and not zero', '92408d08 93c89108 91225d08 91003d08 93c87108', 4],
  ['last ROR by another amount', '92408d08 93c89108 91225d08 91403d08 93c87508', 5],
  ['NOP in the middle', '92408d08 93c89108 d503201f 91403d08 93c87108', 3],
  ['only three NOPs', '92408d08 d503201f d503201f d503201f 93c87108', 2],
  ['SUB instead of ADD', '92408d08 93c89108 d1225d08 91403d08 93c87108', 3],
])('not what a kernel writes: %s', (_, text, word) => {
  const result = decodePatch(wordsOf(text))
  expect(result.kind).toBe('inconsistent')
  expect(result).toHaveProperty('reason', expect.stringContaining(`word ${word} (${text.split(' ')[word - 1]})`))
})

test('a tag that would reach beyond bit 63', () => {
  const [and, ror, , , back] = encodePatch({ tagLsb: 60, tagVal: 1n }, 0)
  expect(decodePatch([and!, ror!, 0x91003c00, 0x91000000, back!])).toMatchObject({ kind: 'patched', tagVal: 15n })
  expect(decodePatch([and!, ror!, 0x91004000, 0x91000000, back!])).toMatchObject({ kind: 'inconsistent' })
})

test('flipping any one bit of a real sequence never decodes to the same layout and register', () => {
  const words = wordsOf(VECTORS[3][3])
  const whole = decodePatch(words)
  for (let bit = 0; bit < 160; bit++) {
    const flipped = words.with(bit >> 5, (words[bit >> 5]! ^ (1 << (bit & 31))) >>> 0)
    expect(decodePatch(flipped)).not.toEqual(whole)
  }
})

test('bad arguments', () => {
  const layout = { tagLsb: 36, tagVal: 1n }
  const code = (code: string) => expect.objectContaining({ code })
  expect(() => encodePatch(layout, 31)).toThrow(code('HYPVA_ARGUMENT'))
  expect(() => encodePatch(layout, -1)).toThrow(RangeError)
  expect(() => encodePatch(layout, 1.5)).toThrow(TypeError)
  expect(() => encodePatch({}, 0)).toThrow(code('HYPVA_LAYOUT'))
  expect(() => decodePatch([NOP, NOP, NOP, NOP])).toThrow(code('HYPVA_ARGUMENT'))
  expect(() => decodePatch([NOP, NOP, NOP, NOP, 2 ** 32])).toThrow(RangeError)
  expect(() => decodePatch([NOP, NOP, NOP, NOP, -1])).toThrow(RangeError)
  expect(() => decodePatch([NOP, NOP, NOP, NOP, 'x' as never])).toThrow(TypeError)
})
