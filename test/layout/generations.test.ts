import { describe, expect, test } from 'vitest'
import { linearSizeOf, pageEndOf, pageOffsetOf, randomisesTag } from '../../src/layout/address-space.js'
import { algorithmRange, GENERATIONS, generationOf, isSince, rulesOf } from '../../src/layout/generations.js'

const unknown = expect.objectContaining({ code: 'HYPVA_KERNEL_VERSION', field: 'kernel' })

test.each([
  ['3.11', '3.11'],
  ['4.7.10', '3.11'],
  ['4.8', '4.8'],
  ['v4.16', '4.8'],
  ['4.17-rc1', '4.17'],
  ['4.19.0-27-arm64', '4.17'],
  ['5.3', '4.17'],
  ['5.4.0', '5.4'],
  ['5.5', '5.4'],
  ['5.6', '5.6'],
  ['5.8', '5.6'],
  ['v5.10', '5.9'],
  ['5.10.223-rockchip', '5.9'],
  ['5.11', '5.11'],
  ['5.12', '5.12'],
  ['5.14', '5.12'],
  ['5.14.0-427.13.1.el9_4.aarch64', '5.12'],
  ['5.15', '5.15'],
  ['6.1.0-56-arm64', '5.15'],
  ['6.12.107+deb13-arm64-16k', '5.15'],
  ['6.19', '5.15'],
  ['7.0', '7.0'],
  ['7.3.4+deb13', '7.0'],
  ['10.0', '7.0'],
])('version %s is of generation %s', (version, generation) => {
  expect(generationOf(version)).toBe(generation)
})

test.each([
  '',
  '6',
  '6.',
  '.12',
  'linux-6.12',
  '6.12 ',
  '6.12foo',
  '6.12\n',
  'Linux version 6.12',
  '-5.4',
  '3.10',
  '2.6.32',
  '1e3.0',
  '4.18.0-305.el8.aarch64',
])('no version: %j', (version) => {
  expect(() => generationOf(version)).toThrow(unknown)
})

test('generations are named by their first version, oldest first', () => {
  expect(GENERATIONS).toEqual(['3.11', '4.8', '4.17', '5.4', '5.6', '5.9', '5.11', '5.12', '5.15', '7.0'])
})

test.each([
  ['3.11', '3.11 to 4.7'],
  ['4.8', '4.8 to 4.16'],
  ['4.17', '4.17 to 5.3'],
  ['5.4', '5.4 to 5.5'],
  ['5.6', '5.6 to 5.8'],
  ['5.9', '5.9 to 5.10'],
  ['5.11', '5.11'],
  ['5.12', '5.12 to 5.14'],
  ['5.15', '5.15 to 6.19'],
  ['7.0', '7.0 and later'],
] as const)('the algorithm of generation %s is that of %s', (generation, range) => {
  expect(algorithmRange(generation)).toBe(range)
  // Its last version is of the same generation as its first.
  for (const version of range.replace(' and later', '').split(' to ')) expect(generationOf(version)).toBe(generation)
})

test('the rules of each generation, in full', () => {
  const old = { linearMap: 'top', pageEnd: 'none', biasedPhysOffset: false, cap51: false }
  const middle = { ...old, linearMap: 'bottom', pageEnd: 'vabits-actual', width: 'actual' }
  const late = { ...middle, formula: 'tag', random: 'randomize-base', pageEnd: 'va-bits-min', biasedPhysOffset: true }
  expect(Object.fromEntries(GENERATIONS.map((name) => [name, rulesOf(name)]))).toEqual({
    '3.11': { ...old, formula: 'mask', width: 'build', random: 'never' },
    '4.8': { ...old, formula: 'high-or-low', width: 'build', random: 'never' },
    '4.17': { ...old, formula: 'tag-or-mask', width: 'build', random: 'always' },
    '5.4': { ...middle, formula: 'tag-or-mask', random: 'always' },
    '5.6': { ...middle, formula: 'tag', random: 'always' },
    '5.9': { ...middle, formula: 'tag', random: 'randomize-base' },
    '5.11': { ...late, kimageGap: 0x10000000n },
    '5.12': { ...late, kimageGap: 0x10000000n },
    '5.15': { ...late, cap51: true },
    '7.0': { ...late, cap51: true, width: 'actual-or-48', kimageGap: 0x80000000n },
  })
})

test('generations are in order', () => {
  expect(isSince('5.11', '5.9')).toBe(true)
  expect(isSince('5.9', '5.9')).toBe(true)
  expect(isSince('5.6', '5.11')).toBe(false)
})

// docs/kernel-facts.md, 3.
const GIB = 2n ** 30n
const TIB = 2n ** 40n
describe.each([
  [4096, 39, 0xffffff8000000000n, 0xffffffc000000000n, 256n * GIB],
  [4096, 48, 0xffff000000000000n, 0xffff800000000000n, 128n * TIB],
  [4096, 52, 0xfff0000000000000n, 0xffff800000000000n, 3968n * TIB],
  [65536, 52, 0xfff0000000000000n, 0xffff800000000000n, 3968n * TIB],
  [16384, 47, 0xffff800000000000n, 0xffffc00000000000n, 64n * TIB],
  [16384, 36, 0xfffffff000000000n, 0xfffffff800000000n, 32n * GIB],
  [65536, 42, 0xfffffc0000000000n, 0xfffffe0000000000n, 2n * TIB],
  [16384, 52, 0xfff0000000000000n, 0xffffc00000000000n, 4032n * TIB],
] as const)('%i byte pages, %i bits, since 5.11', (pageSize, vaBits, pageOffset, pageEnd, size) => {
  const widths = { generation: '5.15', pageSize, vaBits, vaBitsActual: vaBits } as const
  test('PAGE_OFFSET, PAGE_END and size of the linear map', () => {
    expect(pageOffsetOf('5.15', vaBits, vaBits)).toBe(pageOffset)
    expect(pageEndOf(widths)).toBe(pageEnd)
    expect(linearSizeOf(widths)).toBe(size)
  })
})

test('before 4.17 nothing is random', () => {
  expect(randomisesTag('4.8', true)).toBe(false)
  expect(randomisesTag('4.17', false)).toBe(true)
})

test('5.4 to 5.10 split the bits in use in half', () => {
  const widths = { generation: '5.9', pageSize: 65536, vaBits: 52 } as const
  expect(pageEndOf({ ...widths, vaBitsActual: 52 })).toBe(0xfff8000000000000n)
  expect(pageEndOf({ ...widths, vaBitsActual: 48 })).toBe(0xffff800000000000n)
  expect(linearSizeOf({ ...widths, vaBitsActual: 52 })).toBe(2048n * TIB)
})

test('up to 5.3 the linear map is the top half', () => {
  expect(pageOffsetOf('4.17', 48, 48)).toBe(0xffff800000000000n)
  expect(linearSizeOf({ generation: '4.17', pageSize: 4096, vaBits: 48, vaBitsActual: 48 })).toBe(128n * TIB)
})
