import { describe, expect, test } from 'vitest'
import { type Recovery, recoverLayout } from '../../src/evidence/recover.ts'
import { bytesSource } from '../../src/source.ts'
import { fixture } from '../fixtures.ts'

const NAMES = ['c4k39', 'd61-kaslr', 'd612-max-nvhe-va52', 'd73-a57'] as const
const COMPRESSED = new Set(['core.elf', 'kcore.elf', 'text.bin', 'kallsyms.txt'])

const read = (name: string, file: string) => fixture(`evidence/${name}/${file}${COMPRESSED.has(file) ? '.gz' : ''}`)
const source = (name: string, file: string) => bytesSource(file, read(name, file))
const recover = (name: string, ...files: string[]): Recovery => recoverLayout(files.map((file) => source(name, file)))

interface Case {
  readonly page_size: number
  readonly config_va_bits: number
  readonly vabits_actual: number
  readonly hyp_va_bits_used: number
  readonly observed: Record<'tag_val' | 'va_mask' | 'hyp_physvirt_offset', string> & { readonly tag_lsb: number }
  readonly dram: readonly { readonly start: string; readonly end: string }[]
  readonly [address: string]: unknown
}

function truth(name: string): Record<string, unknown> {
  const boot = JSON.parse(read(name, 'case.json').toString()) as Case
  const expected = JSON.parse(read(name, 'expected.json').toString()) as Record<string, string>
  const at = (field: string) => BigInt(boot[field] as string)
  return {
    tagLsb: boot.observed.tag_lsb,
    tagVal: BigInt(boot.observed.tag_val),
    vaMask: BigInt(boot.observed.va_mask),
    pageSize: boot.page_size,
    vaBits: boot.config_va_bits,
    vaBitsActual: boot.vabits_actual,
    hypVaBits: boot.hyp_va_bits_used,
    pageOffset: at('page_offset'),
    physOffset: at('memstart_addr'),
    dram: boot.dram.map(({ start, end }) => ({ start: BigInt(start), end: BigInt(end) })),
    idmap: at('idmap_addr'),
    image: { start: at('text_va'), end: at('end_va') },
    kimageVoffset: at('kimage_voffset'),
    kaslrOffset: BigInt(expected.kaslr_offset!),
    hypPhysvirtOffset: BigInt(boot.observed.hyp_physvirt_offset),
  }
}

const HEADERS = [
  'kaslrOffset',
  'kimageVoffset',
  'hypPhysvirtOffset',
  'hypVaBits',
  'pageOffset',
  'pageSize',
  'physOffset',
]
const TAG = ['tagLsb', 'tagVal', 'vaMask']

describe.each(NAMES)('%s', (name) => {
  const all = truth(name)

  /** No conflict, nothing recovered that is not so, and at least these fields. */
  function expectTrue(recovery: Recovery, fields: readonly string[]): void {
    expect(recovery.conflicts).toEqual([])
    const { mode: _, generation: __, ...layout } = recovery.layout
    for (const [field, value] of Object.entries(layout)) expect([field, value]).toEqual([field, all[field]])
    for (const field of fields) expect(recovery.layout).toHaveProperty(field)
    for (const field of fields) expect(recovery.provenance).toHaveProperty(field)
  }

  test('a cut of text: mask and tag, with the places of the sequences', () => {
    const recovery = recover(name, 'text.bin')
    expectTrue(recovery, TAG)
    const { sequences } = JSON.parse(read(name, 'text.json').toString()) as { sequences: { offset: number }[] }
    const { where, rule } = recovery.provenance.tagVal![0]!
    expect(where).toBe(`offset 0x${sequences[0]!.offset.toString(16)} and ${sequences.length - 1} more`)
    expect(rule).toContain(`${sequences.length} that agree`)
  })

  test.each(['core.elf', 'kcore.elf'])('%s alone', (file) => {
    const recovery = recover(name, file)
    expectTrue(recovery, [...TAG, ...HEADERS, 'vaBits', 'vaBitsActual'])
    // Cut to a few pages: what its headers list is not the machine's memory, and is not taken for it.
    expect(recovery.layout.dram).toBeUndefined()
    expect(recovery.unknown.dram).toMatch(/iomem/)
  })

  test.each(['core.elf', 'kcore.elf'])('%s with symbols reads the kernel’s own variables', (file) => {
    const recovery = recover(name, file, 'kallsyms.txt')
    expectTrue(recovery, [...TAG, ...HEADERS, 'idmap'])
    // Debian's 6.1 has no data symbols in kallsyms; the others were built with KALLSYMS_ALL.
    const rules = recovery.provenance.tagVal!.map(({ rule }) => rule).join('\n')
    if (name !== 'd61-kaslr') expect(rules).toContain("the kernel's tag_val, by the symbols of kallsyms.txt")
  })

  test.each([
    ['alone', []],
    ['with symbols', ['kallsyms.txt']],
  ])('kcore.elf without VMCOREINFO, %s: the image is not taken for the linear map', (_, others) => {
    const core = Buffer.from(read(name, 'kcore.elf'))
    const view = new DataView(core.buffer, core.byteOffset, core.length)
    for (let i = 0; i < view.getUint16(56, true); i++) {
      if (view.getUint32(64 + 56 * i, true) === 4) view.setUint32(64 + 56 * i, 0, true)
    }
    const files = [bytesSource('kcore.elf', core), ...others.map((file) => source(name, file))]
    expectTrue(recoverLayout(files), [...TAG, 'kimageVoffset'])
  })

  test('tag, PHYS_OFFSET and DRAM: hyp_physvirt_offset, whatever PAGE_OFFSET is', () => {
    const { tagLsb, tagVal, physOffset, dram } = all
    const { layout, provenance } = recoverLayout([], { given: { tagLsb, tagVal, physOffset, dram } as object })
    expect(layout.hypPhysvirtOffset).toBe(all.hypPhysvirtOffset)
    expect(provenance.hypPhysvirtOffset).toHaveLength(1)
  })

  test('a panic, /proc/iomem and /proc/kallsyms: everything', () => {
    const recovery = recover(name, 'panic.txt', 'iomem.txt', 'kallsyms.txt')
    expectTrue(recovery, Object.keys(all))
    expect(recovery.candidates).toEqual([])
  })

  test('a panic alone: the tags that fit, the observed one among them', () => {
    const recovery = recover(name, 'panic.txt')
    expectTrue(recovery, ['kaslrOffset', 'physOffset'])
    expect(recovery.candidates.map(({ tagLsb, tagVal }) => [tagLsb, tagVal])).toContainEqual([all.tagLsb, all.tagVal])
  })

  test.each(['pairs.txt', 'pairs-linear.txt'])('three lines of %s', (file) => {
    const lines = read(name, file).toString().trim().split('\n')
    for (let from = 0; from + 3 <= lines.length; from += 3) {
      const recovery = recoverLayout([bytesSource('-', lines.slice(from, from + 3).join('\n'))])
      expectTrue(recovery, [])
      expect(recovery.candidates.map(({ tagLsb, tagVal }) => [tagLsb, tagVal])).toContainEqual([all.tagLsb, all.tagVal])
      expect(recovery.unknown.tagLsb).toMatch(/^tag_lsb is \d+ to \d+: a pair .* decides/)
    }
  })

  test('the ends of DRAM as pairs decide', () => {
    const [boot] = [JSON.parse(read(name, 'case.json').toString()) as Case]
    const last = BigInt(boot.high_memory as string) - 8n
    const first = BigInt(boot.phys_to_virt_dram_start as string)
    const { tag_lsb, tag_val, va_mask } = boot.observed
    const hyp = (va: bigint) => (va & BigInt(va_mask)) | (BigInt(tag_val) << BigInt(tag_lsb))
    const text = [first, last].map((va) => `${va.toString(16)} -> ${hyp(va).toString(16).padStart(16, '0')}`).join('\n')
    const { candidates, layout } = recoverLayout([bytesSource('-', text)])
    const lsbs = layout.tagLsb === undefined ? candidates.map(({ tagLsb }) => tagLsb) : [layout.tagLsb]
    expect(Math.min(...lsbs.map(Number))).toBe(tag_lsb)
  })

  test('everything together agrees', () => {
    const files = [
      'text.bin',
      'core.elf',
      'kcore.elf',
      'panic.txt',
      'iomem.txt',
      'kallsyms.txt',
      'vmcoreinfo.txt',
      'dmesg.txt',
    ]
    const recovery = recover(name, ...files, 'pairs.txt', 'pairs-linear.txt')
    expectTrue(recovery, [...Object.keys(all), 'mode', 'generation'])
    expect(recovery.unknown).toEqual({})
  })

  test('in one paste too, symbols and all', () => {
    const text = ['panic.txt', 'iomem.txt', 'kallsyms.txt', 'vmcoreinfo.txt', 'pairs.txt'].map((file) =>
      read(name, file).toString(),
    )
    const recovery = recoverLayout([bytesSource('-', text.join('\n'))])
    expectTrue(recovery, Object.keys(all))
  })

  test.each(NAMES.filter((other) => other !== name))('text of %s disagrees: both sides, and a preference', (other) => {
    const sources = [bytesSource('mine', read(name, 'text.bin')), bytesSource('theirs', read(other, 'text.bin'))]
    const { conflicts, layout, candidates } = recoverLayout(sources)
    const [conflict] = conflicts.filter(({ field }) => field === 'tagVal')
    expect(conflict!.sides.map(({ value }) => value)).toEqual([all.tagVal, truth(other).tagVal])
    expect(conflict!.sides.map(({ provenance }) => provenance[0]!.file)).toEqual(['mine', 'theirs'])
    expect(layout).not.toHaveProperty('tagVal')
    expect(candidates).toEqual([])
    expect(recoverLayout(sources).disputed).toContain('tagVal')
    expect(recoverLayout(sources).unknown.tagVal).toBe('the evidence disagrees')
    const preferred = recoverLayout(sources, { prefer: ['mine'] })
    expectTrue(preferred, TAG)
    expect(preferred.notes.map(({ text }) => text).join()).toContain('overruled by mine')
    const given = recoverLayout(sources, { given: { tagLsb: 33, tagVal: 0x24n } })
    expect(given.conflicts).toEqual([])
    expect(given.disputed).toEqual([])
    expect(given.layout).toMatchObject({ tagLsb: 33, tagVal: 0x24n })
    expect(given.provenance.tagVal).toEqual([{ file: 'given fields', where: 'tagVal', rule: 'given' }])
  })
})

test('7.3 unmaps the linear alias of its data: zeros read there are no evidence', () => {
  const core = read('d73-a57', 'kcore.elf')
  // Without the image's segments only the linear alias is left.
  const view = new DataView(core.buffer, core.byteOffset, core.length)
  for (let i = 0; i < view.getUint16(56, true); i++) {
    const header = 64 + 56 * i
    if (view.getBigUint64(header + 16, true) >> 40n === 0xffffcfn) view.setUint32(header, 0, true)
  }
  const kallsyms = read('d73-a57', 'kallsyms.txt').toString()
  const few = kallsyms.split('\n').filter((line) => / (tag_val|_text|_stext)$/.test(line))
  for (const symbols of [kallsyms, few.join('\n')]) {
    const recovery = recoverLayout([bytesSource('kcore', core), bytesSource('kallsyms', symbols)])
    expect(recovery.conflicts).toEqual([])
    expect(recovery.layout.tagVal).toBe(0x16403n)
    expect(recovery.provenance.tagVal!.every(({ rule }) => !rule.startsWith("the kernel's"))).toBe(true)
  }
})

test('variables that were not set yet, an all-zero va_mask among them, are no evidence', () => {
  const core = new Uint8Array(read('d73-a57', 'core.elf'))
  const symbols = read('d73-a57', 'kallsyms.txt').toString()
  const phys = (name: string) =>
    BigInt(`0x${new RegExp(`^(\\w+) . ${name}$`, 'm').exec(symbols)![1]}`) - 0xffffcf5543800000n
  const view = new DataView(core.buffer)
  for (let i = 0; i < view.getUint16(56, true); i++) {
    const header = Number(view.getBigUint64(32, true)) + 56 * i
    const start = view.getBigUint64(header + 24, true)
    const into = phys('va_mask') - start
    if (into < 0n || into >= view.getBigUint64(header + 32, true)) continue
    const at = Number(view.getBigUint64(header + 8, true) + into)
    core.fill(0, at, at + 24)
  }
  const recovery = recoverLayout([bytesSource('core', core), source('d73-a57', 'kallsyms.txt')])
  expect(recovery.conflicts).toEqual([])
  expect(recovery.layout.tagVal).toBe(0x16403n)
})

test('nothing supports itself', () => {
  const { provenance } = recover('d73-a57', 'vmcoreinfo.txt')
  for (const field of ['physOffset', 'kaslrOffset', 'kimageVoffset'] as const) {
    expect([field, provenance[field]!.length]).toEqual([field, 1])
  }
})

test('two kernels’ text in one file: both', () => {
  const both = Buffer.concat([read('c4k39', 'text.bin'), read('d73-a57', 'text.bin')])
  const { conflicts, candidates, layout, notes } = recoverLayout([bytesSource('memory', both)])
  expect(conflicts.map(({ field }) => field)).toEqual(['tagVal'])
  expect(layout).not.toHaveProperty('tagVal')
  expect(candidates.map(({ tagLsb, tagVal }) => [tagLsb, tagVal])).toEqual([
    [31, 0x16403n],
    [31, 0xdcn],
  ])
  expect(notes.map(({ text }) => text)).toContain('holds patched text of 2 kernels or boots')
})

describe('KASLR moves the image of 48 bits to where one of 47 bits can be', () => {
  const kallsyms = read('d73-a57', 'kallsyms.txt').toString()
  const trace = fixture('traces/ftrace-6.1.kallsyms.gz').toString()
  // Without the page tables nothing tells the page size, so nothing tells 47 from 48.
  const bare = (text: string) => text.replace(/^.* (?:reserved|swapper)_pg_dir$/gm, '')
  test.each([
    ['d73-a57, with iomem and text', [kallsyms, read('d73-a57', 'iomem.txt')], 48],
    ['ftrace-6.1', [trace], 48],
    ['d73-a57, page size unknown', [bare(kallsyms)], undefined],
    ['ftrace-6.1, page size unknown', [bare(trace)], undefined],
  ] as const)('%s', (_, files, bits) => {
    const text = source('d73-a57', 'text.bin')
    const { layout, conflicts } = recoverLayout([...files.map((file, i) => bytesSource(`file${i}`, file)), text])
    expect(conflicts).toEqual([])
    expect([layout.vaBitsActual, layout.pageSize]).toEqual([bits, bits && 4096])
  })
})

describe('a log of a host with VHE, and memory with a tag', () => {
  const log = bytesSource('log', '[    0.1] kvm [1]: VHE mode initialized successfully\n')
  const text = source('d61-kaslr', 'text.bin')
  test('disagree on the mode', () => {
    const { conflicts, layout } = recoverLayout([log, text])
    expect(conflicts.map(({ field }) => field)).toEqual(['mode'])
    expect(conflicts[0]!.sides.map(({ provenance }) => provenance[0]!.file)).toEqual(['log', 'text.bin'])
    expect(layout).not.toHaveProperty('mode')
  })
  test.each([{ given: { mode: 'vhe' } }, { prefer: ['log'] }] as const)('with %o the tag is overruled', (options) => {
    const { conflicts, layout, notes } = recoverLayout([log, text], options)
    expect(conflicts).toEqual([])
    expect(layout).toEqual({ mode: 'vhe' })
    expect(notes.map(({ text }) => text).join()).toMatch(/^the tag of offset .* is overruled by mode vhe of/)
  })
  test('with the memory preferred the mode is', () => {
    const { conflicts, layout, notes } = recoverLayout([log, text], { prefer: ['text.bin'] })
    expect(conflicts).toEqual([])
    expect(layout).toMatchObject({ tagLsb: 29 })
    expect(layout).not.toHaveProperty('mode')
    expect(notes.map(({ text }) => text).join()).toMatch(/mode of line 1 .* is overruled by the tag of text.bin/)
  })
})
