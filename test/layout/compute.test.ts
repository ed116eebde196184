import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { computeLayout, droppedMemory } from '../../src/layout/compute.js'
import { GENERATIONS } from '../../src/layout/generations.js'
import { hypVaRange, kernHypVa, macroOf } from '../../src/layout/macro.js'
import { layoutProblems } from '../../src/layout/problems.js'
import type { Generation, Machine } from '../../src/layout/types.js'

const code = (code: string, message = '') =>
  expect.objectContaining({ code, message: expect.stringContaining(message) })
const range = (start: bigint, end: bigint) => ({ start, end })
const GIB = 2n ** 30n
const TIB = 2n ** 40n

/** docs/kernel-facts.md, 6: a real board. */
const lx2160a: Machine = {
  generation: '5.6',
  pageSize: 4096,
  vaBits: 39,
  dram: [range(0x80000000n, 0xfbe00000n), range(0x2080000000n, 0x2380000000n)],
  idmap: 0x81a24000n,
}

/** The same section; only DRAM below 0x140000000 gives its printed range 4800000000-493fffffff. */
const armada8040: Machine = {
  generation: '5.6',
  pageSize: 4096,
  vaBits: 39,
  dram: [range(0n, 0xc0000000n), range(0x100000000n, 0x140000000n)],
  idmap: 0x2a26000n,
}

const small: Machine = {
  kernel: '6.12',
  pageSize: 4096,
  vaBits: 48,
  dram: [range(0x40000000n, 0xc0000000n)],
  idmap: 0x4114b000n,
  random: 0n,
}

const withGeneration = (machine: Machine, generation: Generation): Machine => ({ ...machine, generation })

describe('LX2160A', () => {
  test('5.6: one tag bit, and no choice', () => {
    const layout = computeLayout(lx2160a)
    expect(layout).toMatchObject({ tagLsb: 38, tagVal: 1n, hypVaBits: 39, pageOffset: 0xffffff8000000000n })
    expect(layout.physOffset).toBe(0x80000000n)
    expect(hypVaRange(layout)).toEqual(range(0x4000000000n, 0x6300000000n))
    expect(layoutProblems(layout)).toEqual([])
  })

  test('5.4: AND only, from 0, and the idmap is in the way', () => {
    const layout = computeLayout(withGeneration(lx2160a, '5.4'))
    expect(layout).toMatchObject({ tagLsb: 39, tagVal: 0n, vaMask: 0x7fffffffffn })
    expect(hypVaRange(layout)).toEqual(range(0n, 0x2300000000n))
    const [problem, ...others] = layoutProblems(layout)
    expect(others).toEqual([])
    expect(problem?.kind).toBe('idmap-in-hyp-range')
    expect(problem?.message).toContain('0x81a24000')
    expect(problem?.message).toContain('0x0:0x22ffffffff')
  })

  test('4.17: AND only, in the top half, sound', () => {
    const layout = computeLayout(withGeneration(lx2160a, '4.17'))
    expect(layout).toMatchObject({ tagLsb: 39, tagVal: 0n, pageOffset: 0xffffffc000000000n })
    expect(hypVaRange(layout)).toEqual(range(0x4000000000n, 0x6300000000n))
    expect(layoutProblems(layout)).toEqual([])
  })

  test('4.17 with the idmap in the top half: the region bit is masked away', () => {
    const layout = computeLayout(withKernelAt(withGeneration(lx2160a, '4.17'), 0x4000000000n))
    expect(layout).toMatchObject({ tagLsb: 38, tagVal: 0n })
    expect(hypVaRange(layout)).toEqual(range(0n, 0x3f80200000n))
  })
})

/** The machine with its kernel in 2 MiB of memory of its own. */
function withKernelAt(machine: Machine, idmap: bigint): Machine {
  const start = idmap - (idmap % 0x200000n)
  const dram = [...machine.dram, range(start, start + 0x200000n)].sort((a, b) => (a.start < b.start ? -1 : 1))
  return { ...machine, dram, idmap }
}

test('Armada 8040', () => {
  const layout = computeLayout({ ...armada8040, tagVal: 0x24n })
  expect(layout.tagLsb).toBe(33)
  expect(hypVaRange(layout)).toEqual(range(0x4800000000n, 0x4940000000n))
  expect(layout.hypPhysvirtOffset).toBe(0xffffffb800000000n)
})

test('a real panic log: 5.19-rc2 on QEMU virt', () => {
  // The log alone says L=35 and physOffset 0x40000000; a last bank up to 16 GiB above that gives this L.
  const { random: _, ...facts } = small
  const machine = { ...facts, kernel: '5.19.0-rc2', dram: [range(0x40000000n, 0x640000000n)] }
  const layout = computeLayout({ ...machine, tagVal: 0x1e83n })
  expect(layout.tagLsb).toBe(35)
  expect(layout.hypPhysvirtOffset).toBe(0xffff0be840000000n)
})

describe('mask-only generations', () => {
  test('3.11 keeps every VA bit', () => {
    for (const idmap of [0n, 2n ** 38n]) {
      const layout = computeLayout(withKernelAt({ ...lx2160a, generation: '3.11' }, idmap))
      expect(macroOf(layout)).toEqual({ mask: 2n ** 39n - 1n, tag: 0n })
    }
  })

  test.each([
    [2n ** 38n - 4096n, 39],
    [2n ** 38n, 38],
    // A comparison, not a bit test: this one has bit 38 clear.
    [2n ** 39n, 38],
  ])('4.8 with the idmap at %s', (idmap, tagLsb) => {
    const layout = computeLayout(withKernelAt({ ...lx2160a, generation: '4.8' }, idmap))
    expect(layout).toMatchObject({ tagLsb, tagVal: 0n })
  })
})

describe('which bits are random', () => {
  // V = 48, two GiB from 0x40000000: L = 31, region bit 47, so tag_val is bit 16 and sixteen random bits.
  const random = 0x1234_5678_9abc_def0n
  const drawn = 0x10000n | ((random >> 31n) & 0xffffn)

  test.each([
    ['4.17', false, true],
    ['5.4', false, true],
    ['5.6', false, true],
    ['5.9', false, false],
    ['5.9', true, true],
    ['5.15', false, false],
    ['5.15', true, true],
    ['7.0', false, false],
    ['7.0', true, true],
  ] as const)('%s, CONFIG_RANDOMIZE_BASE %s: random %s', (generation, randomizeBase, isRandom) => {
    const layout = computeLayout({ ...small, generation, randomizeBase, random })
    expect(layout).toMatchObject({ tagLsb: 31, tagVal: isRandom ? drawn : 0x10000n })
  })

  test('a tag must be given where it is random, and is not asked for where it is not', () => {
    const { random: _, ...facts } = small
    expect(() => computeLayout(facts)).toThrow(code('HYPVA_MACHINE', 'random'))
    expect(computeLayout({ ...facts, randomizeBase: false }).tagVal).toBe(0x10000n)
    expect(computeLayout({ ...facts, mode: 'vhe' }).tagVal).toBeUndefined()
  })

  test('a tag that the rules exclude', () => {
    const { random: _, ...facts } = small
    expect(computeLayout({ ...facts, tagVal: 0x1ffffn }).tagVal).toBe(0x1ffffn)
    expect(() => computeLayout({ ...facts, tagVal: 0xffffn })).toThrow(code('HYPVA_MACHINE', '0x10000'))
    expect(() => computeLayout({ ...facts, tagVal: 0x30000n })).toThrow(code('HYPVA_MACHINE', '0x10000'))
    expect(() => computeLayout({ ...facts, randomizeBase: false, tagVal: 0x10001n })).toThrow(code('HYPVA_MACHINE'))
    expect(() => computeLayout({ ...facts, generation: '4.8', tagVal: 1n })).toThrow(
      code('HYPVA_MACHINE', 'expected 0x0'),
    )
    expect(() => computeLayout({ ...lx2160a, tagVal: 0n })).toThrow(code('HYPVA_MACHINE', 'expected 0x1'))
    expect(() => computeLayout({ ...facts, mode: 'vhe', tagVal: 0n })).toThrow(code('HYPVA_MACHINE', 'vhe'))
  })

  test('both given must agree', () => {
    expect(computeLayout({ ...small, random, tagVal: drawn }).tagVal).toBe(drawn)
    expect(() => computeLayout({ ...small, random, tagVal: drawn ^ 1n })).toThrow(code('HYPVA_MACHINE', 'contradicts'))
  })

  test('the region bit is the complement of the idmap bit', () => {
    const layout = computeLayout({ ...small, idmap: 2n ** 47n, dram: [range(2n ** 47n, 2n ** 47n + GIB)] })
    expect(layout).toMatchObject({ tagLsb: 30, tagVal: 0n })
  })
})

test('7.0 uses at least 48 hyp VA bits', () => {
  const random = 2n ** 64n - 1n
  const before = computeLayout({ ...armada8040, generation: '5.15', random })
  const since = computeLayout({ ...armada8040, generation: '7.0', random })
  expect(before).toMatchObject({ hypVaBits: 39, tagLsb: 33, tagVal: 0x3fn })
  expect(since).toMatchObject({ hypVaBits: 48, tagLsb: 33, tagVal: 0x7fffn })
})

describe('a 52-bit build on hardware with fewer bits', () => {
  const facts: Machine = { ...small, vaBits: 52, vaBitsActual: 48 }

  test('since 5.11 memstart_addr is lowered', () => {
    for (const generation of ['5.11', '5.12', '5.15', '7.0'] as const) {
      const layout = computeLayout({ ...facts, generation })
      expect(layout).toMatchObject({ pageOffset: 0xfff0000000000000n, physOffset: 0xfff1000040000000n })
    }
    // As d73-16k-2g-a35 has it.
    const pages16k = computeLayout({ ...facts, pageSize: 16384, vaBitsActual: 47, idmap: 0x414c0000n })
    expect(pages16k.physOffset).toBe(0xfff0800040000000n)
  })

  test('5.4 to 5.10 place the linear map by the bits in use', () => {
    for (const generation of ['5.4', '5.6', '5.9'] as const) {
      const layout = computeLayout({ ...facts, pageSize: 65536, idmap: 0x41150000n, generation })
      expect(layout).toMatchObject({ pageOffset: 0xffff000000000000n, physOffset: 0x40000000n })
    }
  })

  test('a physOffset that was not lowered is refused, with the hint', () => {
    expect(() => computeLayout({ ...facts, physOffset: 0x40000000n })).toThrow(
      code('HYPVA_MACHINE', 'lowers physOffset by 0xf000000000000'),
    )
  })
})

describe('PHYS_OFFSET by rule', () => {
  test.each([
    [4096, 48, 0x60000000n, 0x40000000n],
    [16384, 47, 0x60000000n, 0x40000000n],
    [65536, 42, 0x60000000n, 0x60000000n],
    [65536, 42, 0x5fff0000n, 0x40000000n],
  ] as const)('%i byte pages, %i bits, DRAM from %s', (pageSize, vaBits, start, physOffset) => {
    const layout = computeLayout({ ...small, pageSize, vaBits, dram: [range(start, 0xc0000000n)], idmap: 0x80000000n })
    expect(layout.physOffset).toBe(physOffset)
  })
})

describe('memory that the linear map cannot hold', () => {
  const wide: Machine = {
    kernel: '5.15',
    pageSize: 65536,
    vaBits: 52,
    dram: [range(0n, 4n * GIB), range(2048n * TIB - GIB, 2048n * TIB + 3n * GIB)],
    idmap: 0x1000000n,
    randomizeBase: false,
  }

  test('2^51 bytes for a host below EL2, from 5.15', () => {
    const layout = computeLayout(wide)
    expect(layout.dram).toEqual([range(0n, 4n * GIB), range(2048n * TIB - GIB, 2048n * TIB)])
    expect(layout).toMatchObject({ tagLsb: 51, tagVal: 1n, physOffset: 0n })
    expect(droppedMemory(wide, layout)).toEqual([range(2048n * TIB, 2048n * TIB + 3n * GIB)])
    expect(layoutProblems(layout)).toEqual([])
  })

  test('no such cap for VHE', () => {
    const machine: Machine = { ...wide, mode: 'vhe' }
    expect(droppedMemory(machine, computeLayout(machine))).toEqual([])
  })

  test('5.11 to 5.14: the region bit is lost', () => {
    const layout = computeLayout({ ...wide, kernel: '5.14' })
    expect(layout).toMatchObject({ tagLsb: 52, tagVal: 0n })
    expect(layoutProblems(layout).map(({ kind }) => kind)).toEqual(['region-bit-lost', 'idmap-in-hyp-range'])
  })

  test('a kernel high in memory stays, and memory below goes instead', () => {
    const layout = computeLayout({ ...wide, idmap: 2048n * TIB + GIB })
    // The idmap page ends 2^16 above 2^51 + 1 GiB; memstart is that less 2^51, rounded up to 512 MiB.
    const memstart = GIB + 2n ** 29n
    expect(layout.physOffset).toBe(memstart)
    expect(layout.dram).toEqual([range(memstart, 4n * GIB), range(2048n * TIB - GIB, 2048n * TIB + GIB + 0x10000n)])
  })

  test('the image says where the kernel ends', () => {
    const image = {
      image: range(0xffff800080000000n, 0xffff800082000000n),
      kimageVoffset: 0xffff800080000000n - 2048n * TIB,
    }
    const layout = computeLayout({ ...wide, idmap: 2048n * TIB + 0x1000000n, ...image })
    expect(layout.dram!.at(-1)!.end).toBe(2048n * TIB + 0x2000000n)
    expect(layout.physOffset).toBe(2n ** 29n)
  })

  test.each([
    ['5.3', 48, 2n ** 47n],
    ['5.4', 48, 2n ** 47n],
    ['6.1', 48, 2n ** 47n],
    ['6.1', 39, 2n ** 38n],
  ] as const)('%s with %i bits holds %s bytes', (kernel, vaBits, size) => {
    const machine: Machine = {
      ...small,
      kernel,
      vaBits,
      dram: [range(0n, 2n * GIB), range(size - GIB, size + GIB)],
      idmap: 0x1000000n,
    }
    const layout = computeLayout(machine)
    expect(droppedMemory(machine, layout)).toEqual([range(size, size + GIB)])
  })

  test('5.11 with 52 bits holds 3968 TiB', () => {
    const machine: Machine = { ...wide, kernel: '5.11', dram: [range(0n, GIB), range(3967n * TIB, 3969n * TIB)] }
    expect(droppedMemory(machine, computeLayout(machine))).toEqual([range(3968n * TIB, 3969n * TIB)])
  })

  test('a given physOffset decides what is covered; it may be negative', () => {
    const lowered = computeLayout({ ...small, physOffset: 0xffffecc840000000n })
    expect(lowered.dram).toEqual(small.dram)
    expect(lowered.tagLsb).toBe(31)
    expect(() => computeLayout({ ...small, physOffset: 0x1_0000_0000n })).toThrow(code('HYPVA_MACHINE', 'physOffset'))
  })
})

test('a physOffset that covers some DRAM, but not the kernel', () => {
  const dram = [range(0x40000000n, 0x80000000n), range(0x880000000n, 0x8c0000000n)]
  // Lowered so far that the linear map ends below the second bank, where the kernel is.
  const facts = { ...small, dram, idmap: 0x880001000n, physOffset: 0xffff800100000000n }
  expect(() => computeLayout(facts)).toThrow(code('HYPVA_MACHINE', 'idmap'))
  const lower = { ...facts, physOffset: 0xffff700000000000n }
  expect(() => computeLayout(lower)).toThrow(code('HYPVA_MACHINE', 'no DRAM'))
})

test('touching banks are one', () => {
  const dram = [range(0x40000000n, 0x80000000n), range(0x80000000n, 0xc0000000n)]
  expect(computeLayout({ ...small, dram })).toEqual(computeLayout(small))
})

test('mode vhe: no tag, the rest of the facts', () => {
  const layout = computeLayout({ ...small, mode: 'vhe' })
  expect(Object.keys(layout)).not.toContain('tagLsb')
  expect(layout.hypPhysvirtOffset).toBeUndefined()
  expect(layout).toMatchObject({ mode: 'vhe', pageOffset: 0xffff000000000000n, physOffset: 0x40000000n })
  expect(kernHypVa(layout, 0xffff000012345678n)).toBe(0xffff000012345678n)
})

test('generation wins over kernel: a vendor kernel', () => {
  const layout = computeLayout({ ...lx2160a, kernel: '4.18.0-305.el8.aarch64' })
  expect(layout.generation).toBe('5.6')
})

test('bad descriptions', () => {
  const bad = (change: object) => () => computeLayout({ ...small, ...change } as Machine)
  expect(bad({ dram: [] })).toThrow(code('HYPVA_MACHINE', 'dram'))
  expect(bad({ idmap: 0x123n })).toThrow(code('HYPVA_MACHINE', 'idmap'))
  expect(bad({ vaBits: 47 })).toThrow(code('HYPVA_MACHINE', 'vaBits'))
  expect(bad({ vaBitsActual: 47 })).toThrow(code('HYPVA_MACHINE', 'vaBitsActual'))
  expect(bad({ kernel: 'linux' })).toThrow(code('HYPVA_KERNEL_VERSION'))
  expect(bad({ kernel: undefined })).toThrow(code('HYPVA_MACHINE', 'kernel'))
  expect(bad({ idmap: 0x4114b000 })).toThrow(TypeError)
  expect(bad({ dram: [{ start: 0n, end: -1n }] })).toThrow(RangeError)
  expect(bad({ kernel: '5.3', vaBits: 52, vaBitsActual: 48 })).toThrow(code('HYPVA_MACHINE', 'vaBitsActual'))
})

/** Machines whose DRAM fits every generation's linear map. */
const machines = fc
  .record({
    generation: fc.constantFrom(...GENERATIONS),
    vaBits: fc.constantFrom(39, 48),
    starts: fc.uniqueArray(fc.integer({ min: 0, max: 200 }), { minLength: 1, maxLength: 4 }),
    page: fc.integer({ min: 0, max: 0x3ffff }),
    random: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  })
  .map(({ generation, vaBits, starts, page, random }): Machine => {
    const dram = starts.sort((a, b) => a - b).map((gib) => range(BigInt(gib) * GIB, BigInt(gib + 1) * GIB))
    return { generation, pageSize: 4096, vaBits, dram, idmap: dram[0]!.start + BigInt(page) * 4096n, random }
  })
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })

test('kern_hyp_va is idempotent, and one constant away from physical in all of DRAM', () => {
  fc.assert(
    fc.property(machines, u64, fc.bigInt({ min: 0n, max: GIB - 1n }), (machine, address, offset) => {
      const layout = computeLayout(machine)
      const hyp = kernHypVa(layout, address)
      expect(kernHypVa(layout, hyp)).toBe(hyp)
      for (const bank of layout.dram!) {
        const pa = bank.start + offset
        // Add here, OR in src: inside the linear map they agree.
        const linear = (pa - layout.physOffset! + layout.pageOffset!) % 2n ** 64n
        const there = (kernHypVa(layout, linear) + layout.hypPhysvirtOffset!) % 2n ** 64n
        expect(there).toBe(pa)
      }
    }),
  )
})

test('since 5.6 the hyp range is in the half that the idmap is not in', () => {
  fc.assert(
    fc.property(machines, (machine) => {
      fc.pre(GENERATIONS.indexOf(machine.generation!) >= GENERATIONS.indexOf('5.6'))
      const layout = computeLayout(machine)
      const { start, end } = hypVaRange(layout)!
      const half = BigInt(layout.hypVaBits! - 1)
      const other = ((machine.idmap >> half) & 1n) ^ 1n
      expect([start >> half, (end - 1n) >> half]).toEqual([other, other])
      expect(layoutProblems(layout)).toEqual([])
    }),
  )
})
