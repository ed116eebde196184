import { describe, expect, test } from 'vitest'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { bytesSource } from '../../src/source.ts'
import { parseSymbolLine } from '../../src/symbols/line.ts'

const recover = (...texts: string[]) => recoverLayout(texts.map((text, i) => bytesSource(`file${i}`, text)))
const notes = (...texts: string[]) =>
  recover(...texts)
    .notes.map(({ text }) => text)
    .join('\n')

describe('a debugger’s words', () => {
  test.each([
    ['assignments', 'tag_lsb = 35, tag_val = 0x1e83'],
    ['gdb', "(gdb) p tag_lsb\n$1 = 35 '#'\n(gdb) p/x tag_val\n$2 = 0x1e83"],
    ['crash', "crash> p tag_lsb\ntag_lsb = $3 = 35 '#'\ncrash> p tag_val\ntag_val = $4 = 7811"],
    ['drgn', '>>> prog[\'tag_lsb\']\n(u8)35\n>>> prog["tag_val"]\n(u64)7811'],
    ['x/gx', '0xffff800009e1ab38 <tag_lsb>:\t0x23\n0xffff800009e1ab48 <tag_val>:\t0x0000000000001e83'],
    ['a mask', 'va_mask: 0x7ffffffff\ntag_val: 7811'],
  ])('%s', (_, text) => {
    const { layout, conflicts } = recover(text)
    expect(conflicts).toEqual([])
    expect(layout).toMatchObject({ tagLsb: 35, tagVal: 0x1e83n, vaMask: 0x7ffffffffn })
  })
  test('values without names', () => expect(notes('$1 = 35\n$2 = 0x1e83')).toMatch(/without names/))
  test('mask and tag_lsb disagree', () => {
    const { conflicts } = recover('va_mask = 0xffff\ntag_lsb = 35\ntag_val = 1')
    expect(conflicts.map(({ field }) => field).sort()).toEqual(['tagLsb', 'vaMask'])
  })
  test('an unset mask is no evidence', () => {
    expect(recover('va_mask = 0').layout).toEqual({})
    expect(notes('va_mask = 0')).toMatch(/not set yet/)
  })
})

describe('/proc/iomem', () => {
  test('touching banks join, reserved neighbours count, hotplugged memory does not', () => {
    const { layout } = recover(
      [
        '40000000-5fffffff : System RAM',
        '60000000-6fffffff : System RAM',
        '  60000000-60000fff : reserved',
        '70000000-700fffff : reserved',
        '90000000-900fffff : reserved',
        '880000000-8bfffffff : System RAM',
        '1080000000-10bfffffff : System RAM (kmem)',
      ].join('\n'),
    )
    expect(layout.dram).toEqual([
      { start: 0x40000000n, end: 0x70100000n },
      { start: 0x880000000n, end: 0x8c0000000n },
    ])
    expect(layout.pageSize).toBe(4096)
  })
  test('read without privilege', () => {
    const text = '00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code'
    expect(recover(text).layout).toEqual({})
    expect(notes(text)).toMatch(/all addresses are 0.*root/)
  })
})

describe('symbols', () => {
  const runtime = 'ffffcde94fc00000 T _text\nffffcde94fc10000 T _stext\nffffcde951c10000 B _end'
  test('kallsyms', () =>
    expect(recover(runtime).layout.image).toEqual({ start: 0xffffcde94fc00000n, end: 0xffffcde951c10000n }))
  test('kallsyms and System.map give the KASLR offset', () => {
    const map = 'ffff800008000000 T _text\nffff800008010000 T _stext\nffff80000a010000 B _end'
    expect(recover(runtime, map).layout.kaslrOffset).toBe(0xffffcde94fc00000n - 0xffff800008000000n)
    expect(notes(map)).toMatch(/link-time/)
    expect(recover(map).layout.image).toBeUndefined()
    const { layout } = recover(map, 'KERNELOFFSET=4de947c00000')
    expect(layout.image).toEqual({ start: 0xffffcde94fc00000n, end: 0xffffcde951c10000n })
  })
  test('all zero', () => {
    const text = '0000000000000000 T _text\n0000000000000000 T _stext\n0000000000000000 t x\t[kvm]'
    expect(notes(text)).toMatch(/kptr_restrict/)
    expect(recover(text).layout).toEqual({})
  })
  test('lines', () => {
    expect(parseSymbolLine('ffff800008010000 t foo.isra.0\t[mod]')).toEqual({
      address: 0xffff800008010000n,
      type: 't',
      name: 'foo.isra.0',
      module: 'mod',
    })
    for (const line of ['                 U printk', 'ffff800008010000 foo', 'ffff800008010000  t foo', '']) {
      expect(parseSymbolLine(line)).toBeUndefined()
    }
  })
})

describe('pairs', () => {
  const pairs = [
    [0xffff000001eed000n, 0xd93a81eed000n],
    [0xffff000041eed000n, 0xd93ac1eed000n],
  ] as const
  const tags = ({ candidates }: Pick<ReturnType<typeof recover>, 'candidates'>) =>
    candidates.map(({ tagLsb, tagVal }) => [tagLsb, tagVal])

  test('exactly one fits: L is above the bits that differ and below those that disagree', () => {
    // Hyp addresses differ in bit 30; hyp and kernel address agree below bit 31 and not in it.
    const { layout, candidates } = recover(pairs.map(([k, h]) => `0x${k.toString(16)} 0x${h.toString(16)}`).join('\n'))
    expect(layout).toMatchObject({ tagLsb: 31, tagVal: 0xd93a80000000n >> 31n })
    expect(candidates).toEqual([])
  })
  test('one pair: an interval, and what would decide', () => {
    const { layout, candidates, unknown } = recover('0xffff000001eed000 0xd93a81eed000')
    expect(layout.tagLsb).toBeUndefined()
    expect(tags({ candidates })).toEqual(
      [25, 26, 27, 28, 29, 30, 31].map((lsb) => [lsb, 0xd93a81eed000n >> BigInt(lsb)]),
    )
    expect(unknown.tagVal).toMatch(/tag_lsb is 25 to 31: a pair of a linear address that differs from these in bit 30/)
  })
  test.each([
    [' -> ', '', ''],
    [',', '', ''],
    ['\t', '', ' __kvm_nvhe_x'],
    [' => ', '(', ')'],
    [' maps to hyp ', 'kernel ', ''],
  ])('separator %j', (separator, before, after) => {
    const lines = pairs.map(([k, h]) => `${before}${k.toString(16)}${separator}0x${h.toString(16)}${after}`)
    expect(recover(lines.join('\n')).layout.tagLsb).toBe(31)
    const reversed = pairs.map(([k, h]) => `${before}0x${h.toString(16)}${separator}${k.toString(16)}${after}`)
    expect(recover(reversed.join('\n')).layout.tagLsb).toBe(31)
  })
  test('pairs that no layout fits', () => {
    const { conflicts } = recover('ffff000001eed000 0000d93a81eed000\nffff000001eee000 0000d93a81eed000')
    expect(conflicts.map(({ field }) => field)).toContain('tagVal')
    expect(conflicts[0]!.sides.length).toBeGreaterThan(1)
  })
  const facts = (release: string) =>
    `OSRELEASE=${release}\nPAGESIZE=4096\nNUMBER(VA_BITS)=39\nNUMBER(TCR_EL1_T1SZ)=0x19`
  test('the region bit is not the idmap’s', () => {
    // With the idmap in the lower half of 39 bits, hyp addresses have bit 38.
    const [low, high] = ['IDMAP page: 40eed000', 'IDMAP page: 4040eed000']
    expect(recover(facts('6.1'), low!, 'ffffff8001eed000 0000000d81eed000').conflicts).toHaveLength(1)
    expect(recover(facts('6.1'), high!, 'ffffff8001eed000 0000000d81eed000').conflicts).toEqual([])
    expect(recover(facts('6.1'), low!, 'ffffff8001eed000 0000004d81eed000').conflicts).toEqual([])
  })
  test('linear addresses of 39 bits differ in 38, though 7.0 has 48 bits of hyp VA', () => {
    const panic = 'nVHE hyp panic at: [<ffffffc0812c33b4>] __kvm_nvhe_x+0x24/0x718!\nHyp Offset: 0xffff4a1affe00000'
    const { candidates } = recover(facts('7.3'), panic)
    expect(candidates.at(-1)!.tagLsb).toBe(38)
    expect(candidates.at(-1)!.hypVaBits).toBe(48)
  })
  test('a tag known otherwise is checked against pairs', () => {
    const { conflicts } = recover('tag_lsb = 31\ntag_val = 0x1b274', 'ffff000001eed000 0000d93a81eed000')
    expect(conflicts.map(({ field }) => field)).toEqual(['tagVal'])
  })
})

describe('logs', () => {
  test('of several boots the last with a hyp panic is used', () => {
    const boot = (version: string, more: string) => `Linux version ${version} (gcc)\n${more}\n`
    const panic = 'kvm [1]: nVHE hyp panic at: [<ffff800010e505ac>] __kvm_nvhe_x+0x4/0x10!\nPHYS_OFFSET: 0x80000000'
    const { layout, notes } = recover(
      boot('6.1.0', 'PHYS_OFFSET: 0x40000000') + boot('6.6.1', panic) + boot('7.0.0', ''),
    )
    expect(layout).toMatchObject({ generation: '5.15', physOffset: 0x80000000n })
    expect(notes[0]!.text).toMatch(/holds 3 boots/)
  })
  test.each([
    ['Hyp mode initialized successfully', 'nvhe'],
    ['Hyp nVHE mode initialized successfully', 'nvhe'],
    ['Hyp hVHE mode initialized successfully', 'hvhe'],
    ['Protected nVHE mode initialized successfully', 'protected'],
    ['Protected hVHE mode initialized successfully', 'protected'],
    ['VHE mode initialized successfully', 'vhe'],
    ['VHE+NV2 mode initialized successfully', 'vhe'],
  ])('%s', (banner, mode) => expect(recover(`[    1.4] kvm [1]: ${banner}`).layout.mode).toBe(mode))
  test.each([
    ['Linux version 4.18.0-305.el8.aarch64 (mock)', '5.6'],
    ['Linux version 5.4.0 (x)', '5.4'],
    ['CPU: 3 UID: 0 PID: 9 Comm: a b Tainted: G        W  O       6.12.1+ #4', '5.15'],
  ])('%s', (line, generation) => expect(recover(line).layout.generation).toBe(generation))
  test('an ordinary text is not evidence', () => {
    const { files, layout } = recover('Dear all,\nthe hypervisor is at 0x1234.\n')
    expect(files[0]!.kinds).toEqual(['unrecognised'])
    expect(layout).toEqual({})
  })
})

test('dumps that are not ELF say what to do', () => {
  expect(notes(`KDUMP   ${'\0'.repeat(100)}`)).toMatch(/makedumpfile -E/)
  expect(notes(`makedumpfile${'\0'.repeat(100)}`)).toMatch(/makedumpfile -R/)
})

test('a layout file is evidence, and a broken one says so', () => {
  const { layout } = recover('{"format":"hypva-layout/1","tagLsb":31,"tagVal":"0x16403"}')
  expect(layout).toMatchObject({ tagLsb: 31, tagVal: 0x16403n })
})

test('fields that cannot be together: where each comes from', () => {
  const { conflicts } = recover('tag_lsb = 35\ntag_val = 0x1e83', 'NUMBER(VA_BITS)=39\nOSRELEASE=6.1.0')
  expect(conflicts).toHaveLength(1)
  const [{ sides }] = conflicts as [(typeof conflicts)[0]]
  expect(sides).toHaveLength(1)
  expect(sides[0]!.provenance.map(({ file }) => file)).toContain('file0')
  for (const { rule } of sides[0]!.provenance) expect(rule).toMatch(/^\w+: /)
})
