import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { createNamer, createTranslator, type HypLayout, parseSymbols } from '../../src/index.ts'
import { RawLines } from '../../src/translate/binary.ts'
import { checkedPlan } from '../../src/translate/directions.ts'
import { complementOf } from '../../src/translate/expected.ts'
import { NameRewriter, namedRanges } from '../../src/translate/names.ts'
import type { Rewriter } from '../../src/translate/rewriter.ts'
import { fromLatin1, latin1 } from '../oracle.ts'

// A table of random symbols, and the slow and obvious way to look one up.
const TEXT = 0xffff800008000000n
const SIZE = 0x40000n
const layout: HypLayout = {
  tagLsb: 30,
  tagVal: 0x1234n,
  image: { start: TEXT, end: TEXT + SIZE },
  kimageVoffset: TEXT - 0x40000000n,
  kaslrOffset: 0n,
  hypPhysvirtOffset: 2n ** 64n - 0x3000000000n,
}
const HYP = 0x40000000n - layout.hypPhysvirtOffset! + 2n ** 64n
const symbols: { start: bigint; name: string }[] = []
let at = TEXT
for (let i = 0; at < TEXT + SIZE; i++) {
  symbols.push({
    start: at,
    name: i === 0 ? '_text' : i % 3 === 0 ? `__kvm_nvhe_f${i}` : `${'g'.repeat(1 + ((i * 37) % 90))}${i}`,
  })
  // Dense here, sparse there.
  at += BigInt(1 + ((i * 7919) % (i % 100 < 90 ? 16 : 4000)))
}
const source = [
  ...symbols.map(({ start, name }) => `${start.toString(16)} t ${name}`),
  `${(TEXT + SIZE).toString(16)} B _end`,
]
const table = parseSymbols(source.join('\n'))

function nameOracle(hyp: bigint): string | undefined {
  const image = hyp - HYP + TEXT
  if (image < TEXT || image >= TEXT + SIZE) return undefined
  let found = 0
  for (const [i, { start }] of symbols.entries()) if (start <= image) found = i
  const { start, name } = symbols[found]!
  const size = (symbols[found + 1]?.start ?? TEXT + SIZE) - start
  const mark = name.startsWith('__kvm_nvhe_') ? ' [nVHE]' : ''
  return `${name.replace('__kvm_nvhe_', '')}+0x${(image - start).toString(16)}/0x${size.toString(16)}${mark}`
}

const namer = createNamer(layout, table, { from: 'hyp' })
const inside = fc.bigInt({ min: HYP, max: HYP + SIZE - 1n })
const edges = fc.constantFrom(HYP - 1n, HYP, HYP + SIZE - 1n, HYP + SIZE, 0n, 2n ** 64n - 1n, TEXT)
const address = fc.oneof({ weight: 6, arbitrary: inside }, edges, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))

describe('batches', () => {
  test('any batch is what a search through all symbols finds', () => {
    fc.assert(
      fc.property(fc.array(address, { maxLength: 3000, size: 'max' }), (list) => {
        const batch = namer.nameBatch(BigUint64Array.from(list))
        const want = list.map(nameOracle)
        expect(list.map((_, i) => batch.nameAt(i))).toEqual(want)
        expect(batch.missed).toBe(want.filter((name) => name === undefined).length)
        expect(batch.firstMiss).toBe(want.indexOf(undefined))
        expect(list.map((x) => namer.name(x))).toEqual(want)
      }),
      { numRuns: 15 },
    )
  })

  test('every boundary of every symbol', () => {
    const list = symbols.flatMap(({ start }) => [-1n, 0n, 1n].map((d) => start - TEXT + HYP + d))
    const batch = namer.nameBatch(BigUint64Array.from(list))
    expect(list.map((_, i) => batch.nameAt(i))).toEqual(list.map(nameOracle))
  })

  test('return addresses: the symbol of the address before, the offset of the address itself', () => {
    const back = createNamer(layout, table, { from: 'hyp', returnAddresses: true })
    const list = symbols.slice(1, 500).map(({ start }) => start - TEXT + HYP)
    const batch = back.nameBatch(BigUint64Array.from(list))
    list.forEach((x, i) => {
      const before = nameOracle(x - 1n)!
      const [, offset] = /\+0x([0-9a-f]+)/.exec(before)!
      const want = before.replace(/\+0x[0-9a-f]+/, `+0x${(BigInt(`0x${offset}`) + 1n).toString(16)}`)
      expect(batch.nameAt(i)).toBe(want)
      expect(back.name(x)).toBe(want)
    })
  })
})

const TOKEN = /(?<![0-9A-Za-z_])(0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{9,16})(?![0-9A-Za-z_])/g

/** DESIGN's "What is an address in text", with names. */
function textOracle(text: string, annotate?: (x: bigint) => bigint | undefined): string {
  return text.replace(TOKEN, (token) => {
    const [, prefix = '', digits] = /^(0[xX])?([0-9a-fA-F]+)$/.exec(token)!
    const x = BigInt(`0x${digits}`)
    const name = nameOracle(x)
    if (annotate === undefined) return name ?? token
    const moved = annotate(x)
    const upper = /[A-F]/.test(digits!) && !/[a-f]/.test(digits!)
    let written = digits!
    if (moved !== undefined) {
      written = digits!.length === 16 ? moved.toString(16).padStart(16, '0') : moved.toString(16)
      if (upper) written = written.toUpperCase()
    }
    return `${prefix}${written}${name === undefined ? '' : ` <${name}>`}`
  })
}

function run(rewriter: Rewriter, input: Uint8Array, cuts: readonly number[]): Uint8Array {
  const out: Buffer[] = []
  const feed = (piece: Uint8Array) => {
    for (let from = 0; from < piece.length; ) {
      const space = rewriter.space()
      const length = Math.min(space.length, piece.length - from)
      space.set(piece.subarray(from, from + length))
      out.push(Buffer.from(rewriter.commit(length, false)))
      from += length
    }
  }
  let from = 0
  for (const cut of [...cuts, input.length]) {
    feed(input.subarray(from, cut))
    from = cut
  }
  rewriter.space()
  out.push(Buffer.from(rewriter.commit(0, true)))
  return Buffer.concat(out)
}

const word = fc.oneof(
  address.map((x) => x.toString(16)),
  address.map((x) => `0x${x.toString(16)}`),
  address.map((x) => x.toString(16).padStart(16, '0').toUpperCase()),
  fc.constantFrom('deadbeef', 'word', '0x', '0x1', '\u00e9', '_', '0123456789abcdef0'),
)
const text = fc
  .array(fc.tuple(word, fc.constantFrom(' ', '\n', '\r\n', '/', '>', '', '_')), { maxLength: 60 })
  .map((list) => list.flat().join(''))

describe('text', () => {
  const kernel = createTranslator(layout, { from: 'hyp', to: 'image' })
  const modes: [string, () => Rewriter, (t: string) => string][] = [
    ['names', () => new NameRewriter(namer, { chunk: 256 }), (t) => textOracle(t)],
    [
      'annotations',
      () => new NameRewriter(namer, { chunk: 256, annotate: checkedPlan(layout, 'hyp', 'image') }),
      (t) => textOracle(t, (x) => kernel.tryTranslate(x)),
    ],
    [
      'annotations of macro output',
      () =>
        new NameRewriter(namer, { chunk: 256, annotate: { kind: 'macro', mask: 0x3fffffffn, tag: 0x48d00000000n } }),
      (t) => textOracle(t, (x) => (x & 0x3fffffffn) + 0x48d00000000n),
    ],
  ]
  test.each(modes)('%s, cut anywhere', (_, make, oracle) => {
    fc.assert(
      fc.property(text, fc.array(fc.nat(), { maxLength: 4 }), (input, places) => {
        const cuts = places.map((place) => place % (input.length + 1)).sort((x, y) => x - y)
        expect(fromLatin1(run(make(), latin1(input), cuts))).toBe(oracle(fromLatin1(latin1(input))))
      }),
      { numRuns: 200 },
    )
  })

  test('the densest text has room for its names', () => {
    const longest = symbols.reduce((a, s) => (s.name.length > a.name.length ? s : a))
    const x = (longest.start - TEXT + HYP).toString(16)
    const input = `${x} `.repeat(2000)
    const out = fromLatin1(run(new NameRewriter(namer, { chunk: 4096 }), latin1(input), []))
    expect(out).toBe(textOracle(input))
    const short = '0x1 '.repeat(3000)
    const counted = new NameRewriter(namer, { chunk: 4096, countAll: true })
    expect(fromLatin1(run(counted, latin1(short), []))).toBe(short)
    expect(counted.counts).toMatchObject({ translated: 0, missed: 3000, failed: 0, firstFailed: -1 })
  })

  test('where names are, every boundary of every symbol', () => {
    for (const returnAddresses of [false, true]) {
      const other = createNamer(layout, table, { returnAddresses })
      const ranges = namedRanges(other)
      const edges = symbols.flatMap(({ start }) => [start - TEXT + HYP, start])
      for (const edge of edges) {
        for (const x of [edge - 1n, edge, edge + 1n]) {
          const inside = ranges.some(({ start, end }) => x >= start && x < end)
          if (inside !== (other.name(x) !== undefined)) expect([x, inside]).toEqual([x, other.name(x) !== undefined])
        }
      }
      expect(ranges.length).toBeGreaterThan(1)
    }
  })

  test('counts and the first miss', () => {
    const gaps = complementOf(namedRanges(namer))
    const rewriter = new NameRewriter(namer, { countAll: true, chunk: 64, gaps })
    const input = `${HYP.toString(16)} x ${HYP.toString(16)} 0x5 ${HYP.toString(16)} 0x6`
    run(rewriter, latin1(input), [])
    expect(rewriter.counts).toMatchObject({ translated: 3, missed: 2, failed: 2, firstFailed: input.indexOf('0x5') })
  })

  test.each(['le', 'be'] as const)('raw words, %s: one line each', (order) => {
    const list = [HYP, 5n, HYP + 100n, TEXT]
    const bytes = Buffer.from(BigUint64Array.from(list).buffer)
    if (order === 'be') bytes.swap64()
    const gaps = complementOf(namedRanges(namer))
    const make = () => new RawLines((chunk) => new NameRewriter(namer, { chunk, countAll: true, gaps }), order, 3)
    for (const cuts of [[], [1], [8], [3, 17]]) {
      const want = list.map((x) => `${nameOracle(x) ?? x.toString(16).padStart(16, '0')}\n`).join('')
      expect(fromLatin1(run(make(), bytes, cuts))).toBe(want)
    }
    const counted = make()
    run(counted, bytes, [])
    expect(counted.counts).toMatchObject({ bytesIn: 32, translated: 2, missed: 2, failed: 2, firstFailed: 8 })
    expect(counted.end()).toBeUndefined()
    const cut = make()
    run(cut, bytes.subarray(0, 13), [])
    expect(cut.end()).toEqual({ offset: 8, bytes: 5 })
  })
})

describe('a translator with symbols', () => {
  let translator: ReturnType<typeof createTranslator>
  beforeAll(() => {
    translator = createTranslator(layout, { from: 'hyp', to: 'image', symbols: table })
  })
  const through = async (stream: TransformStream<Uint8Array, Uint8Array>, input: string) =>
    new Response(new Blob([input]).stream().pipeThrough(stream)).text()

  test('names one, many, and streams', async () => {
    const x = HYP + 1234n
    expect(translator.name(x)).toBe(nameOracle(x))
    expect(translator.nameBatch(BigUint64Array.of(x, 5n)).nameAt(0)).toBe(nameOracle(x))
    expect(await through(translator.nameStream(), `pc ${x.toString(16)}\n`)).toBe(`pc ${nameOracle(x)}\n`)
    expect(await through(translator.annotateStream(), `pc ${x.toString(16)}\n`)).toBe(
      `pc ${(x - HYP + TEXT).toString(16)} <${nameOracle(x)}>\n`,
    )
  })

  test('without symbols there are no names, and that is said', () => {
    const plain = createTranslator(layout, { from: 'hyp', to: 'image' })
    expect(() => plain.name(HYP)).toThrow(/symbols: no table given/)
    expect(() => translator.nameBatch([1n] as never)).toThrow(/expected a BigUint64Array/)
    expect(() => translator.name(5 as never)).toThrow(/expected a bigint/)
  })
})
