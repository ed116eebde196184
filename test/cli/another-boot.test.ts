import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { type Boot, boot, boots, fixture, machineJson } from '../fixtures.ts'
import { hypva, scratch } from './hypva.ts'

const dir = scratch()

function layoutOf(b: Boot, name = b.name): string {
  const file = join(dir, `${name}.json`)
  writeFileSync(file, hypva(['layout', 'compute', '-m', '-'], { input: machineJson(b) }).out)
  return file
}

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(join(dir, name), content)
  return join(dir, name)
}

const own = boot('exec-6.1-kaslr')
const log = fixture('traces/exec-6.1-kaslr.log.gz')
const LOG = file('exec.log', log)
const TOKEN = /(?<![0-9A-Za-z_])(0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{9,16})(?![0-9A-Za-z_])/g
const tokens = (text: Uint8Array) =>
  [...Buffer.from(text).toString('latin1').matchAll(TOKEN)].map(([token]) => BigInt(`0x${token.replace(/^0[xX]/, '')}`))

/** The EL2 PC at which the log's hypervisor is entered. */
const PC = 0x89b3_80ef_1c00n

/** The warning, from the boots' own constants and a count of the text. */
function warning(layout: Boot, values: readonly bigint[]): string {
  const lsb = BigInt(layout.observed.tag_lsb)
  const tagOf = (x: bigint) => (x >> lsb) << lsb
  const [tag, other] = [BigInt(layout.observed.tag), tagOf(PC)]
  const half = 1n << BigInt(layout.hyp_va_bits_used - 1)
  const carry = values.filter((x) => tagOf(x) === tag).length
  const others = values.filter((x) => x >= half && x < 2n * half && tagOf(x) !== tag).length
  const hex = (x: bigint) => `0x${x.toString(16)}`
  const own = carry === 0 ? 'no address carries' : carry === 1 ? '1 address carries' : `${carry} addresses carry`
  return (
    `hypva: warning: the layout is of another boot: ${own} its tag ${hex(tag)} (tag_val ${hex(tag >> lsb)}); ` +
    `${others} carry another, mostly ${hex(other)} (tag_val ${hex(other >> lsb)}) above the layout's tag_lsb ${lsb}. Recover the layout from the evidence of that boot\n`
  )
}

// Linear memory in the upper half of 48 bits: there this log's addresses are hyp addresses of another boot.
const sameWidth = boots.filter((b) => b.hyp_va_bits_used === 48 && b.name !== own.name)

describe('a layout of another boot', () => {
  const values = tokens(log)

  test.each(sameWidth.map((b) => [b.name, b] as const))('%s: one warning with both tags and counts', (_, b) => {
    const { err, code } = hypva(['translate', LOG, '-l', layoutOf(b), '--to', 'phys'])
    expect(err).toBe(warning(b, values))
    expect(code).toBe(0)
  })

  test('in every format, with names, in summaries, by jobs: the same counts; 1 with --strict', () => {
    const b = boot('d61-2g-kaslr1')
    const layout = layoutOf(b)
    const want = warning(b, values)
    const base = ['-l', layout, '--from', 'hyp']
    expect(hypva(['translate', LOG, ...base]).err).toBe(want)
    const strict = hypva(['translate', LOG, ...base, '--strict'])
    expect([strict.code, strict.err.startsWith(want)]).toEqual([1, true])

    const kallsyms = file('kallsyms', kallsymsFor(b))
    for (const command of [['translate', '--to', 'name'], ['translate', '--to', 'phys', '--annotate'], ['summary']]) {
      expect(hypva([...command, LOG, ...base, '--symbols', kallsyms]).err).toBe(want)
    }
    expect(hypva(['summary', LOG, '-l', layout]).err).toBe(want)

    const large = file('large.log', Buffer.concat([log, log]))
    for (const jobs of ['1', '2', '3']) {
      const { err, code } = hypva(['translate', large, ...base, '-o', join(dir, 'out'), '--jobs', jobs])
      expect([err, code]).toEqual([warning(b, [...values, ...values]), 0])
    }

    const words = BigUint64Array.from(values)
    for (const order of ['le', 'be'] as const) {
      const bytes = Buffer.from(words.slice().buffer)
      if (order === 'be') bytes.swap64()
      const raw = file(`words.${order}`, bytes)
      for (const command of [['translate'], ['summary'], ['translate', '--to', 'name', '--symbols', kallsyms]]) {
        expect(hypva([...command, raw, ...base, '--format', `u64${order}`]).err).toBe(want)
      }
    }
  })

  test('a pasted panic: two addresses in the image of the same machine are enough', () => {
    const panic =
      'nVHE hyp panic at: [<000089b380ef1c00>]\nPC:000089b380ef1c00 LR:000089b380ef0424 PAR:1de7ec7edbadc0de\n'
    const { err } = hypva(['translate', file('panic', panic), '-l', layoutOf(boot('d61-2g-kaslr1')), '--to', 'phys'])
    expect(err).toMatch(/no address carries its tag 0xcbe700000000 .*; 3 carry another, mostly 0x89b380000000 /)
    const one = 'PC:000089b380ef1c00\n'
    expect(hypva(['translate', file('one', one), '-l', layoutOf(boot('d61-2g-kaslr1')), '--from', 'hyp']).err).toMatch(
      /^hypva: note: nothing was translated/,
    )
  })

  test('of several files, the one of another boot is named', () => {
    const own = boot('d61-2g-kaslr1')
    const right = own.pairs
      .filter(({ symbol }) => symbol.startsWith('__kvm_nvhe_'))
      .map(({ hyp_va, symbol }) => `${symbol} ${hyp_va}\n`)
      .join('')
    const [good, bad] = [file('good', right.repeat(400)), file('bad', log)]
    const run = (...args: string[]) => hypva(['translate', good, bad, '-l', layoutOf(own), '--from', 'hyp', ...args])
    const { err, code } = run()
    expect(err).toMatch(/^hypva: warning: \S*bad: the layout is of another boot: .*\n$/)
    expect(code).toBe(0)
    expect(run('--strict').code).toBe(1)
  })

  test('of a compressed file the counts are those of the whole', () => {
    const [plain, gz] = [file('whole', log), join(dir, 'whole.gz')]
    writeFileSync(gz, gzipSync(log))
    const run = (name: string) => hypva(['translate', name, '-l', layoutOf(boot('d61-2g-kaslr1')), '--from', 'hyp']).err
    expect(run(gz)).toMatch(/^hypva: warning: the layout is of another boot/)
    expect(run(gz)).toBe(run(plain))
  })

  test('a pipe that does not end hears of it before it waits, and once', () => {
    const { err } = hypva(['translate', '-l', layoutOf(boot('d61-2g-kaslr1')), '--from', 'hyp'], { input: log })
    expect(err).toMatch(/^hypva: warning: the layout is of another boot: .* \d+ carry another so far, .*\n$/)
  })

  test('39 bits: where the image is in the same place', () => {
    const [a, b] = [boot('c4k39-2g-kaslr'), boot('hyppanic-4k39-null')]
    const text = a.pairs
      .filter(({ symbol }) => symbol.startsWith('__kvm_nvhe_') && !/section|start|end/.test(symbol))
      .map(({ hyp_va, symbol }) => `${symbol} ${hyp_va}\n`)
      .join('')
    const { err } = hypva(['translate', file('39', text), '-l', layoutOf(b), '--from', 'hyp'])
    expect(err).toMatch(/its tag 0x6680000000 \(tag_val 0xcd\); .* mostly 0x4b00000000 \(tag_val 0x96\)/)
  })

  test('--unchecked, --from kernel and --to hyp say nothing of it', () => {
    const layout = layoutOf(boot('d61-2g-kaslr1'))
    for (const args of [['--unchecked'], ['--from', 'kernel'], ['--to', 'hyp']]) {
      expect(hypva(['translate', LOG, '-l', layout, ...args]).err).not.toContain('another boot')
    }
  })
})

/** The symbol table of the log's kernel, as another boot of it has it. */
function kallsymsFor(b: Boot): string {
  const by = BigInt(b.text_va) - BigInt(own.text_va)
  return fixture('traces/exec-6.1-kaslr.kallsyms.gz')
    .toString()
    .replace(/^ffff\w{12}(?=.*[^\]]$)/gm, (digits) => (BigInt(`0x${digits}`) + by).toString(16))
}

describe('the right layout is not doubted', () => {
  const right: [string, string][] = [
    ['exec-6.1-kaslr', 'exec-6.1-kaslr.log.gz'],
    ['ftrace-6.1', 'ftrace-6.1.function.txt.gz'],
    ['ftrace-6.1', 'ftrace-6.1.kvm-events.txt.gz'],
    ['exec-6.1-kaslr', 'hyptracing-7.3.txt.gz'],
    ...readdirSync(join(import.meta.dirname, '../fixtures/traces/made')).map((name): [string, string] => [
      'exec-6.1-kaslr',
      `made/${name}`,
    ]),
  ]
  test.each(right)('boot %s, trace %s', (name, trace) => {
    const layout = layoutOf(boot(name))
    const input = file('trace', fixture(`traces/${trace}`))
    const directions = [
      ['--from', 'hyp'],
      ['--to', 'kernel'],
      ['--to', 'phys'],
    ]
    for (const command of [['summary'], ...directions.map((direction) => ['translate', ...direction])]) {
      expect(hypva([...command, input, '-l', layout]).err).not.toContain('another boot')
    }
  })
})

describe('a symbol table of another boot', () => {
  const other = kallsymsFor(boot('d61-2g-kaslr1'))
  test('is refused by the image, and by the KASLR offset', () => {
    const kaslr = BigInt(own.text_va) - 0xffff_8000_0800_0000n
    const machine = ['layout', 'compute', '-m', '-', '--kaslr-offset', `0x${kaslr.toString(16)}`]
    const whole = JSON.parse(hypva(machine, { input: machineJson(own) }).out.toString())
    // Without image and KASLR offset the idmap page still tells, for the sake of the modules that such a layout names.
    for (const drop of [[], ['kaslrOffset'], ['image'], ['image', 'kaslrOffset']]) {
      const rest = Object.fromEntries(Object.entries(whole).filter(([key]) => !drop.includes(key)))
      const table = drop.length > 1 ? `${other}ffffcbe700000000 t probe\t[thing]\n` : other
      for (const command of [['translate', '--to', 'name'], ['translate', '--annotate', '--to', 'phys'], ['summary']]) {
        const { err, code, out } = hypva([
          ...command,
          LOG,
          '-l',
          file('l.json', JSON.stringify(rest)),
          '--symbols',
          file('other', table),
        ])
        expect(err).toMatch(/symbols of another kernel or another boot/)
        expect([code, out.length]).toEqual([2, 0])
      }
    }
  })
})
