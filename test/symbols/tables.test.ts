import { describe, expect, test } from 'vitest'
import {
  computeLayout,
  createNamer,
  createTranslator,
  formatName,
  type HypLayout,
  parseMachine,
  parseSymbols,
  type SymbolTable,
} from '../../src/index.ts'
import { cannotNameHyp } from '../../src/symbols/hyp-names.ts'
import { boot, fixture, machineJson } from '../fixtures.ts'

const raw = (table: SymbolTable, address: bigint, back = false) => {
  const found = back ? table.locateReturn(address) : table.locate(address)
  return found && formatName(found, { rawNames: true })
}
const kallsyms = fixture('traces/ftrace-6.1.kallsyms.gz')
const table = parseSymbols(kallsyms, 'kallsyms')
const b = boot('ftrace-6.1')
const layout: HypLayout = { ...computeLayout(parseMachine(machineJson(b))) }
const TEXT = BigInt(b.text_va)
const LINK = 0xffff800008000000n

/** The table at its link-time addresses, as text that `nm -n` would give. */
const systemMap = kallsyms
  .toString()
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => `${(BigInt(`0x${line.slice(0, 16)}`) - TEXT + LINK).toString(16)}${line.slice(16)}`)
  .join('\n')

describe('what the kernel prints is what the table says', () => {
  test('14418 names beside their addresses in the function tracer’s text', () => {
    const trace = fixture('traces/ftrace-6.1.function.txt.gz').toString()
    const printed = [...trace.matchAll(/([\w.]+\+0x\w+\/0x\w+) <([0-9a-f]{16})>/g)]
    expect(printed.length).toBe(14418)
    for (const [, name, address] of printed) expect(raw(table, BigInt(`0x${address}`))).toBe(name)
  })

  test('stack traces of the kvm events', () => {
    const trace = fixture('traces/ftrace-6.1.kvm-events.txt.gz').toString()
    const printed = [...trace.matchAll(/([\w.]+\+0x\w+\/0x\w+) <([0-9a-f]{16})>/g)]
    expect(printed.length).toBeGreaterThan(100)
    for (const [, name, address] of printed) expect(raw(table, BigInt(`0x${address}`))).toBe(name)
  })
})

describe('by hand', () => {
  const small = parseSymbols(
    `ffff800008000000 T _text
ffff800008010000 T __irqentry_text_start
ffff800008010000 T _stext
ffff800008010000 t handle_irq
ffff800008010040 W weak_one
ffff800008010040 t strong_one
ffff800008010080 t __kvm_nvhe_$x
ffff800008010080 t $x
ffff800008010090 A absolute
ffff8000080100a0 t __kvm_nvhe_handle_trap
ffff8000080100f0 d data
                 U undefined_one
ffff800008020000 B _end
ffffffe0deadb000 t mod_init\t[some_mod]
ffffffe0deadb100 t mod_exit\t[some_mod]
`,
    'by hand',
  )
  test.each([
    [0x00n, '_text+0x0/0x10000'],
    // Fewest underscores, then not weak; sizes to the next symbol at another address.
    [0x10000n, 'handle_irq+0x0/0x40'],
    [0x10041n, 'strong_one+0x1/0x60'],
    [0x10099n, 'strong_one+0x59/0x60'],
    [0x100a4n, '__kvm_nvhe_handle_trap+0x4/0x50'],
    [0x1ffffn, 'data+0xff0f/0xff10'],
    [0x20000n, undefined],
    [-1n, undefined],
  ])('%s', (offset, name) => {
    expect(raw(small, LINK + offset)).toBe(name)
  })

  test('return addresses belong to the function before', () => {
    expect(raw(small, LINK + 0x10040n, true)).toBe('handle_irq+0x40/0x40')
    expect(raw(small, LINK + 0x10041n, true)).toBe('strong_one+0x1/0x60')
    expect(raw(small, LINK, true)).toBeUndefined()
  })

  test('the mark, the module, raw names', () => {
    const at = (address: bigint) => formatName(small.locate(address)!)
    expect(at(LINK + 0x100a4n)).toBe('handle_trap+0x4/0x50 [nVHE]')
    expect(at(0xffffffe0deadb004n)).toBe('mod_init+0x4/0x100 [some_mod]')
    expect(at(0xffffffe0deadb104n)).toBe('mod_exit+0x4/0xf00 [some_mod]')
    expect(small.locate(0xffffffe0deadc000n)).toBeUndefined()
  })

  test('a kernel without KALLSYMS_ALL names nothing outside its text', () => {
    const text = parseSymbols(`ffff800008010000 T _stext\nffff800008020000 D _etext\nffff800008030000 T _sinittext
ffff800008030000 t start_kernel\nffff800008040000 T _einittext\n`)
    expect(raw(text, 0xffff80000801fff0n)).toBe('_stext+0xfff0/0x10000')
    expect(raw(text, 0xffff800008020010n)).toBeUndefined()
    expect(raw(text, 0xffff800008030010n)).toBe('start_kernel+0x10/0x10000')
    expect(raw(text, 0xffff800008040000n)).toBeUndefined()
  })
})

describe('formats', () => {
  const names = (other: SymbolTable, shift: bigint) => {
    for (let i = 0; i < table.starts.length; i += 7) {
      const address = table.starts[i]! + 4n
      expect(raw(other, address - shift)).toBe(raw(table, address))
    }
  }
  const shift = TEXT - LINK
  test('System.map', () => names(parseSymbols(systemMap), shift))
  test('CRLF, no newline at the end', () => names(parseSymbols(systemMap.replaceAll('\n', '\r\n')), shift))
  test('nm -S', () => names(parseSymbols(systemMap.replace(/^(\w{16}) /gm, '$1 0000000000000010 ')), shift))
  test('nm sorted by name', () => {
    const sorted = systemMap.split('\n').sort((x, y) => (x.slice(19) < y.slice(19) ? -1 : 1))
    const other = parseSymbols(sorted.join('\n'))
    // Names of one address have no order there; sizes and places are the same.
    for (let i = 0; i < table.starts.length; i += 7) {
      const found = other.locate(table.starts[i]! - shift)
      expect([found?.symbol.start, found?.symbol.size]).toEqual(
        ((own) => [own && own.symbol.start - shift, own?.symbol.size])(table.locate(table.starts[i]!)),
      )
    }
  })
  test('vmlinux', () => names(parseSymbols(elf(systemMap)), shift))
  test('a big-endian vmlinux', () => names(parseSymbols(elf(systemMap, false)), shift))

  test.each<[string, Uint8Array | string, RegExp]>([
    ['prose', 'ffff800008000000 is an address\nand this is no table\n', /no symbol table: expected/],
    ['a log', fixture('panics/p61-oops.txt'), /no symbol table/],
    ['hidden addresses', '0000000000000000 T _text\n0000000000000000 T _stext\n', /kptr_restrict/],
    ['user symbols', '0000000000401000 T main\n', /no symbols of a kernel/],
    ['empty', '', /no symbol table/],
    ['ELF cut in the header', elf('').subarray(0, 40), /cut short/],
    ['ELF cut behind it', elf(systemMap.slice(0, 4000)).subarray(0, 300), /cut short/],
    ['another machine', Uint8Array.from(elf(''), (x, i) => (i === 18 ? 62 : x)), /machine 62; arm64 is 183/],
    ['32 bits', Uint8Array.from(elf(''), (x, i) => (i === 4 ? 1 : x)), /32-bit ELF/],
    ['a core', fixture('evidence/c4k39/core.elf.gz'), /no symbol table|without sections/],
  ])('%s is refused in a line', (_, data, message) => {
    expect(() => parseSymbols(data, 'FILE')).toThrow(message)
    try {
      parseSymbols(data, 'FILE')
    } catch (error) {
      expect(error).toMatchObject({ code: 'HYPVA_SYMBOLS', message: expect.stringMatching(/^FILE: [^\n]*$/) })
    }
  })
})

describe('a name with control characters', () => {
  const GOOD = ['ffff800008000000 T _text', 'ffff800008010000 T do_one', 'ffff800008030000 T do_three']
  const at = (found: ReturnType<SymbolTable['locate']>) => found?.symbol.name
  // All of ASCII's, and those of Latin-1, which a terminal takes for ESC and another character; blanks end a name.
  const controls = [...Array(0x20).keys(), ...Array.from({ length: 0x21 }, (_, i) => 0x7f + i)].filter(
    (code) => code > 0 && ![9, 10, 11, 12, 13].includes(code),
  )

  test.each([
    ['text', (lines: string[]) => Buffer.from(`${lines.join('\n')}\n`, 'latin1')],
    ['ELF', (lines: string[]) => elf(lines.join('\n'))],
  ])('is left out of a table: %s', (_, make) => {
    for (const code of controls) {
      const character = String.fromCharCode(code)
      // TextDecoder's latin1 is windows-1252, which has letters for most of 0x80 to 0x9f.
      if (!/\p{Cc}/u.test(new TextDecoder('latin1').decode(Uint8Array.of(code)))) continue
      for (const name of [`do_${character}]0;x`, `${character}two`, `two${character}`]) {
        const [first, second, third] = GOOD as [string, string, string]
        const crafted = parseSymbols(make([first, second, `ffff800008020000 T ${name}`, third]))
        expect([code, at(crafted.locate(0xffff800008020004n))]).toEqual([code, 'do_one'])
        expect(at(crafted.locate(0xffff800008030000n))).toBe('do_three')
      }
    }
  })

  test('and so is that of a module', () => {
    const lines = [...GOOD, 'ffff800001000000 t one\t[good]', 'ffff800002000000 t two\t[b\x1bad]']
    const crafted = parseSymbols(lines.join('\n'))
    expect(at(crafted.locate(0xffff800001000000n))).toBe('one')
    expect(at(crafted.locate(0xffff800002000000n))).toBeUndefined()
  })

  test('names beyond ASCII stay', () => {
    for (const data of [Buffer.from('ffff800008000000 T _text\nffff800008010000 T na\xefve\n', 'latin1')]) {
      expect(at(parseSymbols(data).locate(0xffff800008010000n))).toBe('na\xefve')
    }
  })
})

/** A minimal ELF-64 with the symbols of a table, by elf(5). */
function elf(text: string, little = true): Uint8Array {
  const symbols = text.split('\n').filter((line) => /^\w{16} \w \S/.test(line))
  const strings = Buffer.from(`\0${symbols.map((line) => `${line.slice(19)}\0`).join('')}`, 'latin1')
  const symtab = Buffer.alloc(24 * (symbols.length + 1))
  const put = (buffer: Buffer, at: number, value: number | bigint, size: 1 | 2 | 4 | 8) => {
    if (size === 1) buffer.writeUInt8(Number(value), at)
    else if (size === 2) little ? buffer.writeUInt16LE(Number(value), at) : buffer.writeUInt16BE(Number(value), at)
    else if (size === 4) little ? buffer.writeUInt32LE(Number(value), at) : buffer.writeUInt32BE(Number(value), at)
    else little ? buffer.writeBigUInt64LE(BigInt(value), at) : buffer.writeBigUInt64BE(BigInt(value), at)
  }
  let name = 1
  symbols.forEach((line, i) => {
    const at = 24 * (i + 1)
    const type = line[17]!
    const binding = type === 'W' || type === 'w' ? 2 : type === type.toUpperCase() ? 1 : 0
    put(symtab, at, name, 4)
    put(symtab, at + 4, binding << 4, 1)
    put(symtab, at + 6, type === 'A' || type === 'a' ? 0xfff1 : 1, 2)
    put(symtab, at + 8, BigInt(`0x${line.slice(0, 16)}`), 8)
    name += line.length - 19 + 1
  })
  const header = Buffer.alloc(64)
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, little ? 1 : 2, 1])
  put(header, 16, 2, 2)
  put(header, 18, 183, 2)
  const sections = 64 + symtab.length + strings.length
  put(header, 0x28, sections, 8)
  put(header, 0x3a, 64, 2)
  put(header, 0x3c, 4, 2)
  const table = Buffer.alloc(4 * 64)
  const section = (index: number, type: number, flags: number, offset: number, size: number, link: number) => {
    put(table, index * 64 + 4, type, 4)
    put(table, index * 64 + 8, flags, 8)
    put(table, index * 64 + 0x18, offset, 8)
    put(table, index * 64 + 0x20, size, 8)
    put(table, index * 64 + 0x28, link, 4)
  }
  section(1, 1, 6, 0, 0, 0)
  section(2, 2, 0, 64, symtab.length, 3)
  section(3, 3, 0, 64 + symtab.length, strings.length, 0)
  return Buffer.concat([header, symtab, strings, table])
}

describe('placing a table', () => {
  const pc = TEXT + 0x11abcn
  const want = createNamer(layout, table).name(pc)
  test('run-time and link-time tables give the same names, kaslrOffset known or not', () => {
    expect(want).toMatch(/\+0x/)
    const map = parseSymbols(systemMap, 'System.map')
    expect(createNamer({ ...layout, kaslrOffset: TEXT - LINK }, map).name(pc)).toBe(want)
    const { kaslrOffset: _, ...without } = layout
    expect(createNamer(without, map).name(pc)).toBe(want)
    expect(createNamer(without, table).name(pc)).toBe(want)
  })

  test('of another boot, of another kernel: an error that says why', () => {
    const other = parseSymbols(fixture('traces/exec-6.1-kaslr.kallsyms.gz'), 'other')
    expect(() => createNamer({ ...layout, kaslrOffset: TEXT - LINK }, other)).toThrow(
      /^other: symbols of another kernel or another boot: _text is at 0xffffad4306200000, the image begins at 0xffffcbf1a8600000, and with the KASLR offset 0x\w+ it would be at 0x\w+\. Wanted/,
    )
    const longer = parseSymbols(systemMap.replace(/^ffff80000a010000 B _end$/m, 'ffff80000b010000 B _end'), 'longer')
    expect(() => createNamer(layout, longer)).toThrow(/_end is at 0x\w+ and the image ends at/)
    const part = parseSymbols('ffff900008010000 t something\n', 'part')
    expect(() => createNamer(layout, part)).toThrow(/^part: .* neither _text nor _stext/)
  })

  test('kernel, linear, hyp and link addresses resolve to one name; so does each space by itself', () => {
    const known = { ...layout, kaslrOffset: TEXT - LINK }
    const all = createNamer(known, table)
    const { pairs } = b
    let named = 0
    for (const { kernel_va, linear_va, hyp_va, phys } of pairs) {
      const name = all.name(BigInt(kernel_va))
      if (BigInt(kernel_va) < TEXT || BigInt(kernel_va) >= BigInt(b.end_va)) continue
      named++
      expect(name).toMatch(/\+0x/)
      const spaces = { image: kernel_va, linear: linear_va, hyp: hyp_va, link: `${BigInt(kernel_va) - TEXT + LINK}` }
      for (const [from, address] of Object.entries(spaces)) {
        // Under KASLR link-time addresses are those of vmalloc: they are named only when said to be what they are.
        expect(all.name(BigInt(address))).toBe(from === 'link' ? undefined : name)
        expect(createNamer(known, table, { from: from as 'hyp' }).name(BigInt(address))).toBe(name)
      }
      expect(createNamer(known, table, { from: 'phys' }).name(BigInt(phys))).toBe(name)
      expect(createNamer(known, table, { from: 'hyp' }).name(BigInt(kernel_va))).toBeUndefined()
    }
    expect(named).toBeGreaterThan(20)
  })

  test('the idmap page is named at its physical address; modules where they are', () => {
    const idmap = BigInt(b.idmap_addr)
    expect(createNamer(layout, table).name(idmap + 0x10n)).toBe(
      createNamer(layout, table).name(idmap + 0x10n + BigInt(b.kimage_voffset)),
    )
    const module = parseSymbols(`${(TEXT - 0x100000n).toString(16)} t probe\t[thing]\n`, 'modules')
    const both = createNamer(layout, [table, module])
    expect(both.name(TEXT - 0x100000n + 4n)).toBe('probe+0x4/0x1000 [thing]')
    expect(both.name(pc)).toBe(want)
  })

  test('without an image in the layout the missing field is named', () => {
    expect(() => createNamer({ tagLsb: 31, tagVal: 1n }, table)).toThrow(/image/)
  })
})

test('each hyp PC of the real execution log has the name that its EL2 page tables lead to', () => {
  const rows = fixture('traces/exec-6.1-kaslr.el2pcs.tsv')
    .toString()
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split('\t') as [string, string, string, string])
  const own = computeLayout(parseMachine(machineJson(boot('exec-6.1-kaslr'))))
  const namer = createNamer(own, parseSymbols(fixture('traces/exec-6.1-kaslr.kallsyms.gz')), { rawNames: true })
  const { entries, offsets, symbols, missed } = namer.nameBatch(BigUint64Array.from(rows, ([pc]) => BigInt(pc)))
  const names = [...entries].map((entry, i) => {
    const symbol = symbols.at(entry)
    return symbol && `${symbol.name}+0x${offsets[i]!.toString(16)}`
  })
  // The two rows of EL2's private mapping of the hardened vectors are in no layout.
  expect(names).toEqual(rows.map(([, kind, , name]) => (kind === 'linear' ? name : undefined)))
  expect(missed).toBe(2)
})

describe('tables that cannot name what EL2 runs', () => {
  const text = kallsyms.toString()
  const without = (lines: string, pattern: RegExp) =>
    lines
      .split('\n')
      .filter((line) => !pattern.test(line))
      .join('\n')
  /** As /proc/kallsyms was from 5.9 to 5.18: the hypervisor's symbols are left out, the stub in its text is not. */
  const host = parseSymbols(without(text, / __kvm_nvhe_/), 'host')
  /** As before 5.9: no prefix, and no second copy for VHE. */
  const plain = parseSymbols(
    without(text, / T (?:__kvm_hyp_vector|__guest_enter|__guest_exit|__kvm_vcpu_run|hyp_panic)$/).replaceAll(
      '__kvm_nvhe_',
      '',
    ),
    'plain',
  )
  const { hyp_va, kernel_va } = b.pairs.find(({ symbol }) => symbol === '__kvm_nvhe_hyp_panic')!
  const hyp = BigInt(hyp_va)
  const message =
    /^host: no symbols of the hypervisor \(__kvm_nvhe_…\) in it, so it cannot name hyp addresses: before Linux 5\.19 \/proc\/kallsyms leaves them out; System\.map and vmlinux of this kernel have them/
  const code = expect.objectContaining({ code: 'HYPVA_SYMBOLS' })

  test('the one that is tested has symbols of the host in the hyp text, and VHE’s outside of it', () => {
    const start = host.landmarks.get('__hyp_text_start')!
    expect(host.addressesOf('__hyp_stub_vectors')[0]!).toBeGreaterThan(start)
    expect(host.addressesOf('__kvm_hyp_vector')[0]!).toBeLessThan(start)
    expect(host.size).toBeGreaterThan(5000)
    expect(table.locate(BigInt(kernel_va))!.symbol.name).toBe('__kvm_nvhe_hyp_panic')
    expect(host.locate(BigInt(kernel_va))!.symbol.name).not.toContain('hyp_panic')
  })

  test.each([undefined, 'hyp'] as const)('from %s is an error, which says what can', (from) => {
    const make = () => createNamer(layout, host, from === undefined ? {} : { from })
    expect(make).toThrow(code)
    expect(make).toThrow(message)
    const hint = '; to name kernel addresses only, translate from kernel'
    if (from === undefined) expect(make).toThrow(hint)
    else expect(make).not.toThrow(hint)
    expect(() => createTranslator(layout, { from: 'hyp', to: 'kernel', symbols: host }).name(hyp)).toThrow(code)
  })

  test('of a kernel whose /proc/kallsyms has them it is not /proc/kallsyms that left them out', () => {
    const { generation: _, ...rest } = layout
    const says = (generation: HypLayout['generation']) =>
      cannotNameHyp([host], generation === undefined ? rest : { ...rest, generation })
    for (const generation of [undefined, '5.4', '5.9', '5.15'] as const) expect(says(generation)).toMatch(message)
    expect(says('7.0')).toMatch(
      /^host: no symbols .* hyp addresses: it is of a kernel without nVHE KVM, or filtered; System\.map/,
    )
    expect(says('7.0')).not.toContain('5.19')
  })

  test('kernel addresses it names, and with VHE all', () => {
    const address = host.addressesOf('kvm_vcpu_ioctl')[0]! + 4n
    expect(address).toBeGreaterThan(TEXT)
    expect(createNamer(layout, host, { from: 'kernel' }).name(address)).toMatch(/^kvm_vcpu_ioctl\+0x4\//)
    const { tagLsb: _, tagVal: __, vaMask: ___, hypPhysvirtOffset: ____, ...rest } = layout
    expect(createNamer({ ...rest, mode: 'vhe' }, host).name(address)).toMatch(/^kvm_vcpu_ioctl\+0x4\//)
  })

  test('beside one that can it is welcome', () => {
    expect(createNamer(layout, [host, table]).name(hyp)).toMatch(/^hyp_panic\+0x0\/0x\w+ \[nVHE\]$/)
  })

  test('before 5.9 the hyp text has the names as they are', () => {
    expect(createNamer(layout, plain).name(hyp)).toMatch(/^hyp_panic\+0x0\/0x\w+$/)
  })

  test('a part of a table: only of a kernel that keeps nothing back', () => {
    const lines = [`${TEXT.toString(16)} T _text`, `${BigInt(kernel_va).toString(16)} t hyp_panic`]
    const part = parseSymbols(lines.join('\n'), 'part')
    const named = (generation: HypLayout['generation']) => {
      const { generation: _, ...rest } = layout
      return createNamer(generation === undefined ? rest : { ...rest, generation }, part).name(hyp)
    }
    expect(named('5.6')).toMatch(/^hyp_panic\+0x0/)
    for (const generation of ['5.9', '5.15', undefined] as const) expect(() => named(generation)).toThrow(code)
  })
})
