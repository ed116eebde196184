import { describe, expect, test } from 'vitest'
import { computeLayout } from '../../src/layout/compute.js'
import { type ConcreteSpace, convert, missingFields, type Space, stepsBetween } from '../../src/layout/spaces.js'
import type { HypLayout } from '../../src/layout/types.js'
import { compileSegments } from '../../src/translate/directions.js'
import { explainAddress } from '../../src/translate/explain.js'
import { boots, factsOf } from './boots.js'

const SPACES: readonly ConcreteSpace[] = ['linear', 'image', 'link', 'phys', 'hyp']
const wrap = (value: bigint) => BigInt.asUintN(64, value)
const layoutOf = (boot: (typeof boots)[number]) =>
  computeLayout({
    ...factsOf(boot),
    physOffset: BigInt(boot.memstart_addr),
    tagVal: BigInt(boot.observed.tag_val),
  })

describe.each(boots.slice(0, 12).map((boot) => [boot.name, layoutOf(boot)] as const))('%s', (_, layout) => {
  const pairs = SPACES.flatMap((from) => SPACES.map((to) => [from, to] as const))
  const within = pairs.filter((pair) => pair.every((space) => missingFields(layout, space).length === 0))

  test('the steps to an address end where its segment leads', () => {
    let seen = 0
    for (const [from, to] of within) {
      for (const { start, end, delta } of compileSegments(layout, from, to)) {
        for (const address of [start, (start + end) / 2n, end - 1n]) {
          const steps = stepsBetween(layout, from, to, address)
          expect(steps.at(-1)?.value ?? address).toBe(wrap(address + delta))
          expect(convert(layout, from, to, address)).toBe(wrap(address + delta))
          expect(explainAddress(layout, from, to, address)).toMatchObject({ steps, result: wrap(address + delta) })
          seen++
        }
      }
    }
    expect(seen).toBeGreaterThan(20)
  })

  test('a step is what its numbers compute', () => {
    for (const [from, to] of within) {
      const [segment] = compileSegments(layout, from, to)
      for (const { numbers, value } of stepsBetween(layout, from, to, segment?.start ?? 0n)) {
        const text = numbers.replace(/0x[0-9a-f]+/g, (hex) => `${BigInt(hex)}n`).replaceAll('~', '-1n-')
        expect(wrap(new Function(`return ${text}`)() as bigint)).toBe(value)
      }
    }
  })
})

describe('an explanation of a miss', () => {
  const layout = layoutOf(boots[0]!)
  const regionIsReason = (from: Space, to: Space, address: bigint) => {
    const explanation = explainAddress(layout, from, to, address)
    expect(explanation.reason === explanation.region?.text).toBe(explanation.regionIsReason === true)
    return explanation.regionIsReason
  }

  test('says where the region is all of the reason', () => {
    // A user address; the idmap page, of which there is more to say; DRAM, which has no region.
    expect(regionIsReason('kernel', 'hyp', 0x1234n)).toBe(true)
    expect(regionIsReason('hyp', 'kernel', layout.idmap!)).toBeUndefined()
    expect(regionIsReason('phys', 'hyp', 0x1n)).toBeUndefined()
    const { dram, pageOffset, physOffset } = layout
    expect(regionIsReason('kernel', 'hyp', dram![0]!.start - physOffset! + pageOffset!)).toBeUndefined()
  })
})

describe('what a layout lacks', () => {
  const bare: HypLayout = { tagLsb: 31, tagVal: 0x11367n }
  test.each([
    ['phys', []],
    ['linear', ['pageOffset', 'physOffset']],
    ['image', ['kimageVoffset']],
    ['link', ['kimageVoffset', 'kaslrOffset']],
    ['hyp', ['pageOffset', 'physOffset', 'hypPhysvirtOffset']],
  ] as const)('%s', (space, missing) => {
    expect(missingFields(bare, space)).toEqual(missing)
    if (missing.length > 0) expect(convert(bare, 'phys', space, 0x40000000n)).toBeUndefined()
    else expect(convert(bare, 'phys', space, 0x40000000n)).toBe(0x40000000n)
  })

  test('hyp_physvirt_offset stands in for the linear map', () => {
    const layout: HypLayout = { ...bare, hypPhysvirtOffset: 0xffff764cc0000000n, kimageVoffset: 0xffffad42c6000000n }
    expect(missingFields(layout, 'hyp')).toEqual([])
    expect(convert(layout, 'hyp', 'phys', 0x89b380ef1c00n)).toBe(0x40ef1c00n)
    expect(convert(layout, 'image', 'hyp', 0xffffad4306ef1c00n)).toBe(0x89b380ef1c00n)
    expect(stepsBetween(layout, 'hyp', 'image', 0x89b380ef1c00n).map(({ to }) => to)).toEqual(['phys', 'image'])
    expect(convert(layout, 'hyp', 'linear', 0x89b380ef1c00n)).toBeUndefined()
    expect(missingFields({ ...bare, pageOffset: 0xffff000000000000n }, 'hyp')).toEqual([
      'physOffset',
      'hypPhysvirtOffset',
    ])
  })
})
