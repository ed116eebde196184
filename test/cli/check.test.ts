import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hypva, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const sample = (name: string) => join(ROOT, 'samples/machines', `${name}.json`)
const run = (...args: string[]) => {
  const { code, out, err } = hypva(['check', ...args])
  return { code, err, out: out.toString() }
}

describe('check', () => {
  test('with no layout named: a table of all, all about the own kernel, and its verdict', () => {
    const { code, out, err } = run('-m', sample('lx2160a'))
    expect([code, err]).toEqual([1, ''])
    expect(out).toMatch(/^kernel +UNSOUND +≈13\.9 GiB/m)
    expect(out).toMatch(/^half-split +sound/m)
    expect(out).toContain('0x0:0x22ffffffff: KVM refuses to start ("IDMAP intersecting with HYP VA')
    expect(run('-m', sample('lx2160a'), '--kernel', '5.6').code).toBe(0)
  })

  test('exit 1 exactly when a layout asked for is unsound', () => {
    expect(run('-m', sample('corner'), '--proposal', 'low-window-47', 'cap-51').code).toBe(0)
    expect(run('-m', sample('corner'), '--proposal', 'low-window-47', 'low-window-48').code).toBe(1)
    expect(run('-m', sample('corner'), '--proposal', 'all').code).toBe(1)
  })

  test('a proposal, in full', () => {
    const { out } = run('-m', sample('corner'), '--proposal', 'low-window-48')
    expect(out).toContain('linear offsets [3840 TiB, 3968 TiB), 128 TiB')
    expect(out).toContain('000f3c0000000000–000f3c3fffffffff  NOT MAPPED, though EL1 uses it')
    expect(out).toContain('memory below 0xf000080000000: gives up 256 GiB')
    expect(out).toMatch(/^ {2}layout algorithm +Linux 5\.12 to 5\.14, changed$/m)
    expect(run('-m', sample('corner'), '--proposal', 'cap-51').out).toMatch(
      /^ {2}layout algorithm +Linux 5\.15 to 6\.19$/m,
    )
    expect(run('-m', sample('corner'), '--proposal', 'vhe').out).not.toContain('layout algorithm')
    const overlap = run('-m', sample('corner'), '--proposal', 'overlap-top-window').out
    expect(overlap).toContain(
      'keep free           physical 0000000101000000–000000010100ffff, never to be allocated by EL1',
    )
  })

  test('JSON: 64-bit values as hex, the layouts as layout JSON has them', () => {
    const all = JSON.parse(run('-m', sample('corner'), '--json').out)
    expect(all.map(({ name }: { name: string }) => name)).toEqual(
      ['kernel', 'half-split', 'extended-linear', 'low-window-48', 'low-window-48-as-coded', 'low-window-47'].concat([
        'overlap-top-window',
        'cap-51',
        'vhe',
      ]),
    )
    const [one, ...others] = JSON.parse(run('-m', sample('corner'), '--json', '--proposal', 'low-window-48').out)
    expect(others).toEqual([])
    expect(one).toMatchObject({
      capacity: '0xf000000000000',
      layout: { tag: '0x1000000000000', proposal: 'low-window-48' },
    })
    // What check says is a layout that the other commands take.
    const file = join(dir, 'low.json')
    writeFileSync(file, JSON.stringify(one.layout))
    const translated = hypva(['translate', '-l', file], { input: 'fff0000000001234\n' })
    expect(translated.out.toString()).toBe('0001000000001234\n')
    expect(hypva(['explain', '0xffff3bff80000000', '-l', file]).out.toString()).toContain('EL2 cannot map it')
  })

  test("a sound layout beside today's check, which it has to replace", () => {
    const low = ['-m', sample('corner'), '--dram', '0x0-0x1000000000', '--proposal', 'overlap-top-window']
    const { code, out } = run(...low)
    expect(code).toBe(0)
    expect(out).toMatch(/^overlap-top-window +sound .* -EINVAL +0 +has to replace the check$/m)
    expect(out).toMatch(/^ {2}start-up check +-EINVAL, today's, which this proposal has to replace$/m)
    const [verdict] = JSON.parse(run(...low, '--json').out)
    expect(verdict).toMatchObject({ sound: true, startUpCheck: '-EINVAL', startUpCheckReplaced: true })
    expect(verdict).not.toHaveProperty('geometry')
  })

  test('random bits that nobody gave are 0, and that is said', () => {
    const small = '--kernel 6.12 --page-size 4k --va-bits 48 --idmap 0x40000000 --dram 0x40000000-0x80000000'.split(' ')
    const { code, err } = run(...small)
    expect(code).toBe(0)
    expect(err).toMatch(/^hypva: note: assuming 0 for the random bits of the tag: .*\n$/)
    expect(run(...small, '--random', '0x0').err).toBe('')
    expect(JSON.parse(run(...small, '--json').out)[0]).toMatchObject({ randomBitsAssumed: true })
    expect(run(...small, '--random', '0x0', '--dram', '0x90000000-0x98000200')).toMatchObject({
      code: 2,
      err: 'hypva: machine.dram[1]: 0x90000000 to 0x98000200 is not whole pages of 4096 bytes: a kernel keeps 0x90000000 to 0x98000000 of it (--dram)\n',
    })
  })

  test('the picture of the one layout asked for', () => {
    const file = join(dir, 'low.svg')
    const { code, out } = run('-m', sample('corner'), '--proposal', 'low-window-48', '--svg', file)
    expect(code).toBe(1)
    expect(out).toContain('ffff3bff80000000 ✗ NO HYP VA')
    const svg = readFileSync(file, 'utf8')
    expect(svg).toMatch(/<title id="hypva-[0-9a-f]{8}-title">low-window-48<\/title>/)
    // By default, as everywhere, the machine's own kernel; - is stdout, and then nothing else is.
    const own = run('-m', sample('corner'), '--svg', '-')
    expect(own.code).toBe(1)
    expect(own.out).toMatch(/^<svg .*<title id="hypva-[0-9a-f]{8}-title">kernel<.*<\/svg>\n$/s)
    expect(run('-m', sample('corner'), '--proposal', 'low-window-48', '--svg', '-').out).toBe(svg)
  })

  test('no colours but on a terminal', () => {
    expect(run('-m', sample('corner')).out).not.toContain('\u001b')
  })

  test('sweep', () => {
    const { code, out } = run('-m', sample('corner'), '--sweep', '--proposal', 'low-window-47')
    expect(code).toBe(0)
    expect(out).toMatch(/^low-window-47 +kernel at +0x800000000000 +sound → idmap-collision, start-up-check$/m)
    expect(JSON.parse(run('-m', sample('corner'), '--sweep', '--json').out).length).toBeGreaterThan(20)
  })

  test.each([
    [['--proposal', 'nonsense', '-m', sample('corner')], 'Expected one of kernel, half-split'],
    [['-m', sample('corner'), '--proposal', 'all', '--svg', '-'], '--svg draws one layout'],
    [['-m', sample('corner'), '--sweep', '--svg', '-'], '--sweep has no picture'],
    [['-m', sample('corner'), '--svg', join(dir, 'no', 'x.svg')], 'cannot write'],
    [['-m', join(dir, 'none.json')], 'no such file'],
    [['-m', sample('corner'), '--idmap', '0x1000000'], 'machine.idmap: the page at 0x1000000 is outside DRAM'],
    [['-m', sample('corner'), '--dram', '0x0-0x0'], 'machine.dram[0].end: 0x0 is not above the start'],
    [['-m', sample('corner'), '--dram', '0x0-0x90000000', '--dram', '0x80000000-0xa0000000'], 'banks must ascend'],
    [['-m', sample('corner'), '--va-bits', '48', '--page-size', '4k'], 'beyond the 48 bits of physical address'],
  ])('%j', (args, message) => {
    const { code, out, err } = run(...args)
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(message)
    expect(err.trimEnd().split('\n')).toHaveLength(1)
  })
})
