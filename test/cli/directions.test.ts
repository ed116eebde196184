import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createTranslator, parseLayout } from '../../src/index.ts'
import { boot, fixture, machineJson } from '../fixtures.ts'
import { hypva, scratch } from './hypva.ts'

const dir = scratch()
const b = boot('exec-6.1-kaslr')
const LAYOUT = join(dir, 'layout.json')
// Where Debian's 6.1 is linked.
const KASLR = BigInt(b.text_va) - 0xffff_8000_0800_0000n
writeFileSync(
  LAYOUT,
  hypva(['layout', 'compute', '-m', '-', '--kaslr-offset', `0x${KASLR.toString(16)}`], { input: machineJson(b) }).out,
)
const fields = JSON.parse(readFileSync(LAYOUT, 'utf8'))

/** A layout file without some fields. */
function without(...names: string[]): string {
  const rest = Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)))
  const file = join(dir, `without-${names.join('-')}.json`)
  writeFileSync(file, JSON.stringify(rest))
  return file
}

// All by the boot's own constants: an address of the image in every space.
const { hyp_va, kernel_va, linear_va, phys } = b.pairs.find(({ symbol }) => symbol === '__kvm_nvhe_handle_trap')!
const wide = (x: string) => x.slice(2).padStart(16, '0')
const link = (BigInt(kernel_va) - KASLR).toString(16)
const TEXT = `${wide(hyp_va)} ${wide(linear_va)} ${wide(kernel_va)}\n`
const SPACES = { kernel: kernel_va, linear: linear_va, image: kernel_va, link, phys } as const

const translate = (args: string[], input: string | Uint8Array) => hypva(['translate', '-l', LAYOUT, ...args], { input })

test('the help says in a sentence each what --from, --to, --strict and --text do', () => {
  const { out, code } = hypva(['translate', '--help'])
  const help = out.toString().replace(/\s+/g, ' ')
  expect(code).toBe(0)
  for (const text of [
    '--from <space> the space of the addresses (default: kernel with --to hyp, otherwise both kernel and hyp)',
    '--to <space> the space to translate to, or name for symbol names (default: hyp; with --from hyp: kernel)',
    '--strict exit with 1 if a number where the layout expects an address does not translate, or if the layout is of another boot',
    '--text read the input as text even if it looks like something else',
  ]) {
    expect(help).toContain(text)
  }
})

describe('without --from', () => {
  test.each(Object.entries(SPACES))('--to %s takes kernel and hyp addresses alike', (to, value) => {
    const { out, err, code } = translate(['--to', to], TEXT)
    expect(out.toString()).toBe(`${wide(value.startsWith('0x') ? value : `0x${value}`)} `.repeat(3).replace(/ $/, '\n'))
    expect([err, code]).toEqual(['', 0])
    const words = BigUint64Array.of(BigInt(hyp_va), BigInt(linear_va), BigInt(kernel_va))
    const raw = translate(['--to', to, '--format', 'u64le'], new Uint8Array(words.buffer)).out
    expect([...new BigUint64Array(new Uint8Array(raw).buffer)]).toEqual(
      Array(3).fill(BigInt(`0x${wide(value.startsWith('0x') ? value : `0x${value}`)}`)),
    )
  })

  test('--to hyp, which is the default, takes kernel addresses', () => {
    for (const args of [[], ['--to', 'hyp']]) {
      expect(translate(args, TEXT).out.toString()).toBe(`${wide(hyp_va)} `.repeat(3).replace(/ $/, '\n'))
      expect(translate(args, `${hyp_va}\n`).err).toMatch(/^hypva: note: nothing was translated: /)
    }
  })

  test('what only one of the two lacks is said, and the other is translated', () => {
    const noLinear = without('pageOffset', 'physOffset')
    const { out, err, code } = hypva(['translate', '-l', noLinear, '--to', 'phys'], { input: TEXT })
    // Without the linear map hyp addresses are still physical ones less hyp_physvirt_offset, and the image has its own.
    expect(out.toString()).toBe(`${wide(phys)} ${wide(linear_va)} ${wide(phys)}\n`)
    expect([err, code]).toEqual(['', 0])
    const noHyp = without('pageOffset', 'physOffset', 'hypPhysvirtOffset')
    const half = hypva(['translate', '-l', noHyp, '--to', 'image'], { input: TEXT })
    expect(half.out.toString()).toBe(`${wide(hyp_va)} ${wide(linear_va)} ${wide(kernel_va)}\n`)
    expect(half.err).toMatch(
      /^hypva: note: hyp addresses are not translated: translating hyp to image addresses needs .*physOffset.*\n$/,
    )
    expect(half.code).toBe(0)
    // Two places in memory have one hyp address here: the kernel's are translated all the same, as before.
    const broken = join(dir, 'broken.json')
    writeFileSync(
      broken,
      '{"format":"hypva-layout/1","tagLsb":30,"tagVal":"0x1","pageOffset":"0xffff000000000000","physOffset":"0x0","dram":[{"start":"0x0","end":"0x80000000"}]}',
    )
    const ambiguous = hypva(['translate', '-l', broken, '--to', 'phys'], { input: '0xffff000000000123\n' })
    expect(ambiguous.out.toString()).toBe('0x0000000000000123\n')
    expect(ambiguous.err).toMatch(
      /^hypva: note: hyp addresses are not translated: layout: hyp addresses .* would translate to two places in memory/,
    )
    expect(ambiguous.code).toBe(0)
    const neither = hypva(['translate', '-l', without('image'), '--to', 'image'], { input: TEXT })
    expect(neither.err).toMatch(/^hypva: translating kernel to image addresses needs a field .*: image \(.*\n$/)
    expect(neither.code).toBe(2)
  })

  test('--annotate names both', () => {
    const kallsyms = join(dir, 'kallsyms')
    writeFileSync(kallsyms, fixture('traces/exec-6.1-kaslr.kallsyms.gz'))
    const { out } = translate(['--to', 'phys', '--annotate', '--symbols', kallsyms], TEXT)
    expect(out.toString()).toMatch(/^(\w{16} <handle_trap\+0x0\/0x\w+ \[nVHE\]>[ \n]){3}$/)
  })

  test('in the library', async () => {
    const layout = parseLayout(readFileSync(LAYOUT, 'utf8'))
    for (const [to, value] of Object.entries(SPACES)) {
      const translator = createTranslator(layout, { to: to as keyof typeof SPACES })
      const want = BigInt(value.startsWith('0x') ? value : `0x${value}`)
      expect(translator.from).toBeUndefined()
      for (const x of [hyp_va, kernel_va, linear_va]) {
        expect(translator.translate(BigInt(x))).toBe(want)
        expect(translator.explain(BigInt(x))).toMatchObject({ result: want, from: x === hyp_va ? 'hyp' : 'kernel' })
      }
      expect(() => translator.translate(0x9999_0000_0000n)).toThrow(
        /^0x999900000000: tag 0x999900000000, linear memory has 0x89b380000000/,
      )
      expect(() => translator.translate(0xffff_0000_0000_0000n)).toThrow(/linear map, but no DRAM/)
    }
    expect(createTranslator(layout).from).toBe('kernel')
    expect(createTranslator(layout, { from: 'kernel', to: 'kernel' }).tryTranslate(BigInt(hyp_va))).toBeUndefined()
    const { tagLsb: _l, tagVal: _v, vaMask: _m, hypPhysvirtOffset: _o, hypVaBits: _b, ...rest } = layout
    expect(createTranslator({ ...rest, mode: 'vhe' }, { to: 'phys' }).from).toBe('kernel')
  })
})

describe('a whole input without an address of the source space', () => {
  const log = fixture('traces/exec-6.1-kaslr.log.gz')
  const none = 'one 0x1234 two\n'

  test('that is said, with what the input begins with, and the exit code stays', () => {
    const note = (args: string[], input: string | Uint8Array) => {
      const { err, code, out } = translate(args, input)
      expect(code).toBe(0)
      expect(out.equals(Buffer.from(input))).toBe(true)
      return err
    }
    const nothing = 'hypva: note: nothing was translated: the input holds no'
    expect(note([], none)).toBe(`${nothing} kernel address of this layout\n`)
    expect(note(['--to', 'kernel'], none)).toBe(`${nothing} kernel or hyp address of this layout\n`)
    expect(note(['--from', 'phys', '--to', 'hyp'], none)).toBe(`${nothing} phys address of this layout\n`)
    expect(note([], `${hyp_va} ${hyp_va}\n`)).toBe(
      `${nothing} kernel address of this layout; its beginning has 2 numbers that are hyp addresses of it: --from hyp --to kernel translates them\n`,
    )
    expect(note(['--from', 'hyp'], `${kernel_va}\n`)).toBe(
      `${nothing} hyp address of this layout; its beginning has 1 number that is a kernel address of it: --from kernel translates them\n`,
    )
    expect(note(['--to', 'phys'], `0x${link}\n`)).toMatch(
      /1 number that is a link address of it: --from link translates them\n$/,
    )
    const words = BigUint64Array.of(BigInt(hyp_va), 5n)
    expect(note(['--format', 'u64le'], new Uint8Array(words.buffer))).toMatch(/1 number that is a hyp address of it/)
    expect(note(['--format', 'u64be'], Buffer.from(new Uint8Array(words.buffer)).swap64())).toMatch(
      /1 number that is a hyp address of it/,
    )
    const summary = hypva(['summary', '-l', LAYOUT, '--from', 'phys'], { input: none })
    expect(summary.err).toMatch(/^hypva: note: the input holds no phys address: /)
  })

  test('in a file that jobs share, too', () => {
    const file = join(dir, 'large')
    writeFileSync(file, Buffer.concat(Array(3).fill(Buffer.alloc(1 << 20, `${hyp_va} and so on\n`))))
    const { err, code } = hypva(['translate', file, '-l', LAYOUT, '-o', join(dir, 'out'), '--jobs', '2'])
    expect(err).toMatch(/^hypva: note: nothing was translated: .* \d{4} numbers that are hyp addresses of it: .*\n$/)
    expect(code).toBe(0)
  })

  test('where hyp addresses begin at 0, numbers stay numbers unless --from hyp asks for them', () => {
    const zero = join(dir, 'zero.json')
    const made = hypva(['layout', 'compute', '-m', '-'], { input: machineJson(boot('c4k39-lay-tag-zero')) })
    writeFileSync(zero, made.out)
    const numbers = 'count=0x1 irq 0x20 size 0x1000\n'
    for (const to of ['phys', 'kernel', 'linear']) {
      const { out, err } = hypva(['translate', '-l', zero, '--to', to], { input: numbers })
      expect(out.toString()).toBe(numbers)
      expect(err).toMatch(/^hypva: note: hyp addresses of this layout begin at 0 and look like any number: --from hyp/)
    }
    const asked = hypva(['translate', '-l', zero, '--from', 'hyp', '--to', 'phys'], { input: numbers })
    expect(asked.out.toString()).not.toBe(numbers)
  })

  test('nothing is said of an empty input, nor where something translated', () => {
    expect(translate([], '').err).toBe('')
    expect(translate([], log).err).toBe('')
    const some = join(dir, 'some')
    writeFileSync(some, `${kernel_va}\n`)
    expect(hypva(['translate', some, '-', '-l', LAYOUT], { input: none }).err).toBe('')
  })
})
