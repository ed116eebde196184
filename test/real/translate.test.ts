import { describe, expect, test } from 'vitest'
import { computeLayout } from '../../src/layout/compute.ts'
import { parseMachine } from '../../src/layout/json.ts'
import { createTranslator } from '../../src/translate/translator.ts'
import { boots, machineJson } from '../fixtures.ts'

describe.each(boots.map((b) => [b.name, b] as const))('boot %s', (_, b) => {
  const layout = computeLayout(parseMachine(machineJson(b)))
  const toHyp = createTranslator(layout, { from: 'kernel', to: 'hyp' })
  const toKernel = createTranslator(layout, { from: 'hyp', to: 'kernel' })
  const toLinear = createTranslator(layout, { from: 'hyp', to: 'linear' })
  const toPhys = createTranslator(layout, { from: 'kernel', to: 'phys' })
  const hypToPhys = createTranslator(layout, { from: 'hyp', to: 'phys' })

  test('every symbol goes kernel → hyp → kernel → phys', () => {
    // The symbol _end is the first address behind the image.
    const inside = b.pairs.filter(({ kernel_va }) => kernel_va !== b.end_va)
    expect(inside.length).toBeGreaterThan(b.pairs.length - 2)
    for (const { kernel_va, linear_va, phys, hyp_va } of inside) {
      const [kernel, linear, hyp] = [BigInt(kernel_va), BigInt(linear_va), BigInt(hyp_va)]
      expect(toHyp.translate(kernel)).toBe(hyp)
      expect(toHyp.translate(linear)).toBe(hyp)
      expect(toKernel.translate(hyp)).toBe(kernel)
      expect(toLinear.translate(hyp)).toBe(linear)
      expect(toPhys.translate(kernel)).toBe(BigInt(phys))
      expect(hypToPhys.translate(hyp)).toBe(BigInt(phys))
    }
  })

  test("what EL2's own page tables map as linear is what hyp → phys says, from the first to the last byte", () => {
    const linear = b.el2_mappings.filter(({ kind }) => kind === 'linear')
    expect(linear.length).toBeGreaterThan(0)
    for (const { va, pa, size } of linear) {
      const last = BigInt(size) - 1n
      for (const offset of [0n, last / 2n, last]) {
        expect(hypToPhys.translate(BigInt(va) + offset)).toBe(BigInt(pa) + offset)
      }
    }
  })

  test('nothing that they map as idmap or private is taken for linear', () => {
    const others = b.el2_mappings.filter(({ kind }) => kind !== 'linear')
    expect(others.length).toBeGreaterThan(1)
    for (const { va, size, kind } of others) {
      for (const address of [BigInt(va), BigInt(va) + BigInt(size) - 1n]) {
        expect(hypToPhys.tryTranslate(address)).toBeUndefined()
        const { reason, region } = hypToPhys.explain(address)
        expect(kind === 'idmap' ? ['idmap'] : ['private', 'hyp-vmemmap']).toContain(region!.kind)
        expect(reason).toBeTruthy()
      }
    }
  })

  test("explain's steps come to what the segments come to", () => {
    const spaces = ['kernel', 'linear', 'image', 'phys', 'hyp'] as const
    const { kernel_va, linear_va, phys, hyp_va } = b.pairs[0]!
    const of = { kernel: kernel_va, image: kernel_va, linear: linear_va, phys, hyp: hyp_va }
    for (const from of spaces) {
      for (const to of spaces) {
        const { steps, result } = createTranslator(layout, { from, to }).explain(BigInt(of[from]))
        expect(result).toBe(from === 'kernel' && to === 'kernel' ? BigInt(kernel_va) : BigInt(of[to]))
        if (steps.length > 0) expect(steps.at(-1)!.value).toBe(result)
        else expect(result).toBe(BigInt(of[from]))
      }
    }
  })
})
