import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Engine } from '../../src/engine/engine.ts'
import { computeLayout } from '../../src/layout/compute.ts'
import { parseMachine } from '../../src/layout/json.ts'
import { checkedPlan } from '../../src/translate/directions.ts'
import { TagWatch, tagClues } from '../../src/translate/tag-watch.ts'
import { TextRewriter } from '../../src/translate/text-rewriter.ts'
import { boot, boots, machineJson } from '../fixtures.ts'
import { latin1 } from '../oracle.ts'

const layoutOf = (name: string) => computeLayout(parseMachine(machineJson(boot(name))))

/** Runs text through a rewriter with a watch, in pieces of the given sizes. */
function watch(name: string, text: string, cuts: readonly number[] = []): TagWatch {
  const layout = layoutOf(name)
  const plan = checkedPlan(layout, undefined, 'phys')
  const watched = new TagWatch(tagClues(layout, plan.segments)!)
  const rewriter = new TextRewriter(plan, { watch: watched })
  const input = latin1(text)
  let at = 0
  for (const end of [...cuts.toSorted((a, b) => a - b), input.length]) {
    while (at < end) {
      const space = rewriter.space()
      const length = Math.min(space.length, end - at)
      space.set(input.subarray(at, at + length))
      rewriter.commit(length, false)
      at += length
    }
  }
  rewriter.space()
  rewriter.commit(0, true)
  return watched
}

/** Reproducible numbers, 0 to 2^32 - 1. */
function generator(seed: number): () => number {
  let state = (seed * 2654435761 + 0x2545f491) >>> 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

/** A random number below a power of two. */
const bits = (random: () => number, n: number) =>
  ((BigInt(random()) << 32n) | BigInt(random())) & ((1n << BigInt(n)) - 1n)
const hex = (x: bigint) => `0x${x.toString(16)}`
const page = (x: bigint) => x & ~0xfffn

/** A process as Linux places it: addresses of its code, its heap, its libraries and its stack. */
function program(random: () => number, width: number, random_bytes: number): () => bigint {
  const size = 1n << BigInt(width)
  const code = page((2n * size) / 3n) + page(bits(random, random_bytes))
  const stack = size - 0x1000n - page(bits(random, Math.min(random_bytes, 34)))
  const libraries = size - (1n << 28n) - page(bits(random, random_bytes))
  return () => {
    switch (random() % 8) {
      case 0:
        return stack - bits(random, 17)
      case 1:
        return code + (1n << 24n) + bits(random, 22)
      case 2:
      case 3:
      case 4:
        return libraries - bits(random, 24)
      default:
        return code + (bits(random, 20) & ~3n)
    }
  }
}

function lines(count: number, address: () => bigint): string {
  return Array.from({ length: count }, () => `x ${hex(address())}\n`).join('')
}

// Traces of the layout's own boot without a single hyp address: all the worse for a doubt.
const INNOCENT: Record<string, (random: () => number) => string> = {
  'programs, 48 bits, by default': (r) => {
    const programs = Array.from({ length: 1 + (r() % 20) }, () => program(r, 48, 30))
    return lines(2000, () => programs[r() % programs.length]!())
  },
  'programs, 48 bits, as random as can be': (r) => {
    const programs = Array.from({ length: 1 + (r() % 20) }, () => program(r, 48, 45))
    return lines(2000, () => programs[r() % programs.length]!())
  },
  'one executable alone, as random as can be': (r) => {
    const start = page(2n ** 49n / 3n) + page(bits(r, 45))
    return lines(1000, () => start + (bits(r, 20) & ~3n))
  },
  'programs, 39 bits': (r) => {
    const programs = Array.from({ length: 1 + (r() % 20) }, () => program(r, 39, r() % 2 ? 30 : 36))
    return lines(2000, () => programs[r() % programs.length]!())
  },
  'a guest, its user and its kernel': (r) => {
    const user = program(r, 48, 30)
    return lines(1000, () => (r() % 2 ? user() : 0xffff_8000_0800_0000n + bits(r, 25)))
  },
  'intermediate physical addresses, plain and shared ones of realms': (r) =>
    lines(1000, () => (r() % 2 ? 0x4000_0000n : 0x8000_4000_0000n) + (bits(r, 30) & ~3n)),
  'hardware addresses and hashes': (r) =>
    Array.from(
      { length: 1000 },
      () =>
        `525400${bits(r, 24).toString(16).padStart(6, '0')} ${bits(r, 48).toString(16).padStart(12, '0')} ${bits(r, 64).toString(16).padStart(16, '0')}\n`,
    ).join(''),
  'one number over and over, and a few more': (r) => {
    const few = Array.from({ length: 5 }, () => 0x8000_0000_0000n + bits(r, 47))
    return lines(2000, () => few[r() % few.length]!)
  },
  'QEMU of an x86 host': (r) => lines(1000, () => 0x7f00_0000_0000n + bits(r, 38)),
  'time stamps in hex': (r) => {
    let now = 0x9000_0000_0000n + bits(r, 44)
    return lines(2000, () => (now += 1000n + bits(r, 12)))
  },
}

describe.each(Object.entries(INNOCENT))('the right layout is not doubted: %s', (_, make) => {
  test.each(['exec-6.1-kaslr', 'd612-2g-max-nvhe', 'c4k39-2g-kaslr', 'hyppanic-4k39-null', 'd73-16k-2g-a35'])(
    '%s',
    (name) => {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 2 ** 31 }), (seed) => {
          expect(watch(name, make(generator(seed))).verdict()).toBeUndefined()
        }),
        { numRuns: 40, seed: 20261124 },
      )
    },
  )
})

test('100,000 addresses of programs, by default and as random as can be', () => {
  for (const spread of [30, 45]) {
    const random = generator(spread)
    const programs = Array.from({ length: 50 }, () => program(random, 48, spread))
    const found = watch(
      'exec-6.1-kaslr',
      lines(100_000, () => programs[random() % programs.length]!()),
    )
    expect(found.report().inRegion).toBeGreaterThan(50_000)
    expect(found.verdict()).toBeUndefined()
  }
})

describe('another boot is noticed', () => {
  const b = boot('d61-2g-kaslr1')
  const TAG = BigInt(b.observed.tag)
  // From the idmap page to the end of the hypervisor's text, by the kallsyms of this kernel.
  const inText = (x: bigint) => (x & 0x7fff_ffffn) >= 0xeed000n && (x & 0x7fff_ffffn) < 0xefd000n
  const code = [...new Set(b.pairs.map(({ hyp_va }) => BigInt(hyp_va)).filter(inText))]

  test('among programs and numbers, wherever the image is in the same place', () => {
    expect(code.length).toBeGreaterThan(10)
    for (const make of Object.values(INNOCENT)) {
      const random = generator(7)
      // Programs have more addresses than a hypervisor, unless they are where programs are by default.
      if (make === INNOCENT['programs, 48 bits, as random as can be'] || make === INNOCENT['programs, 39 bits'])
        continue
      if (make === INNOCENT['one executable alone, as random as can be']) continue
      const noise = make(random).split('\n').slice(0, 10)
      const text = code.map((x, i) => `${hex(x)}\n${noise[i % 10]}\n`).join('')
      expect(watch('exec-6.1-kaslr', text).verdict()).toMatchObject({
        tag: TAG,
        tagVal: TAG >> 31n,
        own: 0,
        complete: true,
      })
    }
  })

  test('two addresses are enough, whatever tag_lsb that boot had; but not where programs are', () => {
    // Boots of one machine, whose PHYS_OFFSET and with it tag_lsb are random, and the hyp addresses of one symbol in each.
    const names = [
      'd61-2g-kaslr1',
      'd61-2g-nokaslr',
      'd61-2g-a57-protected',
      'exec-6.1-kaslr',
      'ftrace-6.1',
      'hyppanic-6.1-bug',
    ]
    const entry = (name: string) => {
      const { hyp_va } = boot(name).pairs.find(({ symbol }) => symbol === '__kvm_nvhe_handle_trap')!
      return BigInt(hyp_va)
    }
    expect(new Set(names.map((name) => boot(name).observed.tag_lsb)).size).toBeGreaterThan(2)
    for (const layout of names) {
      for (const trace of names.filter((name) => name !== layout)) {
        const text = `PC:${hex(entry(trace))} LR:${hex(entry(trace) + 0x40n)}\n`
        const lsb = BigInt(boot(layout).observed.tag_lsb)
        expect(watch(layout, text).verdict()).toMatchObject({ tag: (entry(trace) >> lsb) << lsb, others: 2 })
      }
    }
    const text = (tag: bigint) => `PC:${hex(tag + 0xef0424n)} LR:${hex(tag + 0xef0464n)}\n`
    expect(watch('exec-6.1-kaslr', text(0xb5a5_8000_0000n)).verdict()).toBeDefined()
    expect(watch('exec-6.1-kaslr', text(0xb5a5_c000_0000n)).verdict()).toBeUndefined()
    expect(watch('exec-6.1-kaslr', text(0x95a5_c000_0000n)).verdict()).toBeDefined()
  })

  test('not when as many fall in front of the text of the hypervisor, where EL2 maps nothing', () => {
    const from = (first: bigint) =>
      Array.from({ length: 48 }, (_, i) => `${hex(TAG + first + BigInt(i) * 0x400n)}\n`).join('')
    expect(watch('exec-6.1-kaslr', from(0xeed000n)).verdict()).toMatchObject({ tag: TAG })
    expect(watch('exec-6.1-kaslr', from(0xeed000n - 4n * 0x400n)).verdict()).toMatchObject({ tag: TAG })
    expect(watch('exec-6.1-kaslr', from(0xeed000n - 5n * 0x400n)).verdict()).toBeUndefined()
  })

  test('not when the layout accounts for one in 64 or more', () => {
    const right = 0x89b3_80ef_1c00n
    const others = code
      .map((x) => `${hex(x)}\n`)
      .join('')
      .repeat(10)
    const count = code.length * 10
    const few = Math.ceil(count / 64)
    expect(watch('exec-6.1-kaslr', others + `${hex(right)}\n`.repeat(few - 1)).verdict()).toMatchObject({
      own: few - 1,
    })
    expect(watch('exec-6.1-kaslr', others + `${hex(right)}\n`.repeat(few)).verdict()).toBeUndefined()
  })

  test('a moved image: 64 addresses of code, seen again; fewer, or among those of programs, are not enough', () => {
    const moved = (n: number, tag = TAG, times = 2) =>
      Array.from({ length: n }, (_, i) => `${hex(tag + 0x6abc_0000n + BigInt((i * 37) % n) * 20n)}\n`)
        .join('')
        .repeat(times)
    const verdict = (text: string) => watch('d612-2g-a57-kaslr', text).verdict()
    // Above this layout's tag_lsb of 33 bits.
    const seen = ((TAG + 0x6abc_0000n) >> 33n) << 33n
    expect(verdict(moved(64, 0xd23b_8000_0000n))).toMatchObject({ others: 128, own: 0 })
    expect(verdict(moved(64, 0xd23b_8000_0000n))!.tag >> 33n).toBe((0xd23b_8000_0000n + 0x6abc_0000n) >> 33n)
    expect(seen).toBeGreaterThan(0n)
    expect(verdict(moved(63, 0xd23b_8000_0000n))).toBeUndefined()
    expect(verdict(moved(64, 0xd23b_8000_0000n, 1))).toBeUndefined()
    expect(verdict(moved(64, 0xb23b_8000_0000n))).toBeUndefined()
    expect(verdict(moved(64, 0xf23b_8000_0000n))).toBeUndefined()
  })

  test.each<[string, (i: number) => string]>([
    // A timer that expires at whole milliseconds, 800 to 999 s after boot, printed twice a line.
    [
      'expiries in decimal',
      (i) => `expires=${812_000_000_000 + i * 1_000_000} softexpires=${812_000_000_000 + i * 1_000_000}`,
    ],
    [
      'expiries in decimal, of a finer clock',
      (i) => `expires=${812_000_000_000 + i * 4_004} now=${812_000_000_000 + i * 4_004}`,
    ],
    [
      'expiries in hex',
      (i) => `expires=0x${(0x9356_9074_2000 + i * 4_000_000).toString(16)}`.repeat(2).replace('0', ' 0'),
    ],
    [
      'times of events by a clock of 62.5 MHz',
      (i) => `0x${(0x9356_9074_2000 + i * 4016).toString(16)} 0x${(0x9356_9074_2000 + i * 4016).toString(16)}`,
    ],
    [
      'times of events by a clock of 250 MHz',
      (i) => `0x${(0x9356_9074_2000 + i * 3004).toString(16)} 0x${(0x9356_9074_2000 + i * 3004).toString(16)}`,
    ],
    [
      'one value a line, rising through a page',
      (i) => `0x${(0x9356_9074_2000 + i * 4).toString(16)} 0x${(0x9356_9074_2000 + i * 4).toString(16)}`,
    ],
  ])('the right layout is not doubted for %s', (_, line) => {
    for (const count of [70, 1000]) {
      const text = Array.from({ length: count }, (__, i) => `${line(i)}\n`).join('')
      for (const { name } of boots) {
        const layout = layoutOf(name)
        if (tagClues(layout, []) !== undefined) expect([name, watch(name, text).verdict()]).toEqual([name, undefined])
      }
    }
  })

  test('while more may come, a moved image is no verdict yet, one in its place is', () => {
    const moved = Array.from(
      { length: 64 },
      (_, i) => `${hex(0xd23b_8000_0000n + 0x6abc_0000n + BigInt((i * 37) % 64) * 20n)}\n`,
    )
    const watched = watch('d612-2g-a57-kaslr', moved.join('').repeat(2))
    expect(watched.verdict()).toBeDefined()
    expect(watched.verdict(true)).toBeUndefined()
  })

  test('any cuts, any number of jobs: the counts are those of the text, the verdict is the same', () => {
    const random = generator(3)
    const user = program(random, 48, 30)
    const text = Array.from(
      { length: 400 },
      (_, i) =>
        [
          `0x${code[i % code.length]!.toString(16)} `,
          `${user().toString(16).toUpperCase()},`,
          `${hex(0x89b3_80ef_1c00n)}g `,
          'ffffad43062114a0 0x12\n',
        ][i % 4],
    ).join('')
    const values = [...text.matchAll(/(?<![0-9A-Za-z_])(?:0[xX])?([0-9a-fA-F]{1,16})(?![0-9A-Za-z_])/g)].map(
      ([, digits]) => BigInt(`0x${digits}`),
    )
    const inRegion = values.filter((x) => x >> 47n === 1n).length
    expect(inRegion).toBeGreaterThan(150)
    fc.assert(
      fc.property(fc.array(fc.nat({ max: text.length }), { maxLength: 6 }), (cuts) => {
        const one = watch('exec-6.1-kaslr', text, cuts)
        expect(one.report()).toMatchObject({ inRegion, own: 0, complete: true })
        expect(one.verdict()).toMatchObject({ tag: TAG, others: inRegion })
        const parts = [0, ...cuts.toSorted((a, b) => a - b)].map((cut) => text.indexOf('\n', cut) + 1 || text.length)
        const sum = new TagWatch(tagClues(layoutOf('exec-6.1-kaslr'), [])!)
        for (const [i, start] of [0, ...parts].entries())
          sum.add(watch('exec-6.1-kaslr', text.slice(start, parts[i] ?? text.length)).report())
        expect(sum.verdict()).toEqual(one.verdict())
      }),
      { numRuns: 40 },
    )
  })
})

test('the counters of raw words, at the edges of the ranges and for every length', () => {
  const kernel = new Engine(4096)
  const ranges = [
    { start: 1n << 47n, end: 1n << 48n },
    { start: 0x89b3_8000_0000n, end: 0x89b4_0000_0000n },
  ] as const
  kernel.setWatch(...ranges)
  const edges = ranges
    .flatMap(({ start, end }) => [start - 1n, start, end - 1n, end])
    .concat(0n, 2n ** 64n - 1n, 1n << 63n)
  const words = new BigUint64Array(kernel.exports.memory.buffer, kernel.heap, 256)
  for (let length = 0; length <= 100; length++) {
    const random = generator(length)
    const list = Array.from({ length }, () => edges[random() % edges.length]!)
    words.set(list)
    kernel.exports.watchBatch(kernel.heap, length)
    expect(kernel.watched()).toEqual(ranges.map(({ start, end }) => list.filter((x) => x >= start && x < end).length))
  }
})

test('raw words are counted at the beginning, ever more rarely, and always while in doubt', () => {
  const clues = tagClues(layoutOf('exec-6.1-kaslr'), [])!
  const counted = (own: number, others: number) => {
    const watched = new TagWatch(clues)
    let chunks = 0
    for (let i = 0; i < 4096; i++) {
      if (!watched.wants(262144)) continue
      chunks++
      watched.count([own + others, own], 262144)
    }
    return [chunks, watched.report().complete]
  }
  // 4 in the first MiB, and 10 doublings up to a GiB.
  expect(counted(100, 10)).toEqual([14, false])
  expect(counted(0, 10)).toEqual([4096, true])
})

test('where no tag tells boots apart there is nothing to watch', () => {
  const without = boots.filter((b) => tagClues(layoutOf(b.name), []) === undefined).map(({ name }) => name)
  // The lower half, which is that of small numbers; no random bit; no tag.
  expect(without).toEqual([
    'c16k36-lay-idmap-bit35',
    'c4k39-lay-idmap-bit38',
    'c4k39-lay-no-free-bits',
    'c4k39-lay-tag-zero',
  ])
  expect(tagClues({ mode: 'vhe' }, [])).toBeUndefined()
})
