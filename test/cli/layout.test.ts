import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { boot, boots, machineJson } from '../fixtures.ts'
import { hypva, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const file = (name: string, content: string) => {
  writeFileSync(join(dir, name), content)
  return join(dir, name)
}

describe('layout compute', () => {
  test.each(['d61-2g-kaslr1', 'd612-16k-2g-a35', 'd73-2g-max-protected', 'c4k48nr-2g'])(
    '%s: file and flags agree with the boot',
    (name) => {
      const b = boot(name)
      const fromFile = hypva(['layout', 'compute', '-m', file('m.json', machineJson(b))])
      expect([fromFile.code, fromFile.err]).toEqual([0, ''])
      const layout = JSON.parse(fromFile.out.toString())
      expect(layout).toMatchObject({
        tagLsb: b.observed.tag_lsb,
        tagVal: b.observed.tag_val,
        vaMask: b.observed.va_mask,
        hypPhysvirtOffset: b.observed.hyp_physvirt_offset,
      })
      const sizes: Record<number, string> = { 4096: '4k', 16384: '16k', 65536: '64k' }
      const flags = [
        ['--kernel', b.kernel_version, '--mode', b.mode, '--page-size', sizes[b.page_size]!],
        ['--va-bits', String(b.config_va_bits), '--va-bits-actual', String(b.vabits_actual)],
        b.randomize_base ? [] : ['--no-randomize-base'],
        b.dram.flatMap(({ start, end }) => ['--dram', `${start}-${end}`]),
        ['--idmap', b.idmap_addr, '--phys-offset', b.memstart_addr, '--image', `${b.text_va}-${b.end_va}`],
        ['--kimage-voffset', b.kimage_voffset, '--tag-val', b.observed.tag_val],
      ].flat()
      expect(hypva(['layout', 'compute', ...flags]).out.equals(fromFile.out)).toBe(true)
      // The tag in place serves as the random word: the region bit in it is not the kernel's to draw.
      if (b.randomize_base) {
        const random = flags.map((f) => (f === '--tag-val' ? '--random' : f)).with(-1, b.observed.tag)
        expect(hypva(['layout', 'compute', ...random]).out.equals(fromFile.out)).toBe(true)
      }
    },
  )

  test('a flag overrides the field of the file', () => {
    const machine = file('o.json', machineJson(boot('exec-6.1-kaslr')))
    const tag = ['--tag-val', '0x1abcd']
    expect(JSON.parse(hypva(['layout', 'compute', '-m', machine, ...tag]).out.toString())).toMatchObject({
      tagVal: '0x1abcd',
    })
    const old = hypva(['layout', 'compute', '-m', machine, '--generation', '5.6'])
    expect(JSON.parse(old.out.toString())).toMatchObject({ generation: '5.6' })
  })

  test('from stdin, to a file', () => {
    const out = join(dir, 'out.json')
    expect(hypva(['layout', 'compute', '-m', '-', '-o', out], { input: machineJson(boots[0]!) }).code).toBe(0)
    expect(JSON.parse(readFileSync(out, 'utf8')).format).toBe('hypva-layout/1')
  })

  test('what is wrong is said in one line, with exit code 2', () => {
    const machine = JSON.parse(machineJson(boot('exec-6.1-kaslr')))
    const { tagVal, ...untagged } = machine
    expect(tagVal).toBeDefined()
    const cases: [string[], RegExp][] = [
      [['-m', file('x.json', JSON.stringify(untagged))], /random|tagVal/],
      [['-m', file('x2.json', JSON.stringify({ ...machine, idmap: 5 }))], /x2\.json: machine\.idmap: .*hex string/],
      [['-m', join(dir, 'nope.json')], /cannot read .*nope\.json: no such file/],
      [[], /machine\.pageSize: missing \(--page-size\)/],
      [['--kernel', 'six', '-m', file('x3.json', JSON.stringify(machine))], /six/],
      [['--kernel', '6.1', '--page-size', '8k'], /8k.*Allowed choices are 4k, 16k, 64k/],
      [['--dram', '0x40000000'], /START-END/],
      [['--va-bits', 'many'], /number of bits/],
      [['-m', file('x4.json', JSON.stringify(machine)), '--idmap', '0x1000'], /machine\.idmap: .* is outside DRAM/],
    ]
    for (const [args, message] of cases) {
      const { code, err, out } = hypva(['layout', 'compute', ...args])
      expect(err).toMatch(message)
      expect(err.trim().split('\n')).toHaveLength(1)
      expect([code, out.length]).toEqual([2, 0])
    }
  })

  test('dropped memory and a broken layout are said, and computed all the same', () => {
    const args = [
      '--kernel',
      '5.12',
      '--page-size',
      '64k',
      '--va-bits',
      '52',
      '--idmap',
      '0x40000000',
      '--random',
      '0x0',
    ]
    const banks = ['--dram', '0x40000000-0x80000000', '--dram', '0xc000000000000-0xc000040000000']
    const broken = hypva(['layout', 'compute', ...args, ...banks])
    expect(broken.err).toMatch(/warning: tag_lsb 52 leaves no room for the region bit/)
    expect([broken.code, JSON.parse(broken.out.toString()).tagLsb]).toEqual([0, 52])
    const capped = hypva(['layout', 'compute', ...args.with(1, '5.15'), ...banks])
    expect(capped.err).toMatch(/warning: DRAM 000c000000000000–000c00003fffffff \(1 GiB\) is outside the linear map/)
    expect([capped.code, JSON.parse(capped.out.toString()).dram.length]).toEqual([0, 1])
  })
})

describe('layout show', () => {
  test('JSON is the layout again; text names every range', () => {
    const layout = hypva(['layout', 'compute', '-m', 'samples/exec-6.1.machine.json']).out
    const path = file('layout.json', layout.toString())
    expect(hypva(['layout', 'show', '-l', path, '--json']).out.equals(layout)).toBe(true)
    const text = hypva(['layout', 'show', '-l', path]).out.toString()
    for (const { kind, va } of boot('exec-6.1-kaslr').el2_mappings) {
      if (kind === 'idmap') expect(text).toContain(`${va.slice(2).padStart(16, '0')}–`)
    }
    expect(text).not.toContain('Problems')
    expect(text).toMatch(/^generation +5\.15 \(layout algorithm of Linux 5\.15 to 6\.19\)$/m)
  })
})

describe('explain', () => {
  const LAYOUT = ['-l', 'samples/exec-6.1.layout.json']

  test('every kind of miss has its own reason', () => {
    const reasons: [string, string, RegExp][] = [
      ['0x7f9f92723480', 'kernel', /user/],
      ['0xff80000000000000', 'kernel', /non-canonical/],
      ['0xfe00000000000000', 'kernel', /tag/],
      ['0xf0ffad4306200000', 'kernel', /bits 63:56 hold a tag, 0xf0/],
      ['0xffff800010000000', 'kernel', /vmalloc/],
      ['0xffff000000000000', 'kernel', /linear map, but no DRAM/],
      ['0x40eed010', 'hyp', /idmap/],
      ['0x40ee8c00', 'hyp', /private/],
      ['0x12340eef000', 'hyp', /tag 0x12300000000|tag 0x12340000000|tag 0x\w+, linear memory has 0x89b380000000/],
      ['0xffffad4306200000', 'hyp', /bits 63:48 are not all clear/],
      ['0x1000', 'phys', /outside DRAM \(0x40000000–0xbfffffff\)/],
      ['0xffff800001000000', 'link', /outside the kernel image at its link address/],
    ]
    for (const [address, from, reason] of reasons) {
      const { out, code } = hypva(['explain', address, '--from', from, ...LAYOUT])
      expect(out.toString()).toMatch(reason)
      expect(out.toString()).toMatch(/no (hyp|kernel) address/)
      expect(code).toBe(0)
    }
  })

  test('without --from each possible reading is explained', () => {
    const readings = (address: string) =>
      JSON.parse(hypva(['explain', address, '--json', ...LAYOUT]).out.toString()).map((e: { from: string }) => e.from)
    expect(readings('ffffad4306ef1c00')).toEqual(['kernel'])
    expect(readings('89b380ef1c00')).toEqual(['hyp'])
    expect(readings('0x40eed000')).toEqual(['hyp', 'phys'])
    expect(readings('0xffff800008cf1c00')).toEqual(['kernel', 'link'])
    expect(readings('0x7f9f92723480')).toEqual(['kernel', 'hyp'])
  })

  test('JSON has the numbers as hex strings', () => {
    const [e] = JSON.parse(hypva(['explain', '0x89b380ef1c00', '--json', ...LAYOUT]).out.toString())
    expect(e).toMatchObject({ address: '0x89b380ef1c00', from: 'hyp', to: 'kernel', result: '0xffffad4306ef1c00' })
    expect(e.steps.map((s: { to: string }) => s.to)).toEqual(['linear', 'phys', 'image'])
  })

  test('a layout of tag and mask alone says what it can, and what it lacks', () => {
    const bare = file('bare.json', '{"format":"hypva-layout/1","tagLsb":31,"tagVal":"0x11367"}')
    const { out, code } = hypva(['explain', '0x89b380ef1c00', '-l', bare])
    expect(out.toString()).toMatch(/region {2}hyp-linear: linear memory at EL2/)
    expect(out.toString()).toMatch(/no kernel address: .* needs a field that the layout does not have: dram/)
    expect(code).toBe(0)
  })

  test('what is no address is refused', () => {
    for (const bad of ['0xzz', '12345678901234567', '-5', 'ffff ']) {
      const { code, err } = hypva(['explain', ...LAYOUT, '--', bad])
      expect([code, err.trim().split('\n').length]).toEqual([2, 1])
    }
    // The message names the value once, although commander puts it in front of every message of a parser.
    expect(hypva(['explain', 'zzz', ...LAYOUT]).err.match(/zzz/g)).toHaveLength(1)
  })
})

test('layout show: the picture, beside the text or instead of it', () => {
  const layout = join(ROOT, 'samples/exec-6.1.layout.json')
  const svg = join(dir, 'shown.svg')
  const { code, out } = hypva(['layout', 'show', '-l', layout, '--svg', svg])
  expect(code).toBe(0)
  expect(out.toString()).toMatch(/^ffff6f3700000000 █ bank 0 +→ 0000000040eed000 ◆ idmap page$/m)
  expect(readFileSync(svg, 'utf8')).toContain('EL2 layout, algorithm of Linux 5.15 to 6.19')
  expect(hypva(['layout', 'show', '-l', layout, '--svg', '-']).out.toString()).toBe(readFileSync(svg, 'utf8'))
})
