import { describe, expect, test } from 'vitest'
import { type RecoverOptions, type Recovery, recoverLayout } from '../../src/evidence/recover.ts'
import type { HypLayout } from '../../src/layout/types.ts'
import { bytesSource } from '../../src/source.ts'
import { fixture } from '../fixtures.ts'

const read = (name: string) => fixture(`evidence/c4k39/${name}`).toString()
const panic = read('panic.txt')
const iomem = read('iomem.txt')
const kallsyms = [
  'ffffffdb2b000000 T _text',
  'ffffffdb2b010000 T _stext',
  'ffffffdb2b20f000 T __hyp_idmap_text_start',
  'ffffffdb2b510000 B _end',
].join('\n')

function recover(
  change: Partial<Record<'panic' | 'iomem' | 'kallsyms', string>>,
  options: RecoverOptions = {},
): Recovery {
  const texts = { panic, iomem, kallsyms, ...change }
  const files = Object.entries(texts).map(([name, text]) => bytesSource(`${name}.txt`, text))
  return recoverLayout(files, options)
}

/** The lines of a text, with one changed; there is exactly one to change. */
function changed(text: string, from: string, to: string): string {
  expect(text.split(from)).toHaveLength(2)
  return text.replace(from, to)
}

const badIdmap = { kallsyms: changed(kallsyms, 'ffffffdb2b20f000 T', 'ffffdfdb2b20f000 T') }
const badPhysOffset = { panic: changed(panic, 'PHYS_OFFSET: 0x40000000', 'PHYS_OFFSET: 0xc0000000') }

test('what the boot left is possible', () => {
  const { conflicts, layout } = recover({})
  expect(conflicts).toEqual([])
  expect(layout).toMatchObject({ idmap: 0x4040f000n, physOffset: 0x40000000n, kimageVoffset: 0xffffffdaeae00000n })
})

describe('an idmap page where there can be no memory', () => {
  test('is a conflict with both sides, and not in the layout; the rest is', () => {
    const { conflicts, layout, unknown } = recover(badIdmap)
    expect(conflicts).toEqual([
      {
        field: 'idmap',
        sides: [
          {
            value: 0xffffe0004040f000n,
            provenance: [expect.objectContaining({ rule: expect.stringContaining('__hyp_idmap_text_start') })],
          },
          {
            value: 'must lie in DRAM, 0x40000000–0xbfffffff',
            provenance: [{ file: 'iomem.txt', where: 'line 7', rule: 'System RAM' }],
          },
        ],
      },
    ])
    expect(layout).not.toHaveProperty('idmap')
    expect(unknown.idmap).toMatch(/disagrees/)
    expect(layout).toMatchObject({ tagLsb: 31, tagVal: 0xdcn, dram: [{ start: 0x40000000n, end: 0xc0000000n }] })
  })

  test('a value said outright settles it', () => {
    const { conflicts, layout } = recover(badIdmap, { given: { idmap: 0x4040f000n } })
    expect([conflicts, layout.idmap]).toEqual([[], 0x4040f000n])
  })

  test('with the other side preferred it gives way, and a note says so', () => {
    const { conflicts, layout, notes } = recover(badIdmap, { prefer: ['iomem.txt'] })
    expect([conflicts, layout.idmap, layout.tagLsb]).toEqual([[], undefined, 31])
    expect(notes.map(({ text }) => text).join('\n')).toMatch(/^idmap of .* is overruled by dram of iomem\.txt$/m)
  })

  test('without DRAM it is outside the image; with neither no physical address', () => {
    const given: Partial<HypLayout> = {
      idmap: 0x40700000n,
      image: { start: 0xffffffdb2b000000n, end: 0xffffffdb2b510000n },
      kimageVoffset: 0xffffffdaeae00000n,
    }
    const sides = (fields: Partial<HypLayout>) =>
      recoverLayout([], { given: fields }).conflicts.map(({ field, sides }) => [field, sides.map(({ value }) => value)])
    expect(sides(given)).toEqual([])
    expect(sides({ ...given, idmap: 0x40710000n })).toEqual([
      ['idmap', [0x40710000n, 'must lie in the kernel image, which kimageVoffset puts at 0x40200000–0x4070ffff']],
    ])
    expect(sides({ idmap: 2n ** 52n })).toEqual([
      ['idmap', [2n ** 52n, 'must be a physical address, of at most 52 bits']],
    ])
    expect(sides({ idmap: 2n ** 52n - 4096n })).toEqual([])
  })
})

describe('PHYS_OFFSET above DRAM', () => {
  test('is a conflict, and neither side is known', () => {
    const { conflicts, layout } = recover(badPhysOffset)
    expect(conflicts).toEqual([
      {
        field: 'physOffset',
        sides: [
          {
            value: 0xc0000000n,
            provenance: [{ file: 'panic.txt', where: 'line 35', rule: 'PHYS_OFFSET of the panic' }],
          },
          {
            value: 'must be at most 0x40000000, where DRAM begins',
            provenance: [{ file: 'iomem.txt', where: 'line 7', rule: 'System RAM' }],
          },
        ],
      },
    ])
    // Nor what rests on either, and no tag without its mask.
    for (const field of ['physOffset', 'dram', 'tagLsb', 'tagVal', 'vaMask']) expect(layout).not.toHaveProperty(field)
    expect(layout).toMatchObject({ pageSize: 4096, kaslrOffset: 0x1b23000000n })
  })

  test.each([
    ['panic.txt', 'physOffset', 'dram'],
    ['iomem.txt', 'dram', 'physOffset'],
  ] as const)('with %s preferred %s stays and %s gives way', (file, stays, goes) => {
    const { conflicts, layout, notes } = recover(badPhysOffset, { prefer: [file] })
    expect(conflicts).toEqual([])
    expect([layout[stays] !== undefined, layout[goes]]).toEqual([true, undefined])
    expect(notes.map(({ text }) => text).join('\n')).toMatch(`is overruled by ${stays} of ${file}`)
  })
})

test('one cause is one conflict: an image outside DRAM, and with it the idmap page', () => {
  const image = { start: 0xffffffdb2b000000n, end: 0xffffffdb2b510000n }
  const given = { image, kimageVoffset: 0xffffffdaeae00000n, idmap: 0x4040f000n }
  const conflictsWith = (start: bigint) =>
    recoverLayout([], { given: { ...given, dram: [{ start, end: 0xc0000000n }] } }).conflicts
  expect(conflictsWith(0x40200000n)).toEqual([])
  expect(conflictsWith(0x40400000n).map(({ field, sides }) => [field, sides.map(({ value }) => value)])).toEqual([
    [
      'kimageVoffset',
      [
        given.kimageVoffset,
        'must put the kernel image, 0xffffffdb2b000000–0xffffffdb2b50ffff, into DRAM, 0x40400000–0xbfffffff (or the list of memory is incomplete)',
      ],
    ],
  ])
})

test('each alignment', () => {
  const fields = (given: Partial<HypLayout>) =>
    recoverLayout([], { given }).conflicts.map(({ field, sides }) => {
      // The other side is a demand, not to be taken for a value.
      expect(sides[1]!.value).toMatch(/^must (be|lie|start|put) /)
      return field
    })
  expect(fields({ idmap: 0x40000800n })).toEqual(['idmap'])
  expect(fields({ idmap: 0x40001000n, pageSize: 65536 })).toEqual(['idmap'])
  expect(fields({ kimageVoffset: 0xffffffdaeae10000n })).toEqual(['kimageVoffset'])
  expect(fields({ kaslrOffset: 0x8000n, generation: '5.15' })).toEqual(['kaslrOffset'])
  expect(fields({ kaslrOffset: 0x8000n })).toEqual([])
  expect(fields({ dram: [{ start: 0x40000000n, end: 0xbfffffffn }] })).toEqual(['dram'])
  expect(fields({ dram: [{ start: 0x40000000n, end: 2n ** 52n + 4096n }] })).toEqual(['dram'])
  expect(fields({ image: { start: 0xffff800080000800n, end: 0xffff800081000000n } })).toEqual(['image'])
})

test('a guess gives way without a word', () => {
  // The flavour in a release name is no more than a hint.
  const log = '[    0.000000] Linux version 5.14.0-503.el9.aarch64+64k (builder) #1 SMP\n'
  expect(recoverLayout([bytesSource('log', log)]).layout.pageSize).toBe(65536)
  const given = { dram: [{ start: 0x40000000n, end: 0xc0001000n }] }
  const { conflicts, layout, notes } = recoverLayout([bytesSource('log', log)], { given })
  expect([conflicts, layout.dram, layout.pageSize]).toEqual([[], given.dram, undefined])
  expect(notes.filter(({ text }) => text.includes('overruled'))).toEqual([])
})

test('fields that do not fit each other: where each of them comes from', () => {
  const words = bytesSource('words', 'tag_lsb = 31, tag_val = 0x3ffff\n')
  const { conflicts, layout } = recoverLayout([words], { given: { hypVaBits: 48, pageSize: 4096 } })
  expect(layout).toMatchObject({ tagLsb: 31, tagVal: 0x3ffffn, hypVaBits: 48 })
  expect(conflicts.map(({ field }) => field)).toEqual(['tagVal'])
  const from = conflicts[0]!.sides[0]!.provenance
  expect(from.map(({ file, rule }) => `${file}: ${rule.split(':')[0]}`)).toEqual([
    'given fields: hypVaBits',
    'words: tagLsb',
    'words: tagVal',
  ])
})
