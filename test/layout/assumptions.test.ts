import { expect, test } from 'vitest'
import { assumptionsOf } from '../../src/layout/assumptions.js'
import type { Machine } from '../../src/layout/types.js'

const machine: Machine = {
  kernel: '6.1',
  pageSize: 4096,
  vaBits: 48,
  dram: [{ start: 0x40000000n, end: 0xc0000000n }],
  idmap: 0x40eed000n,
}

test('a linear map that may have been moved is said to be taken for unmoved', () => {
  const noted = (change: Partial<Machine>) => assumptionsOf({ ...machine, ...change }).length
  expect(assumptionsOf(machine)).toEqual([expect.stringContaining('memstart_addr')])
  expect(noted({ physOffset: 0x40000000n })).toBe(0)
  expect(noted({ randomizeBase: false })).toBe(0)
  expect(noted({ kernel: '6.15' })).toBe(1)
  expect(noted({ kernel: '6.16' })).toBe(0)
  expect(noted({ kernel: '7.3' })).toBe(0)
  // 39 bits leave the linear map no room to be moved in.
  expect(noted({ vaBits: 39 })).toBe(0)
})

test('an end that looks like the last byte of a bank', () => {
  const dram = [{ start: 0x40000000n, end: 0xbfffffffn }]
  expect(assumptionsOf({ ...machine, physOffset: 0x40000000n, dram })).toEqual([
    expect.stringContaining('dram[0] ends at 0xbfffffff'),
  ])
})
