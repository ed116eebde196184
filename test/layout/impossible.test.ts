import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { computeLayout } from '../../src/layout/compute.js'
import { checkLayout, parseLayout, parseMachine } from '../../src/layout/json.js'
import type { HypLayout, Machine } from '../../src/layout/types.js'
import { boots, factsOf } from './boots.js'

const MIB = 2n ** 20n
const GIB = 2n ** 30n
const range = (start: bigint, end: bigint) => ({ start, end })

/** As a 6.12 on a board with 2 GiB at 1 GiB has it. */
const machine: Machine = {
  kernel: '6.12',
  pageSize: 4096,
  vaBits: 48,
  dram: [range(GIB, 3n * GIB)],
  idmap: 0x41150000n,
  physOffset: GIB,
  image: range(0xffff8000_8001_0000n, 0xffff8000_8201_0000n),
  kimageVoffset: 0xffff8000_4000_0000n,
  kaslrOffset: 0x10000n,
  random: 0n,
}
// On smaller hardware a 52-bit build lowers PHYS_OFFSET by 2^52 - 2^48.
const lowered: Partial<Machine> = { vaBits: 52, vaBitsActual: 48, physOffset: 0xfff1_0000_4000_0000n }
// 39 bits hold 256 GiB: with a kernel above that the kernel gives up the memory below it.
const moved: Partial<Machine> = {
  vaBits: 39,
  dram: [range(2n * GIB, 4n * GIB), range(512n * GIB, 514n * GIB)],
  idmap: 512n * GIB + MIB,
  physOffset: 258n * GIB,
  kimageVoffset: 0xffff7f80_8000_0000n,
}
const pages64k: Partial<Machine> = { pageSize: 65536, dram: [range(GIB, 3n * GIB - 0x10000n)] }

describe('a machine that can be', () => {
  test.each<[string, Partial<Machine>]>([
    ['as it is', {}],
    ['with a 52-bit build', lowered],
    ['with its linear map moved down at random, to below 0', { physOffset: 0xffff_a9f6_8000_0000n }],
    ['with the memory below PHYS_OFFSET given up', moved],
    ['with pages of 64 KiB', pages64k],
    ['with DRAM from 0', { dram: [range(0n, 3n * GIB)], physOffset: 0n }],
    ['with an image in two banks that touch', { dram: [range(GIB, GIB + 2n * MIB), range(GIB + 2n * MIB, 3n * GIB)] }],
    ['with the text offset of older kernels', { kernel: '5.4', kaslrOffset: 0x1000n }],
    // Until 4.5 the kernel's own place was where the linear map began.
    ['with an old kernel far up', { kernel: '4.4', physOffset: 0x41000000n }],
  ])('%s', (_, change) => {
    const layout = computeLayout({ ...machine, ...change })
    expect(layout.idmap).toBe(change.idmap ?? machine.idmap)
    expect(() => checkLayout(layout)).not.toThrow()
  })

  test('every real boot, with where its image is, and every sample', () => {
    for (const boot of boots) {
      const physOffset = BigInt(boot.memstart_addr)
      const image = range(BigInt(boot.text_va), BigInt(boot.end_va))
      const tagVal = BigInt(boot.observed.tag_val)
      const facts = { ...factsOf(boot), physOffset, image, kimageVoffset: BigInt(boot.kimage_voffset), tagVal }
      expect(computeLayout(facts).image, boot.name).toEqual(image)
    }
    const samples = join(import.meta.dirname, '../../samples/machines')
    const names = readdirSync(samples)
    for (const name of names) expect(() => parseMachine(readFileSync(join(samples, name), 'utf8'))).not.toThrow()
    expect([boots.length, names.length]).toEqual([33, 12])
  })
})

describe('one that cannot', () => {
  test.each<[Partial<Machine>, string]>([
    [{ idmap: 0x41150800n }, 'machine.idmap: 0x41150800 is not aligned to pages of 4096 bytes'],
    [{ ...pages64k, idmap: 0x41151000n }, 'machine.idmap: 0x41151000 is not aligned to pages of 65536 bytes'],
    [{ idmap: 0x1000n }, 'machine.idmap: the page at 0x1000 is outside DRAM (0x40000000–0xbfffffff)'],
    [{ idmap: 3n * GIB }, 'machine.idmap: the page at 0xc0000000 is outside DRAM (0x40000000–0xbfffffff)'],
    [{ idmap: 2n ** 52n }, 'machine.idmap: 0x10000000000000 is beyond the 48 bits of physical address'],
    [
      { idmap: 0x42010000n },
      'machine.idmap: the page at 0x42010000 is outside the kernel image, which kimageVoffset puts at 0x40010000–0x4200ffff',
    ],
    [
      { dram: [range(GIB, 3n * GIB - 1n)] },
      "machine.dram[0].end: 0xbfffffff looks like the bank's last byte, as /proc/iomem gives it; an end is the first byte behind it, 0xc0000000",
    ],
    [
      { dram: [range(GIB, 2n * GIB), range(2n * GIB + 0x200n, 3n * GIB)] },
      'machine.dram[1]: 0x80000200 to 0xc0000000 is not whole pages of 4096 bytes: a kernel keeps 0x80001000 to 0xc0000000 of it',
    ],
    [
      { ...pages64k, dram: [range(GIB, 3n * GIB - 0x1000n)] },
      'machine.dram[0]: 0x40000000 to 0xbffff000 is not whole pages of 65536 bytes: a kernel keeps 0x40000000 to 0xbfff0000 of it',
    ],
    [{ kimageVoffset: 0xffff8000_4010_0000n }, 'machine.kimageVoffset: 0xffff800040100000 is not a multiple of 2 MiB'],
    [
      { kaslrOffset: 0x8000n },
      'machine.kaslrOffset: 0x8000 is not a multiple of 64 KiB: KASLR moves the image in such steps',
    ],
    [{ kernel: '5.4', kaslrOffset: 0x800n }, 'machine.kaslrOffset: 0x800 is not a multiple of 4 KiB'],
    [
      { image: range(0xffff8000_8000_8000n, 0xffff8000_8201_0000n) },
      'machine.image.start: 0xffff800080008000 is not aligned to 64 KiB, as _text is',
    ],
    [
      { kimageVoffset: 0xffff8000_0000_0000n },
      'machine.kimageVoffset: it puts the kernel image at 0x80010000–0x8200ffff, which is not in DRAM',
    ],
    [{ physOffset: 2n * GIB }, 'machine.physOffset: 0x80000000 is above 0x40000000, where DRAM begins'],
    [
      { ...lowered, physOffset: 0xfff1_0000_8000_0000n },
      'machine.physOffset: 0xfff1000080000000 is above 0xfff1000040000000: DRAM begins at 0x40000000, and a 52-bit build on smaller hardware lowers physOffset by 0xf000000000000',
    ],
  ])('%o', (change, message) => {
    const dram = change.kimageVoffset === 0xffff8000_0000_0000n ? { dram: [range(GIB, 2n * GIB)] } : {}
    const wrong = () => computeLayout({ ...machine, ...dram, ...change })
    expect(wrong).toThrow(expect.objectContaining({ code: 'HYPVA_MACHINE' }))
    expect(wrong).toThrow(message)
  })
})

describe('a layout with more memory than there are addresses', () => {
  const layout: HypLayout = { tagLsb: 63, tagVal: 0n, pageOffset: 0n, physOffset: 0n }
  const image = range(0xfff0_0000_0000_0000n, 2n ** 64n)

  test('is refused, as an object and as JSON', () => {
    const beyond = 'is beyond 2^52, where physical addresses end'
    const whole =
      '{"format":"hypva-layout/1","tagLsb":63,"tagVal":"0x0","dram":[{"start":"0x0","end":"0x10000000000000000"}]}'
    expect(() => parseLayout(whole)).toThrow(`layout.dram[0].end: 0x10000000000000000 ${beyond}`)
    for (const mode of ['nvhe', 'vhe'] as const) {
      const base: HypLayout = mode === 'vhe' ? { mode } : layout
      const dram = [range(0n, 4096n), range(8192n, 2n ** 52n + 4096n)]
      expect(() => checkLayout({ ...base, dram })).toThrow(`layout.dram[1].end: 0x10000000001000 ${beyond}`)
      expect(() => checkLayout({ ...base, image: range(0n, 2n ** 64n) })).toThrow(
        'layout.image: 0x0 to 0x10000000000000000 is more than 2^52 bytes',
      )
    }
  })

  test('up to 2^52 it is not', () => {
    expect(() => checkLayout({ ...layout, dram: [range(0n, 2n ** 52n)], image })).not.toThrow()
  })
})
