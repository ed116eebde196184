import { expect, test } from 'vitest'
import { computeLayout } from '../../src/layout/compute.js'
import { layoutProblems } from '../../src/layout/problems.js'
import type { HypLayout } from '../../src/layout/types.js'
import { boots, factsOf } from './boots.js'

const kinds = (layout: HypLayout) => layoutProblems(layout).map(({ kind }) => kind)

test('real kernels that run have no problem', () => {
  for (const boot of boots) {
    const facts = { ...factsOf(boot), physOffset: BigInt(boot.memstart_addr) }
    expect(layoutProblems(computeLayout({ ...facts, tagVal: BigInt(boot.observed.tag_val) })), boot.name).toEqual([])
  }
})

test('region-bit-lost: from 5.6 or of a generation not known', () => {
  expect(kinds({ tagLsb: 52, tagVal: 0n, hypVaBits: 52 })).toEqual(['region-bit-lost'])
  expect(kinds({ tagLsb: 52, tagVal: 0n, hypVaBits: 52, generation: '5.11' })).toEqual(['region-bit-lost'])
  expect(kinds({ tagLsb: 48, tagVal: 0n, hypVaBits: 48, generation: '5.4' })).toEqual([])
  expect(kinds({ tagLsb: 48, tagVal: 0n, hypVaBits: 48, generation: '3.11' })).toEqual([])
  expect(kinds({ tagLsb: 47, tagVal: 1n, hypVaBits: 48 })).toEqual([])
  expect(kinds({ tagLsb: 52, tagVal: 0n })).toEqual([])
})

test('tag-overflow: both resulting tags', () => {
  const [problem] = layoutProblems({ tagLsb: 26, tagVal: 0x2000123n, hypVaBits: 52 })
  expect(problem?.kind).toBe('tag-overflow')
  expect(problem?.message).toContain('0x48c000000')
  expect(problem?.message).toContain('0x800048c000000')
  expect(kinds({ tagLsb: 26, tagVal: 0xffffffn })).toEqual([])
})

test('idmap-in-hyp-range, at its edges', () => {
  const sound: HypLayout = {
    tagLsb: 39,
    tagVal: 0n,
    generation: '5.4',
    pageOffset: 0xffffff8000000000n,
    physOffset: 0n,
    dram: [{ start: 0n, end: 0x40001000n }],
  }
  // high_memory - 1 is at 0x40000fff: pages below it meet.
  expect(kinds({ ...sound, idmap: 0n })).toEqual(['idmap-in-hyp-range'])
  expect(kinds({ ...sound, idmap: 0x40000000n })).toEqual(['idmap-in-hyp-range'])
  expect(kinds({ ...sound, idmap: 0x40001000n })).toEqual([])
  expect(kinds({ ...sound, idmap: 0x40000000n, kimageVoffset: 0n })).toEqual([])
  expect(kinds(sound)).toEqual([])
  // The comparison with high_memory - 1 is strict.
  expect(kinds({ ...sound, idmap: 0x40000000n, dram: [{ start: 0n, end: 0x40000001n }] })).toEqual([])
  expect(kinds({ ...sound, idmap: 0x40000000n, dram: [{ start: 0n, end: 0x40000002n }] })).toHaveLength(1)
})

test('dram-aliases', () => {
  const layout: HypLayout = {
    tagLsb: 30,
    tagVal: 1n,
    pageOffset: 0xffff000000000000n,
    physOffset: 0n,
    dram: [
      { start: 0n, end: 0x1000n },
      { start: 0x40000000n, end: 0x40001000n },
    ],
  }
  expect(kinds(layout)).toEqual(['dram-aliases'])
  expect(kinds({ ...layout, tagLsb: 31 })).toEqual([])
})

test('dram-beyond-hyp-va, and what is no loss of the region bit', () => {
  const layout: HypLayout = {
    tagLsb: 52,
    tag: 2n ** 48n,
    hypVaBits: 52,
    pageOffset: 0xfff0000000000000n,
    physOffset: 0n,
    dram: [{ start: 0n, end: 2n ** 52n - 2n ** 48n }],
  }
  expect(kinds(layout)).toEqual([])
  expect(kinds({ ...layout, dram: [{ start: 0n, end: 2n ** 52n - 2n ** 48n + 1n }] })).toEqual(['dram-beyond-hyp-va'])
  expect(kinds({ proposal: 'overlap-top-window', tagLsb: 52, tagVal: 0n, hypVaBits: 52 })).toEqual([])
})

test('mode vhe has none', () => {
  expect(layoutProblems({ mode: 'vhe' })).toEqual([])
})

test('image-outside-dram, idmap-outside-image: a field of another boot', () => {
  const boot = boots.find(({ name }) => name === 'exec-6.1-kaslr')!
  const facts = { ...factsOf(boot), physOffset: BigInt(boot.memstart_addr), tagVal: BigInt(boot.observed.tag_val) }
  const layout: HypLayout = {
    ...computeLayout(facts),
    image: { start: BigInt(boot.text_va), end: BigInt(boot.end_va) },
    kimageVoffset: BigInt(boot.kimage_voffset),
  }
  expect(kinds(layout)).toEqual([])
  expect(kinds({ ...layout, kimageVoffset: 0x1000n })).toEqual(['image-outside-dram', 'idmap-outside-image'])
  expect(kinds({ ...layout, kimageVoffset: layout.kimageVoffset! - 0x1000_0000n })).toEqual(['idmap-outside-image'])
})
