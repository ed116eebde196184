import { expect, test } from 'vitest'
import { assumptionsOf, odditiesOf } from '../../src/layout/assumptions.js'
import type { Machine } from '../../src/layout/types.js'

const machine: Machine = {
  kernel: '6.1',
  pageSize: 4096,
  vaBits: 48,
  dram: [{ start: 0x40000000n, end: 0xc0000000n }],
  idmap: 0x40eed000n,
}

test('names the assumption that the linear map is not randomised', () => {
  const noted = (change: Partial<Machine>) => assumptionsOf({ ...machine, ...change }).length
  expect(assumptionsOf(machine)).toEqual([expect.stringContaining('memstart_addr')])
  expect(noted({ physOffset: 0x40000000n })).toBe(0)
  expect(noted({ randomizeBase: false })).toBe(0)
  expect(noted({ kernel: '6.15' })).toBe(1)
  expect(noted({ kernel: '6.16' })).toBe(0)
  expect(noted({ kernel: '7.3' })).toBe(0)
  // 39 bits leave no room to move the linear map.
  expect(noted({ vaBits: 39 })).toBe(0)
})

test.each([
  ['6.8', 4096, 52, 'pages of 4 KiB only since Linux 6.9'],
  ['6.9', 4096, 52, undefined],
  ['6.1', 16384, 52, 'pages of 16 KiB only since Linux 6.9'],
  ['5.3', 65536, 52, '52-bit kernel addresses only since Linux 5.4'],
  ['5.4', 65536, 52, undefined],
  ['4.19', 4096, 48, undefined],
] as const)('Linux %s, pages of %i, %i bits', (kernel, pageSize, vaBits, text) => {
  const wanted = text === undefined ? [] : [expect.stringContaining(text)]
  expect(odditiesOf({ ...machine, kernel, pageSize, vaBits })).toEqual(wanted)
})
