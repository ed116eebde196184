import { describe, expect, test } from 'vitest'
import { linearMemory } from '../../src/layout/address-space.js'
import { computeLayout, droppedMemory } from '../../src/layout/compute.js'
import { kernHypVa } from '../../src/layout/macro.js'
import { boots, factsOf } from './boots.js'

describe.each(boots.map((boot) => [boot.name, boot] as const))('%s', (_, boot) => {
  const { observed } = boot
  const machine = { ...factsOf(boot), physOffset: BigInt(boot.memstart_addr) }
  const tag = BigInt(observed.tag)
  const free = (1n << BigInt(boot.hyp_va_bits_used - 1)) - 1n - BigInt(observed.va_mask)
  const everythingElse = 0xffff_ffff_ffff_ffffn ^ (free > 0n ? free : 0n)

  test.each([
    ['tagVal', { tagVal: BigInt(observed.tag_val) }],
    ['random', { random: tag }],
    ['random with every bit set that no tag takes', { random: tag | everythingElse }],
  ])('the layout from its facts and %s', (_name, drawn) => {
    const layout = computeLayout({ ...machine, ...drawn })
    expect(layout.tagLsb).toBe(observed.tag_lsb)
    expect(layout.tagVal).toBe(BigInt(observed.tag_val))
    expect(layout.vaMask).toBe(BigInt(observed.va_mask))
    expect(layout.hypPhysvirtOffset).toBe(BigInt(observed.hyp_physvirt_offset))
    expect(layout.hypVaBits).toBe(boot.hyp_va_bits_used)
    expect(layout.pageOffset).toBe(BigInt(boot.page_offset))
    expect(layout.physOffset).toBe(BigInt(boot.memstart_addr))
    expect(layout.dram).toEqual(machine.dram)
    expect(droppedMemory(machine, layout)).toEqual([])
  })

  test('linear addresses', () => {
    const memory = linearMemory(computeLayout({ ...machine, random: tag }))!
    expect(memory.banks[0]!.start).toBe(BigInt(boot.phys_to_virt_dram_start))
    expect(memory.last + 1n).toBe(BigInt(boot.high_memory))
  })

  test('kern_hyp_va of its symbols', () => {
    const layout = computeLayout({ ...machine, random: tag })
    expect(boot.pairs.length).toBeGreaterThan(0)
    for (const pair of boot.pairs) {
      expect(kernHypVa(layout, BigInt(pair.linear_va)), pair.symbol).toBe(BigInt(pair.hyp_va))
    }
  })
})

// Linear-map KASLR is gone in 7.x, and `nokaslr` turns it off before.
const unmoved = boots.filter((boot) => boot.kernel_version.startsWith('7.') || boot.cmdline.includes('nokaslr'))

test.each(unmoved.map((boot) => [boot.name, boot] as const))('PHYS_OFFSET by rule: %s', (_, boot) => {
  const layout = computeLayout({ ...factsOf(boot), random: BigInt(boot.observed.tag) })
  expect(layout.physOffset).toBe(BigInt(boot.memstart_addr))
})

test('there are boots to try, and some with an unmoved linear map', () => {
  expect(boots.length).toBeGreaterThanOrEqual(33)
  expect(unmoved.length).toBeGreaterThanOrEqual(9)
})
