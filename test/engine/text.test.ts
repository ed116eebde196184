import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Engine } from '../../src/engine/engine.ts'
import type { Plan } from '../../src/engine/segments.ts'
import { newCounts } from '../../src/translate/rewriter.ts'
import { type TagClues, TagWatch } from '../../src/translate/tag-watch.ts'
import { TextRewriter } from '../../src/translate/text-rewriter.ts'
import type { Range } from '../../src/u64.ts'
import { runs } from '../campaign.ts'
import { fromLatin1, latin1, rewriteTextOracle, translateOracle } from '../oracle.ts'

type Checked = Extract<Plan, { kind: 'checked' }>

const plan = (...segments: [bigint, bigint, bigint][]): Checked => ({
  kind: 'checked',
  segments: segments.map(([start, end, delta]) => ({ start, end, delta: BigInt.asUintN(64, delta) })),
})

// Kernel to hyp of a real shape; hyp to kernel (12 digits become 16); physical (short tokens grow); identity near 0.
const KERNEL = plan(
  [0xffff_0000_0000_0000n, 0xffff_0000_8000_0000n, 0x89b3_4000_0000n - 0xffff_0000_0000_0000n],
  [0xffff_ad43_0620_0000n, 0xffff_ad43_0821_0000n, 0x89b3_8020_0000n - 0xffff_ad43_0620_0000n],
)
const HYP = plan([0x89b3_4000_0000n, 0x89b3_c000_0000n, 0xffff_0000_0000_0000n - 0x89b3_4000_0000n])
const PHYS = plan([0x4000_0000n, 0xc000_0000n, 0xffff_0000_0000_0000n - 0x4000_0000n])
const LOW = plan([0n, 0x1000n, 0xffff_8000_0000_0000n])
const SHRINK = plan([0xffff_0000_0000_0000n, 0xffff_0000_0000_1000n, -0xffff_0000_0000_0000n])
// More than a pair of segments, of sixteen digits, of twelve, and down to a few: most keep their length, some do not.
const BANKS = plan(
  ...[0n, 1n, 2n].map((i): [bigint, bigint, bigint] => [
    0xffff_0000_0000_0000n + (i << 32n),
    0xffff_0000_0000_0000n + (i << 32n) + 0x8000_0000n,
    0x1000_0000n << i,
  ]),
)
const HYP_BANKS = plan(
  [0x1000_0000_0000n, 0x1000_8000_0000n, 0x1234_5678_9000n],
  [0x89b3_4000_0000n, 0x89b3_c000_0000n, 0x1000n],
  [0xf9b3_4000_0000n, 0xf9b3_4000_2000n, 0x064c_bfff_f000n],
)
const HYP_PAIR = plan(
  [0x89b3_4000_0000n, 0x89b3_c000_0000n, -0x1000_0000_0000n],
  [0xf9b3_4000_0000n, 0xf9b3_4000_2000n, 0x064c_bfff_f000n],
)
const BANKS_FROM_0 = plan([0n, 0x10n, 1n], [0x1000n, 0x2000n, 0n], [0x4000_0000n, 0xc000_0000n, 0x1_0000n])
// More than are tried one by one.
const MANY = plan(
  ...Array.from({ length: 34 }, (_, i): [bigint, bigint, bigint] => {
    const start = 0x4000_0000n << BigInt(i)
    return [start, start + 0x1000n, BigInt(i) * 0x1_0000n]
  }),
)
const MANY_BANKS = plan(
  ...Array.from({ length: 20 }, (_, i): [bigint, bigint, bigint] => {
    const start = 0xffff_0000_0000_0000n + (BigInt(i) << 32n)
    return [start, start + 0x8000_0000n, -0x1000n << BigInt(i)]
  }),
)
const PLANS: Record<string, Checked> = {
  KERNEL,
  HYP,
  PHYS,
  LOW,
  SHRINK,
  BANKS,
  HYP_BANKS,
  HYP_PAIR,
  BANKS_FROM_0,
  MANY,
  MANY_BANKS,
}

const within = (x: bigint, { start, end }: Range) => x >= start && x < end
/** Two ranges whose tokens are counted: twelve digits each. */
const CLUES: TagClues = {
  space: {
    tagLsb: 31,
    tag: 0x89b3_0000_0000n,
    region: { start: 1n << 47n, end: 1n << 48n },
    own: { start: 0x89b3_0000_0000n, end: 0x89b3_8000_0000n },
  },
  users: { byDefault: [], atMost: [] },
  step: 2 ** 30,
  outputs: [],
}

interface Reused {
  readonly rewriter: TextRewriter
  readonly watch: TagWatch
}
/** Rewriters by plan and options. A new one has to make and clear its memory, which takes longer than most texts here. */
const rewriters = new WeakMap<Plan, Map<string, Reused>>()

/** A rewriter at the beginning of a text. Its memory still holds the previous text, which must not show in this one. */
function rewriterFor(p: Plan, countAll: boolean, chunk: number, gaps: readonly Range[]): Reused {
  const byOptions = rewriters.get(p) ?? new Map<string, Reused>()
  rewriters.set(p, byOptions)
  const key = `${countAll} ${chunk} ${gaps.length}`
  const known = byOptions.get(key)
  if (known !== undefined) {
    Object.assign(known.rewriter.counts, newCounts())
    known.rewriter.begin(0, new Uint8Array(0))
    return known
  }
  const watch = new TagWatch(CLUES)
  const made = { rewriter: new TextRewriter(p, { countAll, chunk, gaps, watch }), watch }
  byOptions.set(key, made)
  return made
}

/** Runs text through a rewriter in pieces of the given sizes (the last one takes the rest). */
function rewrite(p: Plan, text: string, cuts: number[] = [], countAll = true, chunk = 65536, gaps: Range[] = []) {
  const { rewriter, watch } = rewriterFor(p, countAll, chunk, gaps)
  const before = watch.report()
  const input = latin1(text)
  const out: Uint8Array[] = []
  let at = 0
  for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
    const stop = Math.min(input.length, at + cut)
    do {
      const space = rewriter.space()
      const n = Math.min(space.length, stop - at)
      space.set(input.subarray(at, at + n))
      at += n
      out.push(rewriter.commit(n, false).slice())
    } while (at < stop)
  }
  rewriter.space()
  out.push(rewriter.commit(0, true).slice())
  expect(rewriter.end()).toBeUndefined()
  const { inRegion, own } = watch.report()
  return {
    text: fromLatin1(Buffer.concat(out)),
    counts: rewriter.counts,
    watched: { inRegion: inRegion - before.inRegion, own: own - before.own },
  }
}

/** Every address that lies in no segment. */
function elsewhere({ segments }: Checked): Range[] {
  const edges = [0n, ...segments.flatMap(({ start, end }) => [start, end]), 1n << 64n]
  return edges.flatMap((start, i) => (i % 2 === 0 && start < edges[i + 1]! ? [{ start, end: edges[i + 1]! }] : []))
}

function check(p: Checked, text: string, cuts: number[] = [], chunk?: number) {
  const values: bigint[] = []
  const want = rewriteTextOracle(text, (x) => {
    values.push(x)
    return translateOracle(p.segments, x)
  })
  const inRegion = values.filter((x) => within(x, CLUES.space.region)).length
  const own = values.filter((x) => within(x, CLUES.space.own)).length
  // Failed are those in the gaps: here all that miss.
  const got = rewrite(p, text, cuts, true, chunk, elsewhere(p))
  expect(got.text).toBe(want.text)
  expect(got.counts).toEqual({
    bytesIn: text.length,
    bytesOut: want.text.length,
    translated: want.translated,
    missed: want.missed,
    failed: want.missed,
    firstFailed: want.firstMiss,
  })
  expect(got.watched).toMatchObject({ inRegion, own })
  // Passing over tokens that are too short to translate changes no byte.
  const quick = rewrite(p, text, cuts, false, chunk)
  const fewestDigits = p.segments[0]!.start.toString(16).length
  const { missed } = rewriteTextOracle(text, (x) => translateOracle(p.segments, x), fewestDigits)
  expect(quick.text).toBe(want.text)
  if (fewestDigits <= 12) expect(quick.watched).toMatchObject({ inRegion, own })
  expect(quick.counts).toEqual({ ...got.counts, missed, failed: 0, firstFailed: -1 })
}

const SAMPLES = [
  'Trace 0: 0x7f9f92705c80 [0000000000007001/ffffad43062114a0/00000021/ff000200] \n',
  ' kvmtest-106 [001] d.... 36.029535: kvm_entry: PC: 0x0000000040000000\r\n => f+0x388/0x800 <ffffad430665aa98>\r\n',
  '0x0 0x1 0xfff 0x1000 0X0 0x00000000000000000 0x0000000000000000\n',
  'ffffad43062114a0',
  'FFFFAD43062114A0 FFFFad43062114A0 0xFFFFAD43062114A0 0X89B340000000\n',
  'xffffad43062114a0 _ffffad43062114a0 ffffad43062114a0_ ffffad43062114a0g 00xffffad43062114a0 0xxffffad43062114a0',
  'ffffad43062114a00 0ffffad43062114a0 0xffffad43062114a00 ffffad43062114a',
  '\xe9ffffad43062114a0\xe9 \xffffffad43062114a0',
  '89b340000000 089b340000000 0x89b340000000,(89b3bfffffff)+89b3c0000000',
  '40000000 040000000 0x40000000 0xbfffffff 0xc0000000 00000000c0000000 0000000040000000',
  '0x40000000/0x40000001/0x40000002 and 0x000000040000000',
  'ffff000000000000 0xffff000000000fff 0xFFFF00000000000A ffff000000001000',
  '',
  '0x',
  '0x\n0x 0xg',
  'f'.repeat(300),
  `${'f'.repeat(40)} ffffad43062114a0 ${'0'.repeat(100)}ffffad43062114a0`,
  `${'z'.repeat(100)}0xffffad43062114a0`,
  '-ffffad43062114a0+ffffad43062114a0*ffffad43062114a0',
  '1000000000000000 2000000000000fff 0x8000000000000abc 4000000000001000 80000010 0x80000010 100000000000 f9b340001000',
  'ffff000100000000 FFFF000200000ABC ffff000300000000 ffff00017fffffff ffff000180000000 89b340000000 f9b340000010 89B340000ABC',
]

// Words of the alphabet that matters, near the lengths and values that matter.
const hex = fc.constantFrom(...'0123456789abcdefABCDEF')
const near = fc
  .constantFrom(...Object.values(PLANS).flatMap((q) => q.segments.flatMap((s) => [s.start, s.end])))
  .chain((edge) => fc.bigInt({ min: -3n, max: 3n }).map((d) => BigInt.asUintN(64, edge + d)))
const word = fc.oneof(
  near.map((x) => x.toString(16)),
  near.map((x) => x.toString(16).padStart(16, '0')),
  near.map((x) => `0x${x.toString(16).toUpperCase()}`),
  fc
    .tuple(fc.constantFrom('', '0x', '0X', 'x', '0'), fc.string({ unit: hex, minLength: 0, maxLength: 20 }))
    .map((t) => t.join('')),
  fc.string({ unit: 'binary', maxLength: 6 }).map((s) => fromLatin1(latin1(s))),
  fc.constantFrom(' ', '\n', '_', 'g', '.', '\r\n', '\0', '0', 'x', '\xff', '@', 'G', '`', '/', ':', '['),
)
const text = fc.array(word, { maxLength: 60 }).map((words) => words.join(''))

describe.each(Object.keys(PLANS))('text, plan %s', (name) => {
  const p = PLANS[name]!

  test('every sample, every cut position', () => {
    for (const sample of SAMPLES) {
      check(p, sample)
      for (let cut = 0; cut <= sample.length; cut++) check(p, sample, [cut])
    }
  })

  test('one byte at a time', () => {
    const text = SAMPLES.join('\n')
    check(p, text, Array(text.length).fill(1))
  })

  test('every length up to 100 before, in and behind a token', () => {
    for (let n = 0; n <= 100; n++) {
      check(p, `${' '.repeat(n)}ffffad43062114a0${' '.repeat(100 - n)}`)
      check(p, `${'.'.repeat(n)}0x89b340000000`)
      check(p, `${'0'.repeat(n)} ${'f'.repeat(n)}\n0x${'0'.repeat(n)}`)
    }
  })

  test('tokens across tiles and chunks', () => {
    const line = SAMPLES.join(' ')
    const text = line.repeat(Math.ceil(70_000 / line.length))
    for (let shift = 0; shift < 40; shift++) check(p, 'x '.repeat(shift) + text)
    for (const chunk of [1, 7, 17, 18, 19, 20, 64, 100, 4096]) check(p, text.slice(0, 20_000), [], chunk)
  })

  test('any text, any cuts', () => {
    fc.assert(
      fc.property(text, fc.array(fc.nat({ max: 80 }), { maxLength: 8 }), (t, cuts) => check(p, t, cuts)),
      { numRuns: runs(1500, 50_000) },
    )
  })
})

// Every pass there is: by the number of segments, the digits of the lowest, and whether translation changes their number.
describe.each([1, 2, 3, 16, 17, 40])('%i segments', (count) => {
  test.each(
    [2, 9, 12, 16].flatMap(
      (digits) =>
        [
          [digits, 'stay as many', 0x100n],
          [digits, 'become more or fewer', 0x9_8765_4321_0000n],
        ] as const,
    ),
  )('of %i digits and more that %s', (digits, _, delta) => {
    // Disjoint, and a few bytes each: any number of them fits two digits.
    const start = 16n ** BigInt(digits - 1)
    const step = digits === 2 ? 4n : 0x1000n
    const p = plan(
      ...Array.from({ length: count }, (_, i): [bigint, bigint, bigint] => {
        const at = start + BigInt(i) * step
        return [at, at + 3n, delta]
      }),
    )
    const near = fc
      .tuple(fc.nat({ max: count - 1 }), fc.integer({ min: -1, max: 4 }))
      .map(([i, d]) => BigInt.asUintN(64, start + BigInt(i) * step + BigInt(d)))
    const word = fc.oneof(
      near.map((x) => `0x${x.toString(16)}`),
      near.map((x) => x.toString(16).toUpperCase()),
      near.map((x) => x.toString(16).padStart(16, '0')),
      fc.constantFrom(' ', '\n', '_', 'x', '0x', ' and so on '),
    )
    const text = fc.array(fc.tuple(word, fc.constantFrom(' ', ',', '')), { maxLength: 60 })
    fc.assert(
      fc.property(text, fc.array(fc.nat({ max: 200 }), { maxLength: 3 }), (words, cuts) =>
        check(p, words.flat().join(''), cuts),
      ),
      { numRuns: runs(60, 2000) },
    )
  })
})

test('the macro goes to every token', () => {
  const mask = 0xffff_ffffn
  const tag = 0x12_0000_0000n
  const text = SAMPLES.join('\n')
  const want = rewriteTextOracle(text, (x) => (x & mask) + tag)
  expect(rewrite({ kind: 'macro', mask, tag }, text).text).toBe(want.text)
})

test('what is outside the chunk is left alone, whatever stands there', () => {
  // A previous longer chunk leaves its bytes behind the present one: they must not become part of a token.
  const rewriter = new TextRewriter(KERNEL, { countAll: true })
  rewriter.space().fill(0x66).set(latin1('\n'), 199)
  rewriter.commit(200, false)
  const space = rewriter.space()
  space.set(latin1('ffffad43062114a0'))
  expect(fromLatin1(rewriter.commit(16, false))).toBe('')
  rewriter.space()
  expect(fromLatin1(rewriter.commit(0, true))).toBe('000089b3802114a0')
})

test('a table with fewer segments than the one before it', () => {
  const engine = new Engine(1 << 16)
  const at = engine.heap + 128
  const text = 'ffff000000000123 ffffad43062114a0'
  const rewriteWith = (segments: number) => {
    engine.bytes.set(latin1(text), at)
    engine.exports.rewriteText(at, text.length, at + 4096, 1, segments, 16)
    return fromLatin1(engine.bytes.slice(at, at + text.length))
  }
  engine.load({ kind: 'checked', segments: KERNEL.segments })
  expect(rewriteWith(2)).toBe('000089b340000123 000089b3802114a0')
  expect(rewriteWith(1)).toBe('000089b340000123 ffffad43062114a0')
})
