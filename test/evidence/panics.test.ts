import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { bytesSource } from '../../src/source.ts'
import { fixture } from '../fixtures.ts'

const M64 = (1n << 64n) - 1n

interface Expected {
  readonly hyp_offset: string
  readonly kaslr_offset: string
  readonly kimage_voffset: string
  readonly tag_lsb: number
  readonly tag_val: string
  readonly hyp_physvirt_offset: string
  readonly hyp_panics: readonly unknown[]
}

const names = readdirSync(join(import.meta.dirname, '../fixtures/panics'))
  .filter((file) => file.endsWith('.expected.json'))
  .map((file) => file.replace('.expected.json', ''))

describe.each(names)('%s', (name) => {
  const expected = JSON.parse(fixture(`panics/${name}.expected.json`).toString()) as Expected
  const log = fixture(`panics/${name}.txt`).toString()
  const voffset = `NUMBER(kimage_voffset)=${expected.kimage_voffset}`

  test('with kimage_voffset: hyp_physvirt_offset, and the tag among those that fit', () => {
    const recovery = recoverLayout([bytesSource('log', log), bytesSource('vmcoreinfo', voffset)])
    expect(recovery.conflicts).toEqual([])
    const { layout, candidates } = recovery
    if (layout.kaslrOffset !== undefined) expect(layout.kaslrOffset).toBe(BigInt(expected.kaslr_offset))
    if (expected.hyp_panics.length === 0) {
      expect(layout.hypPhysvirtOffset).toBeUndefined()
      expect(candidates).toEqual([])
    } else if (log.includes('Hyp Offset')) {
      expect(layout.hypPhysvirtOffset).toBe(BigInt(expected.hyp_physvirt_offset))
      const tags = candidates.map(({ tagLsb, tagVal }) => [tagLsb, tagVal])
      expect(tags).toContainEqual([expected.tag_lsb, BigInt(expected.tag_val)])
    }
  })

  test.each([
    ['CRLF', (text: string) => text.replaceAll('\n', '\r\n')],
    ['a journal', (text: string) => text.replace(/^/gm, 'Nov 23 00:01:02 host kernel: ')],
    ['caller ids', (text: string) => text.replace(/^\[ *(\d+\.\d+)\]/gm, '[    $1][  T426]')],
    ['colours', (text: string) => text.replace(/^(\[.*?\])/gm, '\u001b[32m$1\u001b[0m')],
    ['no prefix', (text: string) => text.replace(/^\[ *\d+\.\d+\] ?/gm, '')],
  ])('under %s', (_, change) => {
    const [plain, changed] = [log, change(log)].map((text) => recoverLayout([bytesSource('log', text)]))
    expect(changed!.layout).toEqual(plain!.layout)
    expect(changed!.candidates).toEqual(plain!.candidates)
  })
})

test('a public log of 5.19-rc2: hyp_physvirt_offset and L=35, tag_val=0x1e83', () => {
  const log = [
    'kvm [377]: nVHE hyp BUG at: [<ffff800008fa3750>] __kvm_nvhe_handle_host_mem_abort+0x270/0x290!',
    'kvm [377]: Hyp Offset: 0xfffe8be807e00000',
    'Kernel panic - not syncing: HYP panic:',
    'PS:604003c9 PC:0000f418011a3750 ESR:00000000f2000800',
  ].join('\n')
  const voffset = (0xfffe8be807e00000n - 0xffff0be840000000n) & M64
  const { candidates, layout } = recoverLayout([
    bytesSource('log', log),
    bytesSource('gdb', `kimage_voffset = 0x${voffset.toString(16)}`),
    bytesSource('vmcoreinfo', 'KERNELOFFSET=0\nNUMBER(PHYS_OFFSET)=0x40000000\nNUMBER(VA_BITS)=48'),
  ])
  expect(layout.hypPhysvirtOffset).toBe(0xffff0be840000000n)
  expect(candidates.map(({ tagLsb, tagVal }) => [tagLsb, tagVal])).toContainEqual([35, 0x1e83n])
})

test('a public log of 5.12-rc3: the tag keeps the high bits of PC', () => {
  const log = [
    'kvm [226]: nVHE hyp panic at: [<ffff800010e505ac>] __kvm_nvhe_hyp_panic+0x4/0x10!',
    'kvm [226]: Hyp Offset: 0xfffea6c58e1e0000',
    'PS:400003c9 PC:0000d93a82c705ac ESR:f2000800',
  ].join('\n')
  const { candidates } = recoverLayout([bytesSource('log', log)])
  expect(candidates.length).toBeGreaterThan(10)
  for (const { tagLsb, tagVal } of candidates) expect(tagVal).toBe(0xd93a82c705acn >> BigInt(tagLsb!))
})

test('the LX2160A’s debug lines: HYP VA range 4000000000–62ffffffff, idmap 81a24000', () => {
  const log = 'kvm [1]: IDMAP page: 81a24000\nkvm [1]: HYP VA range: 4000000000:62ffffffff\n'
  const vmcoreinfo = 'NUMBER(VA_BITS)=39\nPAGESIZE=4096\nOSRELEASE=5.6.0\n'
  const { layout, conflicts } = recoverLayout([bytesSource('log', log), bytesSource('vmcoreinfo', vmcoreinfo)])
  expect(conflicts).toEqual([])
  expect(layout).toMatchObject({ idmap: 0x81a24000n, tagLsb: 38, tagVal: 1n })
})
