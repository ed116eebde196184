import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { toJson, visible } from '../../src/cli/text.ts'
import { hypva, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const LAYOUT = join(ROOT, 'samples/exec-6.1.layout.json')

describe('control characters', () => {
  // All of them but NUL, which no argument can have, tab and line end.
  const CONTROLS = Array.from({ length: 0xa0 }, (_, i) => i).filter(
    (i) => (i < 0x20 || i >= 0x7f) && i !== 0 && i !== 9 && i !== 10,
  )
  const WICKED = `${String.fromCharCode(...CONTROLS)}\x1b]0;title\x07\x1b[2J\x9b31m`
  /** What a terminal might obey. */
  const raw = (text: string) => [...text].filter((c) => c !== '\n' && c !== '\t' && /[\p{Cc}]/u.test(c))

  test('become visible, line ends and tabs stay', () => {
    expect(CONTROLS).toHaveLength(29 + 33)
    expect(visible('a\0b\x1b]0;x\x07\t\n\r\x7f\x80\x9bm\u00a0é–')).toBe(
      'a\\x00b\\x1b]0;x\\x07\t\n\\x0d\\x7f\\x80\\x9bm\u00a0é–',
    )
    expect(raw(visible(WICKED))).toEqual([])
  })

  test('in JSON are escapes of JSON', () => {
    const value = { [`key${WICKED}`]: `text${WICKED}\0`, big: 0x12n }
    const json = toJson(value)
    expect(raw(json)).toEqual([])
    expect(JSON.parse(json)).toEqual({ ...value, big: '0x12' })
  })

  // Of a line that a log's reader takes for one, and that is still the line it looks for.
  const IN_LINE = '\x1b]0;title\x07\x7f\x9b31m'
  const LOG = `kvm [40]: nVHE hyp BUG at: arch/arm64/inc${IN_LINE}lude/x.h:483!
kvm [40]: nVHE call trace:
kvm [40]:  [<ffffffc0082124b4>] __kvm_nvhe_hyp${IN_LINE}_panic+0xa4/0xd0
kvm [40]:  [<ffffffc00821442c>] __kvm_nvhe_handle_trap+0x90/0xe0
kvm [40]: ---[ end nVHE call trace ]---
kvm [40]: Hyp Offset: 0xffffff5207e00000
Kernel Offset: 0x1b23000000 from 0xffffffc008000000
Kernel panic - not syncing: HYP panic:
PS:a00003c9 PC:0000006e0041110c ESR:00000000f2000800
FAR:0000000000000008 HPFAR:00000000000a0000 PAR:0000000000000000
VCPU:0000000000000000
`
  const WICKED_FILE = join(dir, `log${WICKED.replaceAll('/', '')}.txt`)
  writeFileSync(WICKED_FILE, Buffer.from(LOG, 'latin1'))

  const MACHINE = ['-m', join(ROOT, 'samples/exec-6.1.machine.json')]
  test.each([
    ['decode', ['decode', WICKED_FILE], 0],
    ['decode --json', ['decode', WICKED_FILE, '--json'], 0],
    ['layout recover', ['layout', 'recover', WICKED_FILE], 0],
    ['layout recover --json', ['layout', 'recover', WICKED_FILE, '--json'], 0],
    ['the name of a file that is missing', ['translate', `none${WICKED}`, '-l', LAYOUT], 2],
    ['a command', [`command${WICKED}`], 2],
    ['an option', ['translate', '-l', LAYOUT, `--option${WICKED}`], 2],
    ['the value of an option', ['translate', '--from', `from${WICKED}`, '-l', LAYOUT], 2],
    ['an address', ['explain', `0x${WICKED}`, '-l', LAYOUT], 2],
    ['what is no layout', ['layout', 'show', '-l', WICKED_FILE], 2],
    ['machine flags', ['layout', 'compute', ...MACHINE, '--kernel', `6.${WICKED}`], 2],
    ['check', ['check', ...MACHINE, '--kernel', `6.${WICKED}`], 2],
    ['what nobody can write to', ['translate', '-l', LAYOUT, '-o', `none/${WICKED}`], 2],
  ] as [string, string[], number][])('of %s never reach a terminal', (_, args, code) => {
    const result = hypva(args)
    const said = result.out.toString() + result.err
    expect(result.code).toBe(code)
    expect(raw(said)).toEqual([])
    // They were there to be made visible.
    if (args.includes('--json')) expect(() => JSON.parse(result.out.toString())).not.toThrow()
    expect(said).toMatch(/\\x1b|\\u001b/)
    if (code === 2) expect(result.err.trim().split('\n')).toHaveLength(1)
  })

  test('in a field name of a layout', () => {
    const bad = join(dir, 'bad.json')
    writeFileSync(bad, JSON.stringify({ format: 'hypva-layout/1', tagLsb: 31, tagVal: '0x1', [`x${IN_LINE}`]: 1 }))
    const { err, code } = hypva(['layout', 'show', '-l', bad])
    expect([code, raw(err)]).toEqual([2, []])
    expect(err).toMatch(/x\\u001b\]0;title\\u0007\\x7f\\x9b31m/)
  })

  test('in translated text stay', () => {
    const input = Buffer.from(
      `a coloured log: ${IN_LINE} ffff000000ee7abc ${IN_LINE}, and so on\n`.repeat(20),
      'latin1',
    )
    const { out, code } = hypva(['translate', '-l', LAYOUT, '--from', 'phys', '--to', 'phys'], { input })
    expect(code).toBe(0)
    expect(out.equals(input)).toBe(true)
  })
})
