import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ABI } from '../../src/engine/wasm.generated.ts'
import { CUT_WINDOW, cutOffset } from '../../src/translate/cuts.ts'
import { TextRewriter } from '../../src/translate/text-rewriter.ts'
import { fromLatin1, latin1, rewriteTextOracle, translateOracle } from '../oracle.ts'

const SEGMENTS = [
  { start: 0x89b3_4000_0000n, end: 0x89b3_c000_0000n, delta: 0xffff_0000_0000_0000n - 0x89b3_4000_0000n },
  { start: 0xffff_ad43_0620_0000n, end: 0xffff_ad43_0821_0000n, delta: 0n },
]

/** The text rewritten in parts, cut near every place given. */
function inParts(text: string, places: readonly number[]): string {
  const bytes = latin1(text)
  const cuts = places.map((place) => place + cutOffset(bytes.subarray(place, place + CUT_WINDOW)))
  const rewriter = new TextRewriter({ kind: 'checked', segments: SEGMENTS }, { countAll: true })
  let out = ''
  let start = 0
  for (const end of [...cuts, bytes.length]) {
    rewriter.begin(start, bytes.subarray(Math.max(0, start - ABI.TEXT_CONTEXT), start)).set(bytes.subarray(start, end))
    out += fromLatin1(rewriter.commit(end - start, true))
    start = end
  }
  return out
}

const whole = (text: string) => rewriteTextOracle(text, (x) => translateOracle(SEGMENTS, x)).text

describe('text cut at token-safe places', () => {
  const sample = [
    'pc 0x89b340000000 lr ffffad4306210000, 89b340000000.',
    `${'f'.repeat(16)} ${'f'.repeat(17)} ${'f'.repeat(18)} ${'f'.repeat(19)} ${'f'.repeat(40)}89b340000000`,
    `0x${'0'.repeat(4)}89b340000000 0x${'0'.repeat(5)}89b340000000 ${'z'.repeat(30)}0x89b340000000 0x89b340000000`,
    `${'0'.repeat(60)}0x89b340000000_89b340000000 \xff89b340000000\xff0X89B340000000`,
  ].join('\n')

  test('every cut position, and every pair of them', () => {
    const want = whole(sample)
    expect(want).not.toBe(sample)
    for (let place = 0; place <= sample.length; place++) {
      expect(inParts(sample, [place])).toBe(want)
      expect(inParts(sample, [place, Math.min(sample.length, place + 25)])).toBe(want)
    }
  })

  test('any text', () => {
    const piece = fc.oneof(
      fc.string({ unit: fc.constantFrom(...'0123456789abcdefxX_g \n'), maxLength: 40 }),
      fc.constantFrom('0x89b340000000', '89b340001234', 'ffffad4306210000', ' ', 'x', '0x', 'FFFFAD4306210000'),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), fc.nat({ max: 300 }), (pieces, place) => {
        const text = pieces.join('')
        expect(inParts(text, [Math.min(place, text.length)])).toBe(whole(text))
      }),
      { numRuns: 3000 },
    )
  })
})
