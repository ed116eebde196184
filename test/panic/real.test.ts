import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  computeLayout,
  type DecodedPanic,
  decodePanics,
  type HypLayout,
  parseMachine,
  parseSymbols,
  type SymbolTable,
} from '../../src/index.ts'
import { type Boot, fixture, machineJson } from '../fixtures.ts'

interface Expected {
  kind: string
  hyp_offset: string
  kaslr_offset: string
  kimage_link_base: string
  kimage_voffset: string
  hyp_physvirt_offset: string
  kernel_version: string
  printed?: Record<string, string>
  pc?: Record<'hyp_va' | 'link_va' | 'runtime_kernel_va' | 'linear_va' | 'phys' | 'symbol' | 'offset', string>
  vcpu?: { printed: string; phys: string; kernel_linear_va: string }
  far?: { value: string; kind: string }
  esr_class?: string
  printed_backtrace?: { addr: string; sym: string }[]
  hyp_panics: {
    at_line: string
    PC: string
    ESR: string
    VCPU: string
    hyp_offset: string
    link_va: string
    symbol: string
  }[]
}

const cases = [
  ...readdirSync(join(import.meta.dirname, '../fixtures/panics'))
    .filter((name) => name.endsWith('.expected.json'))
    .map((name) => `panics/${name.replace('.expected.json', '')}`)
    .map((path) => ({ name: path, log: `${path}.txt`, expected: `${path}.expected.json`, boot: `${path}.case.json` })),
  ...['c4k39', 'd61-kaslr', 'd612-max-nvhe-va52', 'd73-a57'].map((boot) => ({
    name: `evidence/${boot}`,
    log: `evidence/${boot}/panic.txt`,
    expected: `evidence/${boot}/expected.json`,
    boot: `evidence/${boot}/case.json`,
  })),
].map(({ name, log, expected, boot }) => ({
  name,
  log: fixture(log).toString('latin1'),
  expected: JSON.parse(fixture(expected).toString()) as Expected,
  boot: JSON.parse(fixture(boot).toString()) as Boot,
}))
const hyp = cases.filter(({ expected }) => expected.hyp_panics.length > 0)

const tables: [string, SymbolTable][] = (
  [
    ['6.1.0-56-arm64', 'd61-kaslr'],
    ['6.12.107+deb13-arm64', 'd612-max-nvhe-va52'],
    ['7.3.4+deb13-arm64', 'd73-a57'],
    ['6.1.192-oracle', 'c4k39'],
  ] as const
).map(([version, boot]) => [version, parseSymbols(fixture(`evidence/${boot}/kallsyms.txt.gz`), boot)])
const symbolsOf = (version: string) => tables.find(([name]) => name === version)![1]
const layoutOf = (boot: Boot): HypLayout => {
  const layout = computeLayout(parseMachine(machineJson(boot)))
  return { ...layout, kaslrOffset: BigInt(boot.text_va) - linkBase(boot) }
}
const linkBase = (boot: Boot) => BigInt(cases.find((one) => one.boot === boot)!.expected.kimage_link_base)

const hex = (value: bigint | undefined) => value && `0x${value.toString(16)}`
const padded = (digits: string) => `0x${digits.replace(/^0x/, '').replace(/^0+(?=.)/, '')}`
const only = (list: readonly DecodedPanic[]) => list[0]!

describe.each(hyp)('$name', ({ log, expected, boot }) => {
  const alone = decodePanics(log)
  const symbols = symbolsOf(expected.kernel_version)
  const full = decodePanics(log, { layout: layoutOf(boot), symbols: [symbols], rawNames: true })

  test('every panic of the log, and no more', () => {
    expect(alone.map(({ pc }) => hex(pc!.value))).toEqual(expected.hyp_panics.map(({ PC }) => PC))
    expect(alone.map(({ printed }) => padded(printed.esr!.toString(16)))).toEqual(
      expected.hyp_panics.map(({ ESR }) => padded(ESR)),
    )
  })

  test('the log alone gives link-time and run-time addresses', () => {
    for (const [i, one] of expected.hyp_panics.entries()) {
      expect(hex(alone[i]!.pc!.link)).toBe(one.link_va)
      expect(hex(alone[i]!.printed.hypOffset)).toBe(expected.hyp_offset)
      expect(padded(alone[i]!.printed.vcpu!.toString(16))).toBe(padded(one.VCPU))
    }
    const [first] = alone
    expect(hex(first!.pc!.hyp)).toBe(expected.pc!.hyp_va)
    expect(hex(first!.pc!.image)).toBe(expected.pc!.runtime_kernel_va)
    expect(hex(first!.printed.kaslrOffset)).toBe(expected.kaslr_offset)
    expect(hex(first!.printed.linkBase)).toBe(expected.kimage_link_base)
    const { PS, FAR, HPFAR, PAR } = expected.printed!
    expect((['ps', 'far', 'hpfar', 'par'] as const).map((name) => first!.printed[name]!.toString(16))).toEqual([
      PS,
      FAR,
      HPFAR,
      PAR,
    ])
  })

  test('with the layout physical and linear addresses, of PC and of VCPU', () => {
    const { pc, vcpu, notes } = only(full)
    expect(notes.filter((note) => note.startsWith('the layout'))).toEqual([])
    expect([pc!.hyp, pc!.link, pc!.image, pc!.linear, pc!.phys].map(hex)).toEqual([
      expected.pc!.hyp_va,
      expected.pc!.link_va,
      expected.pc!.runtime_kernel_va,
      expected.pc!.linear_va,
      expected.pc!.phys,
    ])
    if (expected.vcpu !== undefined) {
      expect([vcpu!.value, vcpu!.phys, vcpu!.linear].map(hex)).toEqual([
        expected.vcpu.printed,
        expected.vcpu.phys,
        expected.vcpu.kernel_linear_va,
      ])
    }
  })

  test('names: of PC, of every line of the backtrace, and as printed', () => {
    for (const [i, one] of expected.hyp_panics.entries()) {
      const { pc, backtrace } = full[i]!
      expect(pc!.name).toMatch(new RegExp(`^${one.symbol.replace(/[+]/g, '\\+')}/0x`))
      if (pc!.printed !== undefined) expect(pc!.agrees).toBe(true)
      expect(backtrace.every(({ agrees, printed, name }) => agrees && printed === name)).toBe(true)
    }
    const lines = full.flatMap(({ backtrace }) => backtrace)
    expect(lines.map(({ link, name }) => ({ addr: hex(link), sym: name }))).toEqual(expected.printed_backtrace)
    if (expected.printed!.symbol !== undefined) {
      const { pc } = only(full)
      expect(pc!.returnName ?? pc!.name).toBe(expected.printed!.symbol)
    }
  })

  test('what ESR and FAR are', () => {
    const { esr, far, ps } = only(full)
    const classes: Record<string, string> = { BRK64: 'BRK64', 'DABT same EL': 'DABT_CUR', undefined: 'UNKNOWN' }
    expect(esr!.exceptionClass.name).toBe(classes[expected.esr_class!])
    expect(ps!.mode).toBe('EL2h')
    expect(hex(far!.value)).toBe(expected.far!.value)
    // A linear address has a place in memory; what else FAR holds has none.
    const linear = BigInt(boot.page_offset) - BigInt(boot.memstart_addr)
    if (expected.far!.kind === 'kernel linear map') {
      expect(far!.phys).toBe(BigInt.asUintN(64, far!.value - linear))
      expect(far!.hyp).toBe(BigInt.asUintN(64, far!.phys! - BigInt(expected.hyp_physvirt_offset)))
    } else {
      expect(far!.linear).toBeUndefined()
    }
  })
})

test.each(cases.filter(({ expected }) => expected.hyp_panics.length === 0))('$name is no hyp panic', ({ log }) => {
  expect(decodePanics(log)).toEqual([])
})

test('the logs are of all kinds that there are', () => {
  expect(hyp.length).toBeGreaterThanOrEqual(12)
  expect(cases.length - hyp.length).toBe(3)
})

describe('diagnoses', () => {
  const of = (name: string) => {
    const one = cases.find((c) => c.name === name)!
    const symbols = symbolsOf(one.expected.kernel_version)
    return decodePanics(one.log, { layout: layoutOf(one.boot), symbols: [symbols] })[0]!
  }
  const kinds = (name: string) => of(name).diagnoses.map(({ kind, certain }) => `${kind}${certain ? '' : '?'}`)

  test.each([
    ['panics/p61-brk800-vcpurun', ['brk']],
    ['panics/p61-udf-vcpurun', ['undefined-instruction']],
    ['panics/p61-prot-host-hypmem', ['brk', 'host-abort']],
    ['panics/p612-dabt-max-va52', []],
    ['panics/p73-brk800', ['brk']],
    ['panics/p73-stackoverflow2', ['stack-overflow']],
    ['panics/pc4k39-dabt-guestenter', ['pc-overwritten']],
    ['panics/pc4k39-prot-udf', ['undefined-instruction', 'pc-overwritten']],
    ['evidence/d61-kaslr', ['missing-kern-hyp-va']],
  ])('%s', (name, want) => {
    const got = kinds(name)
    for (const kind of want) expect(got).toContain(kind)
    expect(got.filter((kind) => !kind.startsWith('not-mapped')).length).toBe(want.length)
  })

  test('a missing kern_hyp_va names the address that was meant', () => {
    const { boot } = cases.find(({ name }) => name === 'evidence/d61-kaslr')!
    const { far, diagnoses } = of('evidence/d61-kaslr')
    const { va_mask, tag } = boot.observed
    const meant = (far!.value & BigInt(va_mask)) | BigInt(tag)
    expect(diagnoses[0]!.text).toContain(`the hyp address 0x${meant.toString(16)} was meant`)
  })

  test('a vmalloc address at EL2 is a missing kern_hyp_va too, but no linear address, and none was meant', () => {
    const { log } = cases.find(({ name }) => name === 'evidence/d61-kaslr')!
    const [panic] = decodePanics(log.replaceAll('FAR:ffff4e0ec3375418', 'FAR:ffff80000875b770'))
    expect(panic!.diagnoses).toMatchObject([{ kind: 'missing-kern-hyp-va' }])
    expect(panic!.far!.linear).toBeUndefined()
    expect(panic!.far!.phys).toBeUndefined()
  })

  test('a host abort on the memory of the hypervisor: FAR and HPFAR agree, by the log alone', () => {
    const { log } = cases.find(({ name }) => name === 'panics/p61-prot-host-hypmem')!
    const { far, hpfar, diagnoses } = decodePanics(log)[0]!
    expect(far).toMatchObject({ kind: 'host', phys: 0x5f603000n })
    expect(hpfar).toMatchObject({ page: 0x5f603000n, agrees: true })
    expect(diagnoses.map(({ kind }) => kind)).toContain('host-abort')
  })

  test('stale registers are said to be', () => {
    expect(of('panics/p61-udf-vcpurun').far!.kind).toBe('stale')
    expect(of('panics/p61-brk800-vcpurun').far!.kind).toBe('stale')
    // Both of the last abort of the host, which was handled long ago.
    expect(of('panics/pc4k39-prot-udf').hpfar).toMatchObject({ agrees: true, page: 0x408f1000n })
    expect(of('panics/pc4k39-prot-udf').far!.kind).toBe('stale')
  })

  test('a NULL pointer', () => {
    for (const name of ['hyppanic-4k39-null', 'hyppanic-7.3-null']) {
      const [panic] = decodePanics(fixture(`panics/${name}.txt`))
      expect(panic!.diagnoses).toMatchObject([{ kind: 'null-pointer', certain: false }])
      expect(panic!.diagnoses[0]!.text).toContain('read at offset 0x8')
    }
  })
})

describe('the public logs of docs/kernel-facts.md', () => {
  test('5.19-rc2 on QEMU: a host abort, addresses in brackets', () => {
    // As quoted there: the lines it gives, in the form of that version.
    const log = `kvm [171]: nVHE hyp panic at: [<ffff800008fa3750>] __kvm_nvhe_handle_host_mem_abort+0x270/0x290!
kvm [171]: Hyp Offset: 0xfffe8be807e00000
Kernel panic - not syncing: HYP panic:
PS:600003c9 PC:0000f418011a3750 ESR:00000000f2000800
FAR:ffff000439200000 HPFAR:0000000004792000 PAR:0000000000000000
VCPU:0000000000000000
Kernel Offset: 0x0 from 0xffff800008000000
PHYS_OFFSET: 0x40000000
`
    const [{ pc, far, hpfar }] = decodePanics(log) as [DecodedPanic]
    expect(hex(pc!.link)).toBe('0xffff800008fa3750')
    expect(far).toMatchObject({ kind: 'host', phys: 0x479200000n })
    expect(hpfar).toMatchObject({ page: 0x479200000n, agrees: true })
    const layout: HypLayout = { tagLsb: 35, tagVal: 0x1e83n, hypPhysvirtOffset: 0xffff0be840000000n }
    expect(decodePanics(log, { layout })[0]!.pc!.phys).toBe(0xf418011a3750n + 0xffff0be840000000n - 2n ** 64n)
  })

  test('5.12-rc3: no brackets', () => {
    const log = `[   41.2] kvm [402]: nVHE hyp panic at: ffff800010e505ac!
[   41.3] kvm [402]: Hyp Offset: 0xfffea6c58e1e0000
[   41.3] Kernel panic - not syncing: HYP panic:
[   41.3] PS:804003c9 PC:0000d93a82c705ac ESR:f2000800
`
    const [{ pc, esr, unknown }] = decodePanics(log) as [DecodedPanic]
    expect(hex(pc!.link)).toBe('0xffff800010e505ac')
    expect(esr!.brk!.immediate).toBe(0x800)
    expect(unknown[0]).toContain('FAR, HPFAR, PAR, VCPU: not in this part of the log')
  })
})

test('a pair that names a symbol of the same log', () => {
  const { log, expected } = hyp.find(({ name }) => name === 'evidence/d61-kaslr')!
  const { names, starts } = parseSymbols(fixture('evidence/d61-kaslr/kallsyms.txt.gz'), 'kallsyms')
  const kernel = starts[names.indexOf('vfs_read')]!
  const hypVa = BigInt.asUintN(64, kernel - BigInt(expected.kimage_voffset) - BigInt(expected.hyp_physvirt_offset))
  const lines = [
    ...log.split('\n').filter((line) => !/Hyp Offset|\bPC:/.test(line)),
    `NUMBER(kimage_voffset)=${expected.kimage_voffset}`,
    `0x${hypVa.toString(16)} vfs_read`,
  ]
  const decode = (text: string[]) => decodePanics(text.join('\n'))[0]!.layout.hypPhysvirtOffset
  // Without the symbol the pair says nothing.
  expect(decode(lines)).toBeUndefined()
  const symbol = `${kernel.toString(16)} T vfs_read`
  expect(decode([...lines, symbol])).toBe(BigInt(expected.hyp_physvirt_offset))
  expect(decode([symbol, ...lines])).toBe(BigInt(expected.hyp_physvirt_offset))
})
