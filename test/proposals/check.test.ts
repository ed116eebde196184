import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checkProposals,
  createTranslator,
  formatLayout,
  LAYOUT_NAMES,
  type LayoutName,
  type Machine,
  parseLayout,
  parseMachine,
  sweepProposals,
} from '../../src/index.js'
import { boots, machineJson } from '../fixtures.js'

const ROOT = join(import.meta.dirname, '../..')
const TIB = 2n ** 40n
const GIB = 2n ** 30n
const range = (start: bigint, end: bigint) => ({ start, end })
const code = (code: string, message: string) =>
  expect.objectContaining({ code, message: expect.stringContaining(message) })

const sample = (name: string) => parseMachine(readFileSync(join(ROOT, 'samples/machines', `${name}.json`), 'utf8'))
const check = (machine: Machine, name: LayoutName) => checkProposals(machine, [name])[0]!

const corner = sample('corner')
const lx2160a = sample('lx2160a')
const kinds = (machine: Machine, name: LayoutName) => check(machine, name).reasons.map(({ kind }) => kind)

describe("the thread's numbers", () => {
  test('4096 - 128 = 3968 TiB of linear map at EL1; 4032 with 16K pages', () => {
    expect(check(corner, 'extended-linear').linearSize).toBe((4096n - 128n) * TIB)
    expect(check(sample('wide-16k'), 'extended-linear').linearSize).toBe(4032n * TIB)
  })

  test('low-window-48 maps 3840 TiB of it, and the missing slice is [3840, 3968) TiB', () => {
    const verdict = check(corner, 'low-window-48')
    expect(verdict.capacity).toBe(3840n * TIB)
    expect(verdict.missing).toEqual(range(3840n * TIB, 3968n * TIB))
    expect(verdict.linear).toEqual(range(2n ** 48n, 2n ** 52n))
  })

  test('low-window-47 fits exactly; with 16K pages it does not', () => {
    const verdict = check(corner, 'low-window-47')
    expect([verdict.capacity, verdict.missing]).toEqual([3968n * TIB, undefined])
    expect(check(sample('wide-16k'), 'low-window-47').missing).toEqual(range(3968n * TIB, 4032n * TIB))
  })

  test('2048 TiB for cap-51, and for half-split', () => {
    for (const name of ['cap-51', 'half-split'] as const) {
      expect(check(corner, name)).toMatchObject({ linearSize: 2048n * TIB, capacity: 2048n * TIB })
    }
  })

  test('overlap-top-window: linear memory up to 2^52 - 2^47, private above', () => {
    const verdict = check(corner, 'overlap-top-window')
    expect(verdict.linear).toEqual(range(0n, 2n ** 52n - 2n ** 47n))
    expect(verdict.privateNvhe).toMatchObject({ start: 2n ** 52n, end: 2n ** 52n - 2n ** 47n, noticed: false })
  })
})

describe('the corner of the thread', () => {
  test.each([
    ['half-split', [], 256n * GIB],
    ['extended-linear', ['idmap-collision', 'start-up-check', 'private-collision'], 0n],
    ['low-window-48', ['memory-not-mapped'], 0n],
    ['low-window-48-as-coded', ['idmap-collision', 'start-up-check', 'private-collision'], 0n],
    ['low-window-47', [], 0n],
    ['overlap-top-window', ['idmap-collision'], 0n],
    ['cap-51', [], 256n * GIB],
    ['vhe', [], 0n],
  ] as const)('%s: %j', (name, reasons, dropped) => {
    const verdict = check(corner, name)
    expect(verdict.reasons.map(({ kind }) => kind)).toEqual(reasons)
    expect(verdict.sound).toBe(reasons.length === 0)
    expect(verdict.bytes.dropped).toBe(dropped)
  })

  test("the thread's question: what EL1 must not allocate", () => {
    const verdict = check(corner, 'overlap-top-window')
    // PHYS_OFFSET is 2 GiB: the page whose offset is the idmap's address lies that much above it.
    expect(verdict.keepFree).toEqual([range(0x101000000n, 0x101010000n)])
    expect(verdict.restrictions[0]).toEqual({ keepFree: verdict.keepFree, cost: 0x10000n })
    expect(verdict.congruent).toMatchObject({ count: 1n, first: range(0xfff0000081000000n, 0xfff0000081010000n) })
  })

  test('the harmless collision: physical = offset', () => {
    const machine = { ...corner, dram: [range(0n, 64n * GIB), ...corner.dram.slice(1)] }
    const verdict = check(machine, 'overlap-top-window')
    expect(verdict.sound).toBe(true)
    expect(verdict.collisions).toMatchObject([{ harmless: true, phys: range(0x81000000n, 0x81010000n) }])
    expect(verdict.keepFree).toEqual([])
  })

  test('what would help, and what it costs', () => {
    expect(check(corner, 'low-window-48').restrictions).toEqual([
      { dramBelow: 2n * GIB + 3840n * TIB, cost: 256n * GIB },
    ])
    expect(check(corner, 'extended-linear').restrictions).toEqual([
      { dramBelow: 2n * GIB + 2048n * TIB, cost: 256n * GIB },
    ])
    const high = { ...corner, dram: corner.dram.slice(0, 2), idmap: 1024n * TIB }
    expect(kinds(high, 'low-window-48')).toContain('start-up-check')
    const restrictions = check(high, 'low-window-48').restrictions
    expect(restrictions).toContainEqual({ kernelBelow: 2n ** 48n, cost: 0n, choice: 64n * GIB })
    const both = check({ ...corner, idmap: 1024n * TIB }, 'low-window-48').restrictions
    expect(both).toContainEqual({
      kernelBelow: 2n ** 48n,
      dramBelow: 2n * GIB + 3840n * TIB,
      cost: 256n * GIB,
      choice: 64n * GIB,
    })
  })

  test('under pKVM the highest limit for memory ends where its private range begins', () => {
    const machine: Machine = {
      kernel: '5.12',
      mode: 'protected',
      pageSize: 65536,
      vaBits: 52,
      idmap: 0x47ffe0000n,
      dram: [range(0x80010000n, 0x47fff0000n), range(0x8003ffff0000n, 0x80003ffff0000n)],
    }
    const ending = (end: bigint) => check({ ...machine, dram: [machine.dram[0]!, range(0x8003ffff0000n, end)] }, name)
    const name = 'low-window-48'
    expect(ending(0x3000080000000n).sound).toBe(true)
    expect(ending(0x3000080010000n).sound).toBe(false)
    const limits = check(machine, name).restrictions.flatMap(({ dramBelow = [] }) => dramBelow)
    expect(limits).toEqual([0x3000080000000n])
  })

  test('as coded: what tag_lsb shifts out depends on how far memory spans', () => {
    const spanning = (bytes: bigint): Machine => ({
      ...corner,
      dram: [range(0n, 64n * GIB), range(bytes - GIB, bytes)],
    })
    for (const bits of [40n, 47n, 48n]) {
      const verdict = check(spanning(2n ** bits), 'low-window-48-as-coded')
      expect([verdict.sound, verdict.linear!.start]).toEqual([true, 2n ** 48n])
    }
    for (const bits of [49n, 50n, 51n]) {
      const verdict = check(spanning(2n ** bits), 'low-window-48-as-coded')
      expect([verdict.sound, verdict.linear!.start]).toEqual([false, 0n])
    }
    // A draw can hide it: bit 50 of the random word takes linear memory away from the idmap.
    const lucky = { ...spanning(2n ** 49n), random: 2n ** 50n }
    expect(check(lucky, 'low-window-48-as-coded')).toMatchObject({ sound: true, randomTagBits: 2 })
  })

  test('pKVM in a low window: its private range meets linear memory, and nothing notices', () => {
    expect(check(corner, 'low-window-48').privatePkvm).toMatchObject({ start: 2n ** 50n, noticed: false })
    expect(check(corner, 'half-split').privatePkvm).toMatchObject({
      start: 2n ** 50n,
      end: 2n ** 50n + 2n ** 49n,
      noticed: true,
    })
  })
})

describe('real boards and boots', () => {
  test('LX2160A on 5.4: the idmap intersects', () => {
    const verdict = check(lx2160a, 'kernel')
    expect(verdict.hypVaRange).toEqual(range(0n, 0x2300000000n))
    expect(verdict.startUpCheck).toBe('-EINVAL')
    expect(verdict.reasons[0]!.message).toContain('IDMAP intersecting with HYP VA')
    // No memory is there: the check is the only thing that is wrong.
    expect(verdict.collisions).toEqual([])
    expect(verdict.reasons).toHaveLength(1)
  })

  test.each(['5.6', '5.9', '5.15', '6.12'])('LX2160A on %s', (kernel) => {
    const verdict = check({ ...lx2160a, kernel }, 'kernel')
    expect(verdict).toMatchObject({
      sound: true,
      hypVaRange: range(0x4000000000n, 0x6300000000n),
      startUpCheck: 'pass',
    })
  })

  test('every real boot runs what its kernel does, and maps all of its memory', () => {
    for (const boot of boots) {
      const machine = parseMachine(machineJson(boot))
      const verdict = check(machine, 'kernel')
      expect(verdict.sound, boot.name).toBe(true)
      expect([verdict.layout.tagLsb, verdict.layout.tagVal]).toEqual([
        boot.observed.tag_lsb,
        BigInt(boot.observed.tag_val),
      ])
      expect([verdict.bytes.unmapped, verdict.bytes.dropped]).toEqual([0n, 0n])
      for (const place of boot.el2_mappings.filter(({ kind }) => kind === 'private')) {
        const { start, end } = boot.mode === 'protected' ? verdict.privatePkvm! : verdict.privateNvhe!
        const [low, high] = start < end ? [start, end] : [end, start]
        const inVmemmap = verdict.privatePkvm!.vmemmap!.start <= BigInt(place.va)
        expect(BigInt(place.va) >= low && (BigInt(place.va) < high || inVmemmap), `${boot.name} ${place.va}`).toBe(true)
      }
      for (const one of checkProposals(machine)) expect(one.bytes.mapped).toBeGreaterThan(0n)
    }
  })

  test('the sample boots are the fixtures', () => {
    const files = readdirSync(join(ROOT, 'samples/machines')).filter((file) => file.startsWith('boot-'))
    expect(files.length).toBeGreaterThan(5)
    for (const file of files) {
      const boot = boots.find(({ name }) => file === `boot-${name}.json`)!
      expect(sample(file.replace('.json', ''))).toEqual(parseMachine(machineJson(boot)))
    }
  })

  test('a 52-bit build with 48 in use and the kernel in the upper half: crossing bit 47 is not noticed', () => {
    const machine: Machine = {
      kernel: '6.12',
      pageSize: 4096,
      vaBits: 52,
      vaBitsActual: 48,
      dram: [range(2n ** 46n, 2n ** 46n + GIB), range(2n ** 47n, 2n ** 47n + GIB)],
      idmap: 2n ** 47n + 0x1000n,
    }
    const { privateNvhe } = check(machine, 'kernel')
    expect(privateNvhe!.noticed).toBe(false)
    expect(privateNvhe!.end).toBeLessThan(2n ** 47n)
    expect(check({ ...machine, vaBits: 48 }, 'kernel').privateNvhe).toMatchObject({ noticed: true, end: 2n ** 47n })
  })
})

describe('each is a layout like any other', () => {
  const u64 = (length: number) => fc.bigInt({ min: 0n, max: BigInt(length) - 1n })

  test.each(LAYOUT_NAMES)('%s: JSON there and back, and every translation through segments', (name) => {
    const { layout, banks } = check(corner, name)
    expect(parseLayout(formatLayout(layout))).toEqual(layout)
    const toHyp = createTranslator(layout, { from: 'phys', to: 'hyp' })
    const back = createTranslator(layout, { from: 'hyp', to: 'phys' })
    const linear = createTranslator(layout, { from: 'linear', to: 'hyp' })
    // Offset of the linear map → hyp VA, as docs/kernel-facts.md, 5 says it.
    const transform: Partial<Record<LayoutName, (offset: bigint) => bigint>> = {
      'half-split': (o) => o + 2n ** 51n,
      'cap-51': (o) => o + 2n ** 51n,
      'extended-linear': (o) => o,
      'overlap-top-window': (o) => o,
      'low-window-48': (o) => o + 2n ** 48n,
      'low-window-47': (o) => o + 2n ** 47n,
      'low-window-48-as-coded': (o) => o,
      vhe: (o) => o + 2n ** 64n - 2n ** 52n,
      kernel: (o) => o,
    }
    for (const { mapped, unmapped } of banks) {
      for (const { start, end } of mapped) {
        fc.assert(
          fc.property(u64(Number(end - start)), (at) => {
            const offset = start + at - 2n * GIB
            const hyp = transform[name]!(offset)
            expect(toHyp.translate(start + at)).toBe(hyp)
            expect(back.translate(hyp)).toBe(start + at)
            expect(linear.translate(offset + 2n ** 64n - 2n ** 52n)).toBe(hyp)
          }),
          { numRuns: 30 },
        )
      }
      for (const { start } of unmapped) {
        expect(toHyp.tryTranslate(start)).toBeUndefined()
        expect(() => toHyp.translate(start)).toThrow(
          code('HYPVA_MISS', 'beyond the 52 bits there are: EL2 cannot map it'),
        )
        const { reason, steps } = linear.explain(start - 2n * GIB + 2n ** 64n - 2n ** 52n)
        expect([reason, steps]).toEqual([expect.stringContaining('beyond the 52 bits'), []])
      }
    }
  })

  test('batches and text of a low window; explain shows the sum', async () => {
    const { layout } = check(corner, 'low-window-48')
    const translator = createTranslator(layout)
    const input = BigUint64Array.of(0xfff0000000001234n, 0xfff3ffff80000000n, 0xffff3bff80000000n)
    const { output, missed, firstMiss } = translator.translateBatch(input)
    expect([...output]).toEqual([0x1000000001234n, 0x4ffff80000000n, 0xffff3bff80000000n])
    expect([missed, firstMiss]).toEqual([1, 2])
    const text = new Response('at fff0000000001234, 0xfff3ffff80000000').body!.pipeThrough(translator.textStream())
    expect(await new Response(text).text()).toBe('at 0001000000001234, 0x0004ffff80000000')
    const { steps } = translator.explain(0xfff0000000001234n)
    expect(steps.at(-1)).toMatchObject({ formula: '(linear & va_mask) + tag', value: 0x1000000001234n })
  })
})

describe('machines', () => {
  test('an idmap outside DRAM, and no whole pages', () => {
    expect(() => checkProposals({ ...corner, idmap: 0x1000000n })).toThrow(
      code('HYPVA_MACHINE', 'machine.idmap: the page at 0x1000000 is outside DRAM (0x80000000–0x107fffffff, '),
    )
    const cut = { ...corner, dram: [range(0x80000000n, 0x81008000n)] }
    expect(() => checkProposals(cut)).toThrow(code('HYPVA_MACHINE', 'machine.dram[0]: 0x80000000 to 0x81008000'))
  })

  test.each([
    [{ dram: [range(0n, 2n * GIB), range(GIB, 3n * GIB)] }, 'machine.dram[1].start: 0x40000000: banks must ascend'],
    [{ dram: [range(GIB, GIB)] }, 'machine.dram[0].end: 0x40000000 is not above the start'],
    [{ dram: [range(2n * GIB, 2n ** 52n + 1n)] }, 'machine.dram[0].end: 0x10000000000001 is beyond the 52 bits'],
    [{ tagVal: 5n }, 'machine.tagVal: expected 0x0'],
  ])('%o', (change, message) => {
    expect(() => checkProposals({ ...corner, ...change })).toThrow(code('HYPVA_MACHINE', message))
  })

  test('a host at EL2: its own layout is the identity, the others are for hosts below', () => {
    const verdicts = checkProposals({ ...corner, mode: 'vhe' })
    expect(verdicts[0]).toMatchObject({ name: 'kernel', sound: true, layout: { mode: 'vhe' } })
    expect(verdicts[1]).toMatchObject({ name: 'half-split', layout: { mode: 'nvhe', tagLsb: 51 } })
  })
})

describe('sweep', () => {
  const machine: Machine = {
    ...corner,
    dram: [range(0n, 64n * GIB), range(3839n * TIB, 3839n * TIB + GIB)],
    idmap: 0x1000000n,
  }
  const changes = sweepProposals(machine, ['low-window-48', 'low-window-47', 'cap-51'])
  const of = (name: LayoutName, moved: string) =>
    changes.filter((change) => change.name === name && change.moved === moved)

  test('memory: at 3840 and 3968 TiB, to the page', () => {
    expect(of('low-window-48', 'memory').map(({ at, before, after }) => [at, before, after])).toEqual([
      [3840n * TIB + 0x10000n, [], ['memory-not-mapped']],
      [3968n * TIB + 0x10000n, ['memory-not-mapped'], ['memory-not-mapped', 'memory-given-up']],
      // The bank that is moved is of 512 MiB.
      [3968n * TIB + 2n ** 29n, ['memory-not-mapped', 'memory-given-up'], ['memory-given-up']],
    ])
    expect(of('low-window-47', 'memory').map(({ at, after }) => [at, after])).toEqual([
      [3968n * TIB + 0x10000n, ['memory-given-up']],
    ])
  })

  test('the kernel: where its window ends', () => {
    expect(of('low-window-48', 'kernel')[0]).toMatchObject({ at: 2n ** 48n, before: [] })
    expect(of('low-window-47', 'kernel')[0]).toMatchObject({ at: 2n ** 47n, before: [] })
  })

  test('each change is one: the page before has the other verdict', () => {
    const states = new Set(changes.map(({ before, after }) => `${before} ${after}`))
    expect(states.size).toBeGreaterThan(3)
    for (const { before, after } of changes) expect(before).not.toEqual(after)
  })

  test('all samples, every layout', () => {
    for (const file of readdirSync(join(ROOT, 'samples/machines'))) {
      for (const { at } of sweepProposals(sample(file.replace('.json', '')))) expect(at).toBeGreaterThan(0n)
    }
  })
})
