import { expect, test } from 'vitest'
import { linearOfPhys } from '../../src/layout/address-space.js'
import { hypVaRange, kernHypVa, macroOf } from '../../src/layout/macro.js'

const code = (code: string) => expect.objectContaining({ code })

test('mask and tag', () => {
  expect(macroOf({ tagLsb: 35, tagVal: 0x1e83n })).toEqual({ mask: 0x7ffffffffn, tag: 0xf41800000000n })
  expect(macroOf({ tagLsb: 63, tagVal: 1n })).toEqual({ mask: 2n ** 63n - 1n, tag: 2n ** 63n })
  expect(macroOf({ mode: 'vhe' })).toEqual({ mask: 2n ** 64n - 1n, tag: 0n })
})

test('a tag in place is added, with its carry', () => {
  const layout = { tagLsb: 52, tag: 2n ** 48n, hypVaBits: 52 }
  expect(macroOf(layout)).toEqual({ mask: 2n ** 52n - 1n, tag: 2n ** 48n })
  expect(kernHypVa(layout, 0xfff0000000001234n)).toBe(0x1000000001234n)
  // An OR would leave this one where it was.
  expect(kernHypVa(layout, 0xfff1000000001234n)).toBe(0x2000000001234n)
  expect(kernHypVa({ tagLsb: 63, tag: 2n ** 63n, hypVaBits: 52 }, 2n ** 64n - 1n)).toBe(2n ** 64n - 1n)
})

test('no usable mask and tag', () => {
  expect(() => macroOf({ tagVal: 1n })).toThrow(code('HYPVA_LAYOUT'))
  expect(() => macroOf({ tagLsb: 35 })).toThrow(code('HYPVA_LAYOUT'))
  for (const tagLsb of [0, 64, 35.5, Number.NaN, -1]) {
    expect(() => macroOf({ tagLsb, tagVal: 0n }), `${tagLsb}`).toThrow(code('HYPVA_LAYOUT'))
  }
  expect(() => macroOf({ tagLsb: 63, tagVal: 2n })).toThrow(code('HYPVA_LAYOUT'))
  expect(() => macroOf({ tagLsb: 35, tagVal: 5 as never })).toThrow(TypeError)
  expect(() => macroOf({ tagLsb: 35, tagVal: -1n })).toThrow(RangeError)
})

test('kern_hyp_va takes any address, and nothing else', () => {
  const layout = { tagLsb: 35, tagVal: 0x1e83n }
  expect(kernHypVa(layout, 0n)).toBe(0xf41800000000n)
  expect(kernHypVa(layout, 2n ** 64n - 1n)).toBe(0xf41fffffffffn)
  expect(() => kernHypVa(layout, 5 as never)).toThrow(code('HYPVA_U64_TYPE'))
  expect(() => kernHypVa(layout, -1n)).toThrow(code('HYPVA_U64_RANGE'))
  expect(() => kernHypVa(layout, 2n ** 64n)).toThrow(code('HYPVA_U64_RANGE'))
})

test('phys_to_virt is OR, not ADD', () => {
  // An address below PHYS_OFFSET: ADD would leave the linear map, OR cannot.
  expect(linearOfPhys(0xffff000000000000n, 0x40000000n, 0x3ffff000n)).toBe(0xfffffffffffff000n)
  expect(linearOfPhys(0xffff000000000000n, 0x40000000n, 0x1000000040000000n)).toBe(0xffff000000000000n)
})

test('the hyp VA range needs to know where memory is', () => {
  expect(hypVaRange({ tagLsb: 35, tagVal: 0x1e83n })).toBeUndefined()
  expect(hypVaRange({ mode: 'vhe', pageOffset: 0n, physOffset: 0n, dram: [{ start: 0n, end: 1n }] })).toBeUndefined()
})
