import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { boot, fixture, machineJson } from '../fixtures.ts'
import { hypva, scratch } from './hypva.ts'

const dir = scratch()
const file = (name: string, content: string | Uint8Array) => {
  writeFileSync(join(dir, name), content)
  return join(dir, name)
}
const KALLSYMS = file('kallsyms', fixture('traces/exec-6.1-kaslr.kallsyms.gz'))
const LAYOUT = file(
  'layout.json',
  hypva(['layout', 'compute', '-m', '-'], { input: machineJson(boot('exec-6.1-kaslr')) }).out,
)
const OTHER = file('other', fixture('traces/ftrace-6.1.kallsyms.gz'))
const base = ['translate', '-l', LAYOUT, '--symbols', KALLSYMS]
const summary = ['summary', '-l', LAYOUT, '--symbols', KALLSYMS]
const HVC = '0x89b380ef1138'

/** One line on stderr, nothing on stdout. */
function fails(args: string[], code: number, message: RegExp, input = '') {
  const result = hypva(args, { input })
  expect(result.err).toMatch(message)
  expect(result.err.trim().split('\n')).toHaveLength(1)
  expect(result.out.toString()).toBe('')
  expect(result.code).toBe(code)
}

describe('translate', () => {
  test('names, raw names, return addresses, raw words', () => {
    const run = (...args: string[]) => hypva([...base, ...args], { input: `${HVC}\n` }).out.toString()
    expect(run('--to', 'name')).toBe('__host_hvc+0x0/0x6c8 [nVHE]\n')
    expect(run('--to', 'name', '--raw-names')).toBe('__kvm_nvhe___host_hvc+0x0/0x6c8\n')
    expect(run('--to', 'name', '--return-addresses')).toMatch(/^(?!__host_hvc)\S+\+0x\w+\/0x\w+ \[nVHE\]\n$/)
    expect(run('--to', 'name', '--from', 'kernel')).toBe(`${HVC}\n`)
    const words = Buffer.alloc(8)
    words.writeBigUInt64BE(BigInt(HVC))
    const { out } = hypva([...base, '--to', 'name', '--format', 'u64be'], { input: words })
    expect(out.toString()).toBe('__host_hvc+0x0/0x6c8 [nVHE]\n')
  })

  test('--strict and --stats', () => {
    // The last one is DRAM at EL2, which no symbol covers.
    const { code, err, out } = hypva([...base, '--to', 'name', '--strict', '--stats'], {
      input: `${HVC} 0x5 0x89b390000000\n`,
    })
    expect(out.toString()).toBe('__host_hvc+0x0/0x6c8 [nVHE] 0x5 0x89b390000000\n')
    expect(err).toMatch(
      /^addresses: 1 translated, 2 other numbers unchanged; .*\nhypva: addresses that did not translate: 1, the first at standard input, byte 19\n$/,
    )
    expect(code).toBe(1)
    const fine = hypva([...base, '--to', 'name', '--strict'], { input: `${HVC} 0x5 123456789abc 0x7fff12345678\n` })
    expect([fine.code, fine.err]).toEqual([0, ''])
    const words = new Uint8Array(BigUint64Array.of(BigInt(HVC), 5n).buffer)
    const raw = hypva([...base, '--to', 'name', '--strict', '--format', 'u64le'], { input: words })
    expect(raw.err).toMatch(/did not translate: 1, the first at standard input, byte 8\n$/)
  })

  test('symbols in gzip, on stdin, several', () => {
    const gz = file('kallsyms.gz', gzipSync(fixture('traces/exec-6.1-kaslr.kallsyms.gz')))
    const trace = file('trace', `${HVC}\n`)
    const want = '__host_hvc+0x0/0x6c8 [nVHE]\n'
    expect(hypva(['translate', trace, '-l', LAYOUT, '--symbols', gz, '--to', 'name']).out.toString()).toBe(want)
    const stdin = hypva(['translate', trace, '-l', LAYOUT, '--symbols', '-', '--to', 'name'], {
      input: fixture('traces/exec-6.1-kaslr.kallsyms.gz'),
    })
    expect(stdin.out.toString()).toBe(want)
    const modules = file('modules', 'ffffad4300000000 t probe\t[thing]\n')
    const both = hypva([...base, '--symbols', modules, '--to', 'name'], { input: '0xffffad4300000004' })
    expect(both.out.toString()).toBe('probe+0x4/0x1000 [thing]')
  })

  test('what does not go together is refused in a line', () => {
    fails(['translate', '-l', LAYOUT, '--to', 'name'], 2, /--to name needs symbols/)
    fails(['translate', '-l', LAYOUT, '--annotate'], 2, /--annotate needs symbols/)
    fails([...base, '--to', 'name', '--annotate'], 2, /--annotate keeps an address/)
    fails([...base, '--to', 'name', '--unchecked'], 2, /kern_hyp_va/)
    fails([...base, '--summary', '--top', '5'], 2, /^hypva: summary is a command of its own: hypva summary\n$/)
    fails([...base, '--json'], 2, /unknown option '--json'/)
    fails([...summary, '--to', 'name'], 2, /unknown option '--to'/)
    fails([...summary, '--top', '0'], 2, /Expected a number from 1/)
    fails([...summary, '--text', '--format', 'u64le'], 2, /--text is for text, --format u64le for raw words/)
    fails(['summary', '-', '-l', LAYOUT, '--symbols', '-'], 2, /standard input \(-\) is named twice/)
    fails(['translate', '-l', LAYOUT, '--symbols', '-', '--to', 'name'], 2, /standard input \(-\) is named twice/)
    fails(
      ['translate', '-l', LAYOUT, '--symbols', OTHER, '--to', 'name'],
      2,
      /other: symbols of another kernel or another boot/,
    )
    fails(['translate', '-l', LAYOUT, '--symbols', dir, '--to', 'name'], 2, /is a directory/)
    fails(['translate', '-l', LAYOUT, '--symbols', join(dir, 'none'), '--to', 'name'], 2, /no such file/)
    fails(['translate', '-l', LAYOUT, '--symbols', LAYOUT, '--to', 'name'], 2, /no symbol table/)
  })

  test('a summary for people', () => {
    const { out, code } = hypva([...summary, '--top', '1'], {
      input: `${HVC} ${HVC} 0xffffad430626d558 0xffff000000000000\n`,
    })
    expect(code).toBe(0)
    expect(out.toString()).toBe(`4 addresses

Regions
  2  50.0%  ████████████████████████  hyp-linear: linear memory at EL2, DRAM bank 0, physical 0x40000000 to 0xbfffffff
  1  25.0%  ████████████              linear-hole: linear map, but no DRAM
  1  25.0%  ████████████              image: kernel image, _text to _end

Symbols (3 of 4 addresses have one, 2 symbols seen)
  2  50.0%  ████████████████████████  __host_hvc [nVHE]
  and 1 more with 1 addresses (--top shows more)
`)
    const empty = hypva([...summary, '--stats'], { input: 'none\n' })
    expect(empty.err).toMatch(/^hypva: note: the input holds no kernel or hyp address: .*\nbytes: 5 in\n$/)
    expect(empty.out.toString()).toMatch(/^0 addresses\n/)
  })
})

describe('decode', () => {
  const log = fixture('panics/p61-brk800-vcpurun.txt')
  const symbols = file('d61', fixture('evidence/d61-kaslr/kallsyms.txt.gz'))

  test('stdin and files, compressed or not', () => {
    const { out, code, err } = hypva(['decode'], { input: log })
    expect([code, err]).toEqual([0, ''])
    expect(out.toString()).toContain('link        0xffff800008cf0424')
    expect(hypva(['decode', file('log.gz', gzipSync(log))]).out.toString()).toBe(out.toString())
    expect(hypva(['decode', '-'], { input: log }).out.toString()).toBe(out.toString())
  })

  test('names: by the log, by symbols, raw', () => {
    const run = (...args: string[]) => hypva(['decode', ...args], { input: log }).out.toString()
    expect(run()).toContain('name        __kvm_vcpu_run+0x4/0x530 [nVHE]')
    expect(run('--symbols', symbols)).toContain('0xffff800008cf25a8  handle_trap+0x88/0x140 [nVHE]')
    expect(run('--symbols', symbols, '--raw-names')).toContain('__kvm_nvhe_handle_trap+0x88/0x140\n')
  })

  test('--json', () => {
    const { out } = hypva(['decode', '--json'], { input: log })
    const { panics } = JSON.parse(out.toString())
    expect(panics).toHaveLength(1)
    expect(panics[0].pc).toMatchObject({
      value: '0x82c060ef0424',
      link: '0xffff800008cf0424',
      image: '0xffffc1548c2f0424',
    })
    expect(panics[0].diagnoses[0]).toMatchObject({ kind: 'brk', certain: true })
  })

  test('no hyp panic: exit 1, one line', () => {
    for (const name of ['p61-oops', 'p61-sysrq', 'p612-missed-khv']) {
      fails(['decode', file(name, fixture(`panics/${name}.txt`))], 1, /^hypva: no hyp panic found$/m)
    }
    fails(['decode', '--text', process.execPath], 1, /^hypva: no hyp panic found$/m)
    fails(['decode'], 1, /no hyp panic found/)
    const { out, code } = hypva(['decode', '--json'], { input: '' })
    expect([JSON.parse(out.toString()), code]).toEqual([{ panics: [] }, 1])
  })

  test('a layout of another boot is not used, and that is said', () => {
    const { out, code } = hypva(['decode', '-l', LAYOUT], { input: log })
    expect(code).toBe(0)
    expect(out.toString()).toMatch(/Note +the layout is of another boot and was not used: \w+ is /)
    expect(out.toString()).not.toContain('physical    0x40ef0424')
  })

  test('symbols of another kernel are an error', () => {
    const wrong = file('d73', fixture('evidence/d73-a57/kallsyms.txt.gz'))
    fails(['decode', '--symbols', wrong], 2, /d73: symbols of another kernel/, log.toString())
    fails(['decode', '--symbols', '-'], 2, /named twice/)
    fails(['decode', dir], 2, /is a directory/)
  })
})

test('symbols that name nothing of EL2: an error for hyp addresses, a line on stderr from decode', () => {
  const text = fixture('traces/exec-6.1-kaslr.kallsyms.gz').toString()
  const host = file('host', text.replaceAll(/^.* __kvm_nvhe_.*\n/gm, ''))
  const to = ['translate', '-l', LAYOUT, '--symbols', host]
  const wanted = /^hypva: \S+host: no symbols of the hypervisor .* System\.map and vmlinux of this kernel have them/
  fails([...to, '--to', 'name'], 2, wanted, `${HVC}\n`)
  // What else can be done is said with the option that does it.
  fails([...to, '--to', 'name'], 2, /to name kernel addresses only, translate from kernel/, `${HVC}\n`)
  fails([...to, '--to', 'name', '--from', 'hyp'], 2, wanted, `${HVC}\n`)
  fails([...to, '--to', 'name', '--from', 'hyp'], 2, /(?<!--from kernel\))\n$/, `${HVC}\n`)
  fails(['summary', ...to.slice(1)], 2, wanted, `${HVC}\n`)
  const kernel = hypva([...to, '--to', 'name', '--from', 'kernel'], { input: `${HVC} ffffad430626df40\n` })
  expect([kernel.code, kernel.err]).toEqual([0, ''])
  expect(kernel.out.toString()).toMatch(/^0x89b380ef1138 \w+\+0x\w+\/0x\w+\n$/)
  const table = file(
    'table',
    fixture('evidence/c4k39/kallsyms.txt.gz')
      .toString()
      .replaceAll(/^.* __kvm_nvhe_.*\n/gm, ''),
  )
  const log = file('panic', fixture('evidence/c4k39/panic.txt'))
  const decoded = hypva(['decode', log, '--symbols', table])
  expect(decoded.code).toBe(0)
  expect(decoded.err).toMatch(/^hypva: \S+table: no symbols of the hypervisor .*\n$/)
  expect(decoded.out.toString()).toMatch(/^ {2}Note +\S+table: no symbols of the hypervisor/m)
})
