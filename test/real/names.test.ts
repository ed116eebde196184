import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, test } from 'vitest'
import { hypva, scratch } from '../cli/hypva.ts'
import { type Boot, boot, fixture, machineJson } from '../fixtures.ts'

const dir = scratch()

/** Names by the table of a boot: a search of its lines, and the boot's own constants; no code of hypva. */
class Oracle {
  private readonly starts: bigint[] = []
  private readonly names = new Map<bigint, string>()
  private readonly known = new Map<bigint, string | undefined>()
  private readonly boot: Boot

  constructor(b: Boot, kallsyms: string) {
    this.boot = b
    // The kernel's table puts weak names last, then what its linker script provides, then many underscores.
    const rank = (name: string, type: string) =>
      (/[wW]/.test(type) ? 1000 : 0) +
      (/^__(start|stop|end)_|^__.*_(start|end)$/.test(name) ? 500 : 0) +
      /^_*/.exec(name)![0].length
    const ranks = new Map<bigint, number>()
    for (const line of kallsyms.split('\n')) {
      const [digits, type, name] = line.split(' ')
      if (name === undefined || /\$|hyp_section_|^__efistub_|^__crc_|^\.L/.test(name) || /[aAnN]/.test(type!)) continue
      const at = BigInt(`0x${digits}`)
      const have = this.names.get(at)
      if (have === undefined) this.starts.push(at)
      if (have !== undefined && rank(name, type!) >= ranks.get(at)!) continue
      this.names.set(at, name)
      ranks.set(at, rank(name, type!))
    }
    this.starts.sort((x, y) => (x < y ? -1 : 1))
  }

  private image(x: bigint): bigint {
    const { observed, kimage_voffset, memstart_addr, page_offset, text_va, idmap_addr } = this.boot
    const voffset = BigInt(kimage_voffset)
    if (x >> 55n !== 0n) {
      const phys = x - BigInt(page_offset) + BigInt(memstart_addr)
      const image = BigInt.asUintN(64, phys + voffset)
      return x >= BigInt(text_va) ? x : image
    }
    if (x >> 12n === BigInt(idmap_addr) >> 12n) return x + voffset
    if ((x & ~BigInt(observed.va_mask)) !== BigInt(observed.tag)) return 0n
    return BigInt.asUintN(64, x + BigInt(observed.hyp_physvirt_offset) + voffset)
  }

  name(x: bigint): string | undefined {
    if (!this.known.has(x)) this.known.set(x, this.find(this.image(x)))
    return this.known.get(x)
  }

  private find(image: bigint): string | undefined {
    if (image < BigInt(this.boot.text_va) || image >= BigInt(this.boot.end_va)) return undefined
    const next = this.starts.findIndex((start) => start > image)
    const start = this.starts[next - 1]!
    const name = this.names.get(start)!
    const mark = name.startsWith('__kvm_nvhe_') ? ' [nVHE]' : ''
    const place = `+0x${(image - start).toString(16)}/0x${(this.starts[next]! - start).toString(16)}`
    return `${name.replace(/^__kvm_nvhe_/, '')}${place}${mark}`
  }
}

const TOKEN = /(?<![0-9A-Za-z_])(0x[0-9a-f]{1,16}|[0-9a-f]{9,16})(?![0-9A-Za-z_])/g
const value = (token: string) => BigInt(`0x${token.replace('0x', '')}`)

const made = readdirSync(join(import.meta.dirname, '../fixtures/traces/made')).map((name) => `made/${name}`)

describe.each<[string, string[]]>([
  ['exec-6.1-kaslr', ['exec-6.1-kaslr.log.gz', 'hyptracing-7.3.txt.gz', ...made]],
  ['ftrace-6.1', ['ftrace-6.1.function.txt.gz', 'ftrace-6.1.kvm-events.txt.gz']],
])('traces of the boot %s', (name, traces) => {
  const layout = join(dir, `${name}.json`)
  const symbols = join(dir, `${name}.kallsyms.gz`)
  const kallsyms = fixture(`traces/${name}.kallsyms.gz`)
  const oracle = new Oracle(boot(name), kallsyms.toString())
  beforeAll(() => {
    const { out } = hypva(['layout', 'compute', '-m', '-'], { input: machineJson(boot(name)) })
    writeFileSync(layout, out)
    writeFileSync(symbols, gzipSync(kallsyms))
  })
  const run = (command: string, trace: string, ...args: string[]) =>
    hypva([command, '-l', layout, '--symbols', symbols, ...args], { input: fixture(`traces/${trace}`) })

  test.each(traces)('%s: each address its name, every other byte as it was', (trace) => {
    const text = fixture(`traces/${trace}`).toString('latin1')
    const { out, code, err } = run('translate', trace, '--to', 'name')
    expect(code).toBe(0)
    let named = 0
    const want = text.replace(TOKEN, (token) => {
      const found = oracle.name(value(token))
      if (found !== undefined) named++
      return found ?? token
    })
    expect(out.toString('latin1') === want).toBe(true)
    expect(err).toMatch(named > 0 ? /^$/ : /^hypva: note: nothing was translated: .*\n$/)
    // The trace events of 7.3 hold no addresses.
    if (!trace.startsWith('hyptracing')) expect(named).toBeGreaterThan(1)
  })

  test('annotated: the address translated, the name behind it', () => {
    const trace = traces[0]!
    const text = fixture(`traces/${trace}`).toString('latin1')
    const b = boot(name)
    const { out } = run('translate', trace, '--annotate', '--from', 'image', '--to', 'phys', '--stats')
    const want = text.replace(TOKEN, (token) => {
      const x = value(token)
      if (x < BigInt(b.text_va) || x >= BigInt(b.end_va)) return token
      const phys = BigInt.asUintN(64, x - BigInt(b.kimage_voffset)).toString(16)
      const prefix = token.startsWith('0x') ? '0x' : ''
      const digits = token.length - prefix.length === 16 ? phys.padStart(16, '0') : phys
      const found = oracle.name(x)
      return `${prefix}${digits}${found === undefined ? '' : ` <${found}>`}`
    })
    expect(out.toString('latin1') === want).toBe(true)
  })

  test('a summary counts what is there', () => {
    const trace = traces[0]!
    const tokens = [...fixture(`traces/${trace}`).toString('latin1').matchAll(TOKEN)].map(([token]) => value(token))
    const { out, code } = run('summary', trace, '--json', '--top', '100000')
    expect(code).toBe(0)
    const summary = JSON.parse(out.toString())
    expect(summary.addresses).toBe(tokens.length)
    const counts = new Map<string, number>()
    for (const token of tokens) {
      const found = oracle.name(token)?.replace(/\+0x\w+\/0x\w+/, '')
      if (found !== undefined) counts.set(found, (counts.get(found) ?? 0) + 1)
    }
    // Static functions of one name are several symbols.
    const got = new Map<string, number>()
    for (const { name: symbol, count } of summary.symbols) got.set(symbol, (got.get(symbol) ?? 0) + count)
    expect(got).toEqual(counts)
    expect(summary.named).toBe([...counts.values()].reduce((a, b) => a + b, 0))
    const b = boot(name)
    const image = tokens.filter((x) => x >= BigInt(b.text_va) && x < BigInt(b.end_va)).length
    expect(summary.regions.find(({ kind }: { kind: string }) => kind === 'image').count).toBe(image)
    const all = summary.regions.reduce((sum: number, { count }: { count: number }) => sum + count, summary.elsewhere)
    expect(all).toBe(tokens.length)
    expect(summary.symbols.map(({ count }: { count: number }) => count)).toEqual(
      summary.symbols.map(({ count }: { count: number }) => count).toSorted((x: number, y: number) => y - x),
    )
  })
})

test('a kernel oops: registers and all get names by link-time symbols, what has none stays', () => {
  const b = JSON.parse(fixture('panics/p61-oops.case.json').toString()) as Boot
  const own = BigInt(JSON.parse(fixture('evidence/d61-kaslr/case.json').toString()).text_va)
  const LINK = 0xffff800008000000n
  const kallsyms = fixture('evidence/d61-kaslr/kallsyms.txt.gz').toString()
  const map = kallsyms.replace(/^\w{16}/gm, (digits) => (BigInt(`0x${digits}`) - own + LINK).toString(16))
  const layout = join(dir, 'oops.json')
  writeFileSync(
    layout,
    hypva(['layout', 'compute', '-m', '-', '--kaslr-offset', `0x${(BigInt(b.text_va) - LINK).toString(16)}`], {
      input: machineJson(b),
    }).out,
  )
  writeFileSync(join(dir, 'System.map'), map)
  const oops = fixture('panics/p61-oops.txt').toString()
  // This oops prints its code addresses as names already; put one back as the number that it was.
  const [line] = map.split('\n').filter((symbol) => symbol.endsWith(' kvm_arch_vcpu_ioctl_run'))
  const address = BigInt(`0x${line!.slice(0, 16)}`) - LINK + BigInt(b.text_va) + 0xcn
  const text = oops.replace('pc : kvm_arch_vcpu_ioctl_run+0xc/0x800', `pc : ${address.toString(16)}`)
  const { out, err } = hypva(['translate', '-l', layout, '--symbols', join(dir, 'System.map'), '--to', 'name'], {
    input: text,
  })
  expect(err).toBe('')
  expect(out.toString()).toBe(oops)
})
