import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { computeLayout } from '../../src/layout/compute.js'
import { kernHypVa } from '../../src/layout/macro.js'
import { classifyHypVa, classifyKernelVa, hypRegions, kernelRegions } from '../../src/layout/regions.js'
import { boots, factsOf } from './boots.js'

const range = (start: bigint, end: bigint) => ({ start, end })

/** d612-lay-2banks: a 52-bit build with 48 bits in use, two banks, linear-map KASLR. */
const boot = boots.find(({ name }) => name === 'd612-lay-2banks')!
const layout = computeLayout({
  ...factsOf(boot),
  physOffset: BigInt(boot.memstart_addr),
  tagVal: BigInt(boot.observed.tag_val),
  // 6.12 links its image 2 GiB above PAGE_END (docs/kernel-facts.md, 3).
  kaslrOffset: BigInt(boot.text_va) - 0xffff800080000000n,
})

describe.each(boots.map((one) => [one.name, one] as const))('%s', (_, one) => {
  const facts = { ...factsOf(one), physOffset: BigInt(one.memstart_addr) }
  const its = computeLayout({ ...facts, tagVal: BigInt(one.observed.tag_val) })

  test("what EL2's page table maps is classified as it is mapped", () => {
    expect(one.el2_mappings.length).toBeGreaterThan(2)
    for (const { va, size, kind } of one.el2_mappings) {
      const kinds = { linear: ['hyp-linear'], idmap: ['idmap'], private: ['private', 'hyp-vmemmap'] }[kind]
      expect(kinds).toContain(classifyHypVa(its, BigInt(va)).kind)
      expect(kinds).toContain(classifyHypVa(its, BigInt(va) + BigInt(size) - 1n).kind)
    }
  })

  test('symbols: image and linear addresses', () => {
    // The image is half-open: its end is not in it.
    for (const pair of one.pairs.filter(({ symbol }) => symbol !== '_end')) {
      expect(classifyKernelVa(its, BigInt(pair.kernel_va)).kind).toBe('image')
      expect(classifyKernelVa(its, BigInt(pair.linear_va)).kind).toBe('linear')
      expect(classifyHypVa(its, BigInt(pair.hyp_va)).kind).toBe('hyp-linear')
    }
  })
})

test.each([
  [0x0n, 'user'],
  [0xaaaabbbb0000n, 'user'],
  [0x0010_0000_0000_0000n, 'non-canonical'],
  [0x0100_0000_0000_0000n, 'tagged'],
  [0x5fff_2a15_0000_0000n, 'user-tag-free'],
  [0xfff0_0000_0000_0000n, 'non-canonical'],
  [0xfffe_ffff_ffff_ffffn, 'non-canonical'],
  [0xffff_0000_0000_0000n, 'linear-hole'],
  [0xffff_2a15_0000_0000n, 'linear'],
  [0xffff_2a15_1fff_ffffn, 'linear'],
  [0xffff_2a15_2000_0000n, 'linear-hole'],
  [0xffff_2a1d_7fff_ffffn, 'linear'],
  [0xffff_2a1d_8000_0000n, 'linear-hole'],
  [0xffff_7fff_ffff_ffffn, 'linear-hole'],
  [0xffff_8000_0000_0000n, 'modules'],
  [0xffff_8000_7fff_ffffn, 'modules'],
  [0xffff_8000_8000_0000n, 'kernel-other'],
  [0xffff_b13b_4240_0000n, 'image'],
  [0xffff_b13b_448e_ffffn, 'image'],
  [0xffff_b13b_448f_0000n, 'kernel-other'],
  [0xffff_ffff_ffff_ffffn, 'kernel-other'],
])('kernel address %s: %s', (address, kind) => {
  const region = classifyKernelVa(layout, address)
  expect(region.kind).toBe(kind === 'user-tag-free' ? 'tagged' : kind)
})

test('the tag of an address is named, with what is below it', () => {
  // The five in bits 63:56 is a tag; bit 55 is set, so sign-extension gives a linear address.
  const { text } = classifyKernelVa(layout, 0x5ff_2a15_0000_1234n | (0xffn << 48n) | (0xf5n << 56n))
  expect(text).toContain('0xf5')
  expect(text).toContain('0xffff2a1500001234')
})

test('hyp addresses of that boot', () => {
  const { mask, tag } = { mask: BigInt(boot.observed.va_mask), tag: BigInt(boot.observed.tag) }
  const kindOf = (address: bigint) => classifyHypVa(layout, address).kind
  const hyp = kernHypVa(layout, 0xffff_2a15_0000_0000n)
  expect(kindOf(hyp)).toBe('hyp-linear')
  expect(kindOf(hyp + 0x2000_0000n)).toBe('hyp-linear-hole')
  expect(kindOf(hyp - 1n)).toBe('hyp-linear-hole')
  expect(kindOf(tag + mask + 1n)).toBe('tag-mismatch')
  expect(kindOf(tag - 1n)).toBe('tag-mismatch')
  expect(kindOf(2n ** 48n)).toBe('out-of-range')
  expect(kindOf(2n ** 48n - 1n)).toBe('tag-mismatch')
  expect(kindOf(layout.idmap!)).toBe('idmap')
  expect(kindOf(layout.idmap! + 4095n)).toBe('idmap')
  expect(kindOf(layout.idmap! + 4096n)).toBe('tag-mismatch')
  expect(kindOf(layout.idmap! - 1n)).toBe('private')
  expect(classifyHypVa(layout, hyp).range).toEqual(range(hyp, hyp + 0x2000_0000n))
})

test('pKVM: private mappings grow up from a quarter of their own', () => {
  const one = boots.find(({ name }) => name === 'd61-2g-a57-protected')!
  const facts = { ...factsOf(one), physOffset: BigInt(one.memstart_addr) }
  const its = computeLayout({ ...facts, tagVal: BigInt(one.observed.tag_val) })
  const places = hypRegions(its).filter(({ kind }) => kind === 'private' || kind === 'hyp-vmemmap')
  expect(places.map(({ kind, range }) => [kind, range])).toEqual([
    ['private', range(0x4000_0000_0000n, 0x6000_0000_0000n)],
    ['hyp-vmemmap', range(0x6000_0000_0000n, 0x8000_0000_0000n)],
  ])
})

describe('layouts where things meet', () => {
  const overlapping = computeLayout({
    generation: '5.4',
    pageSize: 4096,
    vaBits: 39,
    dram: [range(0x80000000n, 0xfbe00000n), range(0x2080000000n, 0x2380000000n)],
    idmap: 0x81a24000n,
  })

  test('what EL2 surely maps comes before what only has the tag', () => {
    // LX2160A on 5.4: hyp linear memory from 0 up, and the idmap page in a hole of it.
    const kindOf = (address: bigint) => classifyHypVa(overlapping, address).kind
    expect(kindOf(0x81a24000n)).toBe('idmap')
    expect(kindOf(0x81a23fffn)).toBe('private')
    expect(kindOf(0x81a25000n)).toBe('hyp-linear-hole')
    expect(kindOf(0x1000n)).toBe('hyp-linear')
    expect(classifyHypVa({ ...overlapping, idmap: 0x1000n }, 0x1000n).kind).toBe('idmap')
  })

  test('the private range in a hole of linear memory that begins below it', () => {
    // 52 bits before 5.15, kernel in the upper half: the region bit is lost and the tag matches everything.
    const lost = computeLayout({
      kernel: '5.14',
      pageSize: 65536,
      vaBits: 52,
      dram: [range(0n, 0x100000000n), range(0x8000100000000n, 0x8000140000000n)],
      idmap: 0x8000100000000n,
    })
    expect(classifyHypVa(lost, 0x80000ffffffffn).kind).toBe('private')
    expect(classifyHypVa(lost, 0x7ffffffffffffn).kind).toBe('hyp-linear-hole')
  })

  test('banks that share hyp VAs', () => {
    const dram = [range(0n, 0x2000n), range(0x40000000n, 0x40001000n)]
    const aliased = { tagLsb: 30, tagVal: 1n, pageOffset: 0xffff000000000000n, physOffset: 0n, dram }
    expect(hypRegions(aliased).map(({ kind, range }) => [kind, range])).toEqual([
      ['hyp-linear', range(0x40000000n, 0x40002000n)],
      ['hyp-linear', range(0x40000000n, 0x40001000n)],
      ['hyp-linear-hole', range(0x40002000n, 0x80000000n)],
    ])
  })
})

describe('layouts that were proposed', () => {
  const TIB = 2n ** 40n
  const wide = { generation: '5.12', pageSize: 65536, vaBits: 52, vaBitsActual: 52, hypVaBits: 52, tagLsb: 52 } as const
  const places = {
    pageOffset: 0xfff0000000000000n,
    physOffset: 0n,
    dram: [range(0n, TIB), range(3839n * TIB, 3841n * TIB)],
    idmap: 0x1000000n,
  }

  test('a low window: linear memory ends where hyp VAs do', () => {
    const layout = { ...wide, ...places, proposal: 'low-window-48', tag: 2n ** 48n } as const
    expect(hypRegions(layout).map((region) => [region.kind, region.range])).toEqual([
      ['private', range(0n, 0x1000000n)],
      ['idmap', range(0x1000000n, 0x1010000n)],
      ['hyp-linear', range(2n ** 48n, 2n ** 48n + TIB)],
      ['hyp-linear-hole', range(2n ** 48n + TIB, 2n ** 52n - TIB)],
      ['hyp-linear', range(2n ** 52n - TIB, 2n ** 52n)],
    ])
  })

  test('the window at the top: the private range is in it, and not below the idmap page', () => {
    const layout = { ...wide, ...places, proposal: 'overlap-top-window', tagVal: 0n } as const
    const privates = hypRegions(layout).filter(({ kind }) => kind === 'private')
    expect(privates.map((region) => region.range)).toEqual([range(2n ** 52n - 2n ** 47n, 2n ** 52n)])
    expect(privates[0]!.text).toContain('the end of the hyp VA space')
    const pkvm = hypRegions({ ...layout, mode: 'protected' }).slice(-2)
    expect(pkvm.map((region) => [region.kind, region.range])).toEqual([
      ['private', range(2n ** 52n - 2n ** 47n, 2n ** 52n - 2n ** 46n)],
      ['hyp-vmemmap', range(2n ** 52n - 2n ** 46n, 2n ** 52n)],
    ])
  })
})

test('regions come in address order, and the kernel ones do not overlap', () => {
  for (const one of boots) {
    const facts = { ...factsOf(one), physOffset: BigInt(one.memstart_addr) }
    const its = computeLayout({ ...facts, tagVal: BigInt(one.observed.tag_val) })
    const kernel = kernelRegions(its).map((region) => region.range)
    expect(kernel.length).toBeGreaterThan(3)
    kernel.slice(1).forEach((next, i) => {
      expect(next.start).toBeGreaterThanOrEqual(kernel[i]!.end)
    })
    const starts = hypRegions(its).map((region) => region.range.start)
    expect(starts).toEqual([...starts].sort((a, b) => (a < b ? -1 : 1)))
  }
})

describe('partial layouts', () => {
  const bare = { tagLsb: 36, tagVal: 0xfcan }

  test('mask and tag only', () => {
    expect(kernelRegions(bare)).toEqual([])
    expect(hypRegions(bare).map(({ kind, range }) => [kind, range])).toEqual([
      ['hyp-linear', range(0xfca000000000n, 0xfcb000000000n)],
    ])
    expect(classifyHypVa(bare, 0xfca000000000n).kind).toBe('hyp-linear')
    expect(classifyHypVa(bare, 0x4000_0000n).kind).toBe('tag-mismatch')
    expect(classifyHypVa(bare, 0x4000_0000n).text).toContain('idmap')
    expect(classifyKernelVa(bare, 0xffff_2a15_0000_0000n).kind).toBe('kernel-other')
    expect(classifyKernelVa(bare, 0x4000_0000n).kind).toBe('user')
  })

  test('mode vhe: EL2 has the addresses of the host', () => {
    expect(hypRegions({ mode: 'vhe' })).toEqual([])
    expect(classifyHypVa({ mode: 'vhe' }, 0xffff_2a15_0000_0000n).kind).toBe('kernel-other')
  })

  test('any subset of fields gives an answer, and what a larger one calls it never contradicts', () => {
    const fields = Object.keys(layout).filter((field) => field !== 'tagLsb' && field !== 'tagVal')
    fc.assert(
      fc.property(fc.subarray(fields), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (kept, address) => {
        const some = Object.fromEntries(
          Object.entries(layout).filter(([name]) => !fields.includes(name) || kept.includes(name)),
        )
        for (const region of [classifyKernelVa(some, address), classifyHypVa(some, address)]) {
          expect(region.text).not.toBe('')
          if (region.range) expect(address >= region.range.start && address < region.range.end).toBe(true)
        }
      }),
    )
  })
})
