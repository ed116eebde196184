import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { computeLayout } from '../../src/layout/compute.ts'
import { formatLayout, parseLayout, parseMachine } from '../../src/layout/json.ts'
import { hypva, scratch } from '../cli/hypva.ts'
import { boot, fixture, machineJson } from '../fixtures.ts'
import { fromLatin1, rewriteTextOracle } from '../oracle.ts'

const dir = scratch()

/** kern_hyp_va's inverse for the image of a boot, from what its memory held: no layout code. */
function hypToImage(name: string) {
  const { observed, kimage_voffset, text_va, end_va } = boot(name)
  return (x: bigint) => {
    const image = BigInt.asUintN(64, x + BigInt(observed.hyp_physvirt_offset) + BigInt(kimage_voffset))
    return image >= BigInt(text_va) && image < BigInt(end_va) ? image : undefined
  }
}

describe.each([
  ['exec-6.1-kaslr', 'exec-6.1-kaslr.log.gz'],
  ['ftrace-6.1', 'ftrace-6.1.function.txt.gz'],
  ['ftrace-6.1', 'ftrace-6.1.kvm-events.txt.gz'],
  ['exec-6.1-kaslr', 'hyptracing-7.3.txt.gz'],
])('boot %s, trace %s', (name, trace) => {
  const layoutFile = join(dir, `${name}.json`)
  const original = fixture(`traces/${trace}`)
  const b = boot(name)
  beforeAll(() => writeFileSync(layoutFile, formatLayout(computeLayout(parseMachine(machineJson(b))))))
  const translate = (input: Buffer, from: string, to: string, ...more: string[]) => {
    const { code, out, err } = hypva(['translate', '-l', layoutFile, '--from', from, '--to', to, ...more], { input })
    // Where there is nothing to translate, that is said.
    expect(err).toMatch(out.equals(input) ? /^(hypva: note: nothing was translated: .*\n)?$/ : /^$/)
    expect(code).toBe(0)
    return out
  }

  test('kernel → hyp: every token as its formula says, every other byte unchanged', () => {
    const { observed, memstart_addr, page_offset, dram } = b
    const hyp = (linear: bigint) => (linear & BigInt(observed.va_mask)) | BigInt(observed.tag)
    const linearOf = (pa: bigint) => BigInt.asUintN(64, pa - BigInt(memstart_addr)) | BigInt(page_offset)
    const want = rewriteTextOracle(fromLatin1(original), (x) => {
      if (x >= BigInt(b.text_va) && x < BigInt(b.end_va)) {
        return hyp(linearOf(BigInt.asUintN(64, x - BigInt(b.kimage_voffset))))
      }
      const inBank = dram.some(
        ({ start, end }) => x >= linearOf(BigInt(start)) && x - linearOf(BigInt(start)) < BigInt(end) - BigInt(start),
      )
      return inBank ? hyp(x) : undefined
    })
    const got = translate(original, 'kernel', 'hyp')
    expect(fromLatin1(got)).toBe(want.text)
    if (!trace.startsWith('hyptracing')) expect(want.translated).toBeGreaterThan(100)
    // Where the trace holds no hyp address of its own, the way back gives the input.
    if (!trace.startsWith('exec')) expect(translate(got, 'hyp', 'kernel').equals(original)).toBe(true)
  })

  test('linear addresses go there and back', () => {
    const text = Buffer.from(b.pairs.map(({ symbol, linear_va }) => `${symbol}: ${linear_va}\r\n`).join(''))
    const hyp = translate(text, 'kernel', 'hyp')
    expect(hyp.toString()).toBe(
      b.pairs.map(({ symbol, hyp_va }) => `${symbol}: 0x${hyp_va.slice(2).padStart(16, '0')}\r\n`).join(''),
    )
    expect(translate(hyp, 'hyp', 'linear').equals(text)).toBe(true)
  })

  test('hyp → kernel gives image addresses where the oracle does', () => {
    const oracle = hypToImage(name)
    const layout = parseLayout(formatLayout(computeLayout(parseMachine(machineJson(b)))))
    expect(layout.image).toBeDefined()
    const want = rewriteTextOracle(fromLatin1(original), oracle)
    expect(fromLatin1(translate(original, 'hyp', 'image'))).toBe(want.text)
  })
})

test('the hyp PCs of the execution log come out inside the symbols named beside them', () => {
  const rows = fixture('traces/exec-6.1-kaslr.el2pcs.tsv')
    .toString()
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split('\t'))
  const kallsyms = fixture('traces/exec-6.1-kaslr.kallsyms.gz').toString().split('\n')
  const address = new Map(kallsyms.map((line) => [line.split(' ')[2]!, BigInt(`0x${line.split(' ')[0] || 0}`)]))
  const layoutFile = join(dir, 'pcs.json')
  writeFileSync(layoutFile, formatLayout(computeLayout(parseMachine(machineJson(boot('exec-6.1-kaslr'))))))
  const pcs = rows.map(([pc]) => pc).join('\n')
  const { out } = hypva(['translate', '-l', layoutFile, '--from', 'hyp', '--to', 'kernel'], { input: pcs })
  const translated = out.toString().split('\n')
  let linear = 0
  for (const [i, [pc, kind, image, symbol]] of rows.entries()) {
    if (kind === 'linear') {
      linear++
      expect(translated[i]).toBe(image)
      const [name, offset] = symbol!.split('+') as [string, string]
      expect(BigInt(translated[i]!) - BigInt(offset)).toBe(address.get(name))
    } else {
      expect(translated[i]).toBe(pc)
    }
  }
  expect(linear).toBeGreaterThan(100)
})

test('the bundled sample is a cut of the real trace, its layout what the machine file gives', () => {
  const real = fixture('traces/exec-6.1-kaslr.log.gz')
  const { out } = hypva(['layout', 'compute', '-m', 'samples/exec-6.1.machine.json'])
  expect(out.toString()).toBe(fixture('../../samples/exec-6.1.layout.json').toString())
  expect(real.includes(fixture('../../samples/exec-6.1.log'))).toBe(true)
  const { observed } = boot('exec-6.1-kaslr')
  expect(parseLayout(out.toString())).toMatchObject({
    tagLsb: observed.tag_lsb,
    tagVal: BigInt(observed.tag_val),
    hypPhysvirtOffset: BigInt(observed.hyp_physvirt_offset),
  })
})
