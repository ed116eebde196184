import { describe, expect, test } from 'vitest'
import { linearSizeOf, pageEndOf, pageOffsetOf, randomisesTag } from '../../src/layout/address-space.js'
import { GENERATIONS, generationOf, isSince, parseGeneration } from '../../src/layout/generations.js'

const unknown = expect.objectContaining({ code: 'HYPVA_KERNEL_VERSION' })

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

test('generations by name', () => {
  for (const name of GENERATIONS) expect(parseGeneration(name)).toBe(name)
  for (const name of ['5.7', 'v5.6', '5.60', '', 'toString']) expect(() => parseGeneration(name)).toThrow(unknown)
  expect(() => parseGeneration('5.7')).toThrow('3.11, 4.8, 4.17, 5.4, 5.6, 5.9, 5.11, 5.12, 5.15, 7.0')
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
