import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createTranslator, type HypLayout, parseLayout } from '../../src/index.ts'
import type { Space } from '../../src/layout/spaces.ts'
import { boot, fixture, machineJson } from '../fixtures.ts'
import { fromLatin1 } from '../oracle.ts'
import { hypva, scratch } from './hypva.ts'

const dir = scratch()
const b = boot('exec-6.1-kaslr')
const LAYOUT = join(dir, 'layout.json')
writeFileSync(LAYOUT, hypva(['layout', 'compute', '-m', '-'], { input: machineJson(b) }).out)
const HYP = b.pairs.slice(0, 40).map(({ hyp_va }) => hyp_va)

const strict = (input: string, ...args: string[]) => hypva(['translate', '-l', LAYOUT, '--strict', ...args], { input })

// What traces hold beside hyp addresses: times, ids, sizes, physical and guest addresses, pointers of programs, link registers.
const MIXED = HYP.map(
  (x, i) =>
    `vmtest-${300 + i} [001] d..1 ${1000 + i}.000123: pc=${x} ipa 0x${(0x4000_0000 + i * 0x1000).toString(16)} ` +
    `0xaaaac4b9${(0x1000 + i).toString(16)} 0xffff8f3a${(0x1000 + i).toString(16)} esr 0x5a000000 id ${'0123456789abcdef'.repeat(2)} ` +
    `sha 9f86d081 0x17a3f5c2b4d6e8f0 7f9f92705c80 ffff800008000000 size 0x40000000 t=1700000000123456789\n`,
).join('')

describe('--strict', () => {
  test('a trace of nothing but right hyp addresses and numbers of other kinds: 0', () => {
    const { code, err, out } = strict(MIXED, '--from', 'hyp', '--to', 'phys')
    expect([code, err]).toEqual([0, ''])
    expect(out.toString()).not.toContain(HYP[5])
    expect(strict(fixture('traces/exec-6.1-kaslr.log.gz').toString('latin1'), '--from', 'hyp').code).toBe(0)
  })

  test('the tag of another boot: 1, with the place of the first', () => {
    for (const args of [
      ['--from', 'hyp'],
      ['--to', 'kernel'],
    ]) {
      const { code, err } = strict(`${MIXED}x 000091b380ef1c00\n${MIXED}0x91b380ef1c04\n`, ...args)
      expect(err).toBe(
        `hypva: addresses that did not translate: 2, the first at standard input, byte ${MIXED.length + 2}\n`,
      )
      expect(code).toBe(1)
    }
  })

  test('a hole of DRAM at EL2', () => {
    const banks = boot('d61-lay-2banks-kernel-high')
    const { end } = banks.dram[0]!
    const hole = `0x${((BigInt(end) - BigInt(banks.observed.hyp_physvirt_offset)) & (2n ** 64n - 1n)).toString(16)}`
    const layout = join(dir, 'hole.json')
    writeFileSync(layout, hypva(['layout', 'compute', '-m', '-'], { input: machineJson(banks) }).out)
    const run = (input: string) => hypva(['translate', '-l', layout, '--strict', '--from', 'hyp'], { input })
    const last = (BigInt(hole) - 1n).toString(16)
    expect(run(`${last} 0x${last}`).code).toBe(0)
    expect(run(`${last} ${hole}`)).toMatchObject({
      code: 1,
      err: `hypva: addresses that did not translate: 1, the first at standard input, byte ${last.length + 1}\n`,
    })
  })

  test('kernel addresses: holes of the linear map, and memory without an image address', () => {
    expect(strict(`${b.pairs[0]!.kernel_va} ffff800000000000 0xffffad0000000000`).code).toBe(0)
    expect(strict('ffff000000000000').err).toMatch(/did not translate: 1, the first at standard input, byte 0\n/)
    expect(strict(' ffff6f3760000000', '--to', 'link', '--from', 'linear').code).toBe(2)
    expect(strict(' ffff6f3760000000', '--to', 'image', '--from', 'linear').err).toMatch(/: 1, the first .* byte 1\n/)
  })

  test('physical addresses: holes between banks only', () => {
    const banks = join(dir, 'banks.json')
    writeFileSync(banks, hypva(['layout', 'compute', '-m', '-'], { input: machineJson(boot('d612-lay-2banks')) }).out)
    const [first, last] = boot('d612-lay-2banks').dram.map(
      ({ start, end }) => [BigInt(start), BigInt(end)] as const,
    ) as [readonly [bigint, bigint], readonly [bigint, bigint]]
    const run = (x: bigint) =>
      hypva(['translate', '-l', banks, '--strict', '--from', 'phys'], { input: `0x${x.toString(16)}` }).code
    expect(
      [first[0] - 1n, first[0], first[1] - 1n, first[1], last[0] - 1n, last[0], last[1] - 1n, last[1]].map(run),
    ).toEqual([0, 0, 0, 1, 1, 0, 0, 0])
  })

  test('raw words: each is an address', () => {
    const words = BigUint64Array.of(BigInt(HYP[0]!), 5n)
    const { code, err } = hypva(['translate', '-l', LAYOUT, '--strict', '--from', 'hyp', '--format', 'u64le'], {
      input: new Uint8Array(words.buffer),
    })
    expect([code, err]).toEqual([
      1,
      'hypva: addresses that did not translate: 1, the first at standard input, byte 8\n',
    ])
  })
})

// A layout of few bits, and an oracle that knows its regions by arithmetic alone.
const SMALL: HypLayout = parseLayout(
  JSON.stringify({
    format: 'hypva-layout/1',
    generation: '5.15',
    mode: 'nvhe',
    pageSize: 4096,
    vaBits: 39,
    vaBitsActual: 39,
    hypVaBits: 39,
    tagLsb: 33,
    tagVal: '0x29',
    pageOffset: '0xffffff8000000000',
    physOffset: '0x80000000',
    dram: [
      { start: '0x80000000', end: '0xc0000000' },
      { start: '0x100000000', end: '0x140000000' },
    ],
    idmap: '0x81a24000',
    image: { start: '0xffffffc008000000', end: '0xffffffc00a000000' },
    kimageVoffset: '0xffffffbf86800000',
    kaslrOffset: '0x0',
  }),
)
const LINEAR = 0xffff_ff80_0000_0000n
const within = (x: bigint, start: bigint, end: bigint) => x >= start && x < end
const inDram = (phys: bigint) =>
  within(phys, 0x8000_0000n, 0xc000_0000n) || within(phys, 0x1_0000_0000n, 0x1_4000_0000n)
const inImage = (x: bigint) => within(x, 0xffff_ffc0_0800_0000n, 0xffff_ffc0_0a00_0000n)
const TAG = 0x29n << 33n
const EIGHTH = (1n << 36n) + (1n << 32n)

/** Whether an address of a space ought to translate, and whether it has a physical address. */
const ORACLE: Record<string, { ought: (x: bigint) => boolean; does: (x: bigint) => boolean }> = {
  kernel: {
    ought: (x) => within(x, LINEAR, LINEAR + (1n << 38n)) || inImage(x),
    does: (x) => inImage(x) || (within(x, LINEAR, LINEAR + (1n << 38n)) && inDram(x - LINEAR + 0x8000_0000n)),
  },
  hyp: {
    ought: (x) => {
      const program = (2n ** 39n * 2n) / 3n
      const user =
        within(x, program - (program % 0x10000n), program + EIGHTH) || within(x, 2n ** 39n - EIGHTH, 2n ** 39n)
      return within(x, TAG, TAG + 2n ** 33n) || (within(x, 2n ** 38n, 2n ** 39n) && !user)
    },
    does: (x) => within(x, TAG, TAG + 2n ** 33n) && inDram(x - TAG + 0x8000_0000n),
  },
  phys: { ought: (x) => within(x, 0x8000_0000n, 0x1_4000_0000n), does: inDram },
  link: { ought: inImage, does: inImage },
}
const both = (x: bigint) => (x >> 63n === 1n ? ORACLE.kernel! : ORACLE.hyp!)
ORACLE.any = { ought: (x) => both(x).ought(x), does: (x) => both(x).does(x) }

describe('what ought to translate, by brute force', () => {
  const EDGES = [
    ...[0n, 0x8000_0000n, 0xc000_0000n, 0x1_0000_0000n, 0x1_4000_0000n],
    ...[0n, 0x4000_0000n, 0x8000_0000n, 0xc000_0000n, 1n << 33n, 1n << 38n].flatMap((x) => [LINEAR + x, TAG + x]),
    ...[2n ** 38n, 2n ** 39n, 2n ** 39n - EIGHTH, (2n ** 40n / 3n) & ~0xffffn, 2n ** 40n / 3n + EIGHTH],
    ...[0xffff_ffc0_0800_0000n, 0xffff_ffc0_0a00_0000n, 2n ** 64n - 1n, 0x81a2_4000n],
  ]
  const address = fc.oneof(
    fc.tuple(fc.constantFrom(...EDGES), fc.bigInt({ min: -2n, max: 2n })).map(([x, d]) => BigInt.asUintN(64, x + d)),
    fc.bigInt({ min: 0n, max: 2n ** 40n }),
    fc.bigInt({ min: LINEAR, max: 2n ** 64n - 1n }),
  )

  async function strictly(from: Space | undefined, text: string): Promise<string> {
    const stream = createTranslator(SMALL, { ...(from && { from }), to: 'phys', strict: true }).textStream()
    const out = new Response(new Blob([text]).stream().pipeThrough(stream))
    return out.arrayBuffer().then(
      () => 'done',
      (error: Error) => /byte (\d+)/.exec(error.message)![1]!,
    )
  }

  test.each(Object.keys(ORACLE))('from %s', async (name) => {
    const from = name === 'any' ? undefined : (name as Space)
    const { ought, does } = ORACLE[name]!
    let failures = 0
    await fc.assert(
      fc.asyncProperty(fc.array(address, { minLength: 1, maxLength: 8 }), async (list) => {
        const words = list.map((x) => `0x${x.toString(16)}`)
        const first = list.findIndex((x) => ought(x) && !does(x))
        const want = first < 0 ? 'done' : String(words.slice(0, first).join(' ').length + (first > 0 ? 1 : 0))
        if (first >= 0) failures++
        expect(await strictly(from, words.join(' '))).toBe(want)
      }),
      { numRuns: 400 },
    )
    // An image address without KASLR always translates.
    if (name !== 'link') expect(failures).toBeGreaterThan(4)
  })

  test('the translator agrees on what does translate', () => {
    for (const name of ['kernel', 'hyp', 'phys'] as const) {
      const translator = createTranslator(SMALL, { from: name, to: 'phys' })
      for (const edge of EDGES) {
        for (const x of [edge - 1n, edge, edge + 1n].filter((y) => y >= 0n && y < 2n ** 64n)) {
          expect([name, x, translator.tryTranslate(x) !== undefined]).toEqual([name, x, ORACLE[name]!.does(x)])
        }
      }
    }
  })
})

test('a strict stream passes what lies in no region of the source space', async () => {
  const layout = parseLayout(hypva(['layout', 'compute', '-m', '-'], { input: machineJson(b) }).out.toString())
  const stream = createTranslator(layout, { from: 'hyp', to: 'phys', strict: true }).textStream()
  const out = await new Response(new Blob([MIXED]).stream().pipeThrough(stream)).arrayBuffer()
  expect(fromLatin1(new Uint8Array(out))).toContain('pc=0x40')
})
