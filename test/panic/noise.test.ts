import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DecodedPanic, decodePanics, parseSymbols } from '../../src/index.ts'
import { fixture } from '../fixtures.ts'

const text = (name: string) => fixture(`panics/${name}.txt`).toString('latin1')
const LOGS = ['p73-stackoverflow2', 'p612-dabt-max-va52', 'p61-prot-host-hypmem', 'hyppanic-4k39-null'].map(text)

/** What was decoded, less where it stood. */
const gist = (panics: readonly DecodedPanic[]) =>
  panics.map(({ printed: { firstLine: _, lastLine: __, ...printed }, ...rest }) => ({ ...rest, printed }))

const lines = (log: string) => log.split('\n')
const clean = LOGS.map((log) => gist(decodePanics(log)))

describe.each(LOGS.map((log, i) => [i, log] as const))('log %i', (i, log) => {
  const want = clean[i]!
  test.each<[string, (line: string) => string]>([
    ['CRLF', (line) => `${line}\r`],
    ['ANSI colours', (line) => `\u001b[0;32m${line.replace(']', ']\u001b[0m')}\u001b[33m\u001b[0m`],
    ['a journal', (line) => `Nov 22 23:55:01 host kernel: ${line.replace(/^\[ *[\d.]+\] /, '')}`],
    [
      'a journal of a host with an accent',
      (line) => `Nov 22 23:55:01 hôte kernel: ${line.replace(/^\[[^\]]*\] /, '')}`,
    ],
    ['a journal with microseconds', (line) => `2026-11-22T23:55:01.123456+0000 host kernel[1]: ${line}`],
    ['levels and callers', (line) => `<3>${line.replace(/^(\[ *[\d.]+\])/, '$1[  T426]')}`],
    ['a quoted mail', (line) => `> ${line}`],
    ['dmesg -T', (line) => line.replace(/^\[ *[\d.]+\]/, '[Sun Nov 22 23:55:01 2026]')],
  ])('%s', (_, dress) => {
    expect(gist(decodePanics(lines(log).map(dress).join('\n')))).toEqual(want)
  })

  test('a journal of a host with an accent, in Latin-1', () => {
    const dressed = lines(log).map((line) => `Nov 22 23:55:01 h\xf4te kernel: ${line}`)
    expect(gist(decodePanics(Buffer.from(dressed.join('\n'), 'latin1')))).toEqual(want)
  })

  test('lines of other CPUs between its own, an oops among them', () => {
    const others = lines(text('p61-oops')).filter((line) => line.startsWith('[') && !/pgtable|ainted/.test(line))
    const mixed = lines(log).flatMap((line, n) => [line, others[n % others.length]!, '[   13.0] random: crng done'])
    expect(gist(decodePanics(mixed.join('\n')))).toEqual(want)
  })

  test('rubbish around it', () => {
    const rubbish = Buffer.from(Array.from({ length: 5000 }, (_, n) => (n * 7919 + (n >> 3)) & 0xff)).toString('latin1')
    expect(gist(decodePanics(`${rubbish}\n${log}\n${rubbish}`))).toEqual(want)
  })

  test('cut anywhere it still decodes, and says nothing that the whole log does not say', () => {
    const all = lines(log)
    const from = all.findIndex((line) => line.includes('nVHE hyp'))
    const until = all.findIndex((line) => line.includes('VCPU:')) + 1
    for (let cut = from + 1; cut <= until; cut++) {
      const got = decodePanics(all.slice(0, cut).join('\n'))
      expect(got.length).toBe(1)
      expect(want[0]!.printed).toMatchObject(registersOf(got[0]!))
    }
    // The other half: the end repeats the registers, so that the first panic's are there as long as it is the only one.
    if (want.length > 1) return
    for (let cut = from + 1; cut < until; cut++) {
      const got = decodePanics(all.slice(cut).join('\n'))
      expect(got.length).toBe(1)
      expect(want[0]!.printed).toMatchObject(registersOf(got[0]!))
    }
  })

  test('cut at any byte', () => {
    const values = new Set(want.flatMap(({ printed }) => Object.values(registersOf({ printed } as DecodedPanic))))
    const begin = log.indexOf('nVHE hyp')
    const end = log.indexOf('CPU features')
    fc.assert(
      fc.property(fc.integer({ min: begin, max: end }), (at) => {
        for (const panic of decodePanics(log.slice(0, at))) {
          for (const value of Object.values(registersOf(panic))) expect(values).toContain(value)
        }
      }),
      { numRuns: 300 },
    )
  })
})

function registersOf({ printed }: DecodedPanic): Record<string, bigint> {
  const names = ['ps', 'pc', 'esr', 'far', 'hpfar', 'par', 'vcpu', 'hypOffset', 'kaslrOffset', 'physOffset'] as const
  return Object.fromEntries(names.flatMap((name) => (printed[name] === undefined ? [] : [[name, printed[name]]])))
}

test.each(['p73-stackoverflow2', 'hyppanic-4k39-null', 'p61-prot-host-hypmem'])(
  '%s without its Hyp Offset line: where it was, less PC',
  (name) => {
    const [whole] = decodePanics(text(name)) as [DecodedPanic]
    const cut = text(name).replace(/^.*Hyp Offset:.*$/gm, '')
    const [panic] = decodePanics(cut) as [DecodedPanic]
    expect(panic.printed.hypOffset).toBeUndefined()
    expect(panic.notes).toEqual([
      `Hyp Offset is not in the log; hypva computes 0x${whole.printed.hypOffset!.toString(16)} from the address of the panic minus PC`,
    ])
    expect(panic.pc).toEqual(whole.pc)
    expect(panic.layout).toEqual(whole.layout)
    // From EL1 there is no such thing.
    const other = decodePanics(cut.replace(/PS:(\w+)9 /g, 'PS:$15 ')) as [DecodedPanic]
    expect(other[0].notes).toEqual([])
  },
)

test('of a line with control characters, or mostly foreign bytes, no fact of the layout is taken', () => {
  const log = text('hyppanic-6.1-bug')
  const [alone] = decodePanics(log)
  const mode = 'kvm [1]: VHE mode initialized successfully\n'
  for (const noise of [`\0${mode}`, `\x7f${mode}`, `${'\u00ff'.repeat(60)} ${mode}`]) {
    expect(decodePanics(Buffer.from(`${noise}${log}`, 'latin1'))[0]!.layout).toEqual(alone!.layout)
  }
  const offset = '[\0  5.404865] Kernel Offset: 0x300ad8200000 from 0xffff800008000000\n'
  expect(decodePanics(`${offset}${log}`)[0]!.layout).toEqual(alone!.layout)
  expect(decodePanics(`caf\u00e9 ${mode}${log}`)[0]!.layout.mode).toBe('vhe')
})

test('what is not known comes with what to supply, and never with an option of the command line', () => {
  const panics = LOGS.flatMap((log) => decodePanics(log.replace(/^.*(?:Hyp|Kernel) Offset:.*$/gm, '')))
  for (const { unknown, needs, diagnoses } of panics) {
    expect(needs).toHaveLength(unknown.length)
    unknown.forEach((text, i) => {
      const supply = /supply (?:a )?(layout|symbols)/.exec(text)?.[1]
      expect(needs[i]).toBe(supply)
    })
    expect([...unknown, ...diagnoses.map(({ text }) => text)].join('\n')).not.toMatch(/(?:^|[ (`])--?[a-z]/m)
  }
  expect(new Set(panics.flatMap(({ needs }) => needs))).toContain('layout')
})

test('two panics of one log stay two, and the repetition at its end is none', () => {
  const [first, second, ...more] = decodePanics(text('p612-dabt-max-va52'))
  expect(more).toEqual([])
  expect(first!.printed).toMatchObject({ firstLine: 4, lastLine: 16, kind: 'panic' })
  expect(second!.printed).toMatchObject({
    firstLine: 37,
    lastLine: 47,
    kind: 'BUG',
    place: 'arch/arm64/kvm/hyp/nvhe/hyp-main.c:509',
  })
  expect(second!.printed.hypOffset).toBe(first!.printed.hypOffset)
})

test('two CPUs that panic at once, line by line in turn', () => {
  const head = (name: string) => lines(text(name)).slice(3, 15)
  const [a, b] = [head('p61-brk800-vcpurun'), head('p61-udf-vcpurun')]
  const mixed = a.flatMap((line, i) => [line, b[i]!])
  // The blocks of registers have no PID: in the order of the headers, each fits its own.
  const apart = [...mixed.filter((line) => line.includes('kvm [')), ...a.slice(-4), ...b.slice(-4)]
  const got = decodePanics(apart.join('\n'))
  expect(got.map(({ printed }) => [printed.pid, printed.kind, printed.pc])).toEqual([
    [102, 'BUG', 0x82c060ef0424n],
    [101, 'panic', 0x849f20ef0424n],
  ])
  expect(got.map(({ backtrace }) => backtrace.length)).toEqual([4, 4])
})

test('a second CPU that got no further than its header does not take the repetition at the end', () => {
  const all = lines(text('p61-brk800-vcpurun'))
  const end = all.findIndex((line) => line.includes('end Kernel panic'))
  const second = '[    4.4] kvm [103]: nVHE hyp BUG at: arch/arm64/kvm/hyp/nvhe/mm.c:77!'
  const got = decodePanics([...all.slice(0, end), second, ...all.slice(end)].join('\n'))
  expect(got.map(({ printed }) => [printed.pid, printed.pc])).toEqual([
    [102, 0x82c060ef0424n],
    [103, undefined],
  ])
})

test('symbols that begin where the kernel does, but name other things than the log: another kernel', () => {
  const map = (shift: bigint) =>
    parseSymbols(
      [
        'ffff800008000000 T _text',
        ...['hyp_panic 950', '__kvm_vcpu_run 420', 'handle___kvm_vcpu_run 2200', 'handle_trap 2520'].map((entry) => {
          const [name, low] = entry.split(' ')
          return `${(0xffff800008cf0000n + BigInt(`0x${low}`) + shift).toString(16)} t __kvm_nvhe_${name}`
        }),
        'ffff80000a010000 B _end',
      ].join('\n'),
      'map',
    )
  const log = text('p61-brk800-vcpurun')
  expect(() => decodePanics(log, { symbols: [map(0x400000n)] })).toThrow(
    /^map: symbols of another kernel: 0x\w+ is .* there, and __kvm_nvhe_\S+ in the log$/,
  )
  // Names that agree in part are of this kernel: this table is a part of it.
  expect(decodePanics(log, { symbols: [map(0n)] })[0]!.pc!.name).toMatch(/^__kvm_vcpu_run\+0x4\/0x530 \[nVHE\]$/)
})

test('two boots in one log keep their offsets apart', () => {
  const boot = (name: string) => `[    0.000000] Linux version 6.1.0-56-arm64\n${text(name)}`
  const got = decodePanics(boot('p61-brk800-vcpurun') + boot('p61-udf-vcpurun'))
  expect(got.map(({ printed }) => printed.kaslrOffset)).toEqual([0x415483600000n, 0x2035ac600000n])
  expect(got.map(({ pc }) => pc!.link)).toEqual([0xffff800008cf0424n, 0xffff800008cf0424n])
})

describe('what is no hyp panic', () => {
  test.each([
    ['an oops', text('p61-oops')],
    ['a sysrq crash', text('p61-sysrq')],
    ['a hang', text('p612-missed-khv')],
    ['nothing', ''],
    [
      'the source that prints it',
      'kvm_err("nVHE hyp panic at: [<%016llx>] %pB!\\n", addr);\nHYP panic:\\nPS:%08llx PC:%016llx',
    ],
    ['a kallsyms', fixture('evidence/c4k39/kallsyms.txt.gz').toString()],
    ['a trace', fixture('traces/exec-6.1-kaslr.log.gz').toString().slice(0, 200_000)],
    ['a boot log', fixture('evidence/d73-a57/dmesg.txt').toString()],
  ])('%s', (_, log) => {
    expect(decodePanics(log)).toEqual([])
  })

  test('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4000 }), (bytes) => {
        expect(decodePanics(bytes)).toEqual([])
      }),
      { numRuns: 200 },
    )
  })
})

describe('other forms that kernels print', () => {
  const block = `Kernel panic - not syncing: HYP panic:
PS:600003c5 PC:0000ffffaf2a0000 ESR:96000004
FAR:0000000000000010 HPFAR:0000000000000000 PAR:0000000000000000
VCPU:          (null)
`
  test('before 5.12 there is the block alone, with eight digits of ESR and %p', () => {
    const [panic] = decodePanics(`[  1.0] ${block.replace('PS:600003c5', 'PS:600003c9')}`) as [DecodedPanic]
    expect(panic.printed).toMatchObject({ esr: 0x96000004n, vcpu: 0n, pc: 0xffffaf2a0000n })
    expect(panic.unknown[0]).toContain('"Hyp Offset:" is not in the log')
  })

  test.each([
    ['00000000a81c3f5e', 0xa81c3f5en],
    ['(____ptrval____)', undefined],
  ])('from 4.15 on %%p prints a hash, which is no address: %s', (printed, value) => {
    const text = block.replace('         (null)', printed).replace('PS:600003c5', 'PS:600003c9')
    const [panic] = decodePanics(text) as [DecodedPanic]
    expect(panic.printed).toMatchObject({ vcpuHashed: true })
    expect(panic.printed.vcpu).toBe(value)
    expect(panic.vcpu?.hyp).toBeUndefined()
    if (value !== undefined) expect(panic.vcpu!.text).toMatch(/no address.*a hash/)
    else expect(panic.unknown.join()).toMatch(/VCPU: a vCPU was running, but/)
    expect((decodePanics(text.replace('600003c9', '600003c5')) as [DecodedPanic])[0].pc!.of).toBe('guest')
    // The longer ESR goes with %016lx.
    const newer = decodePanics(text.replace('ESR:', 'ESR:00000000')) as [DecodedPanic]
    if (value !== undefined) expect(newer[0].vcpu!.hyp).toBe(value)
  })

  test('an exception that did not come from EL2 has no place in the hypervisor', () => {
    const log = `kvm [380]: Invalid host exception to nVHE hyp!\nkvm [380]: Hyp Offset: 0xfffe8be807e00000\n${block}`
    const [panic] = decodePanics(log) as [DecodedPanic]
    expect(panic.printed.kind).toBe('invalid host exception')
    expect(panic.pc).toMatchObject({ of: 'host', value: 0xffffaf2a0000n })
    expect(panic.pc!.link).toBeUndefined()
    expect(panic.diagnoses[0]).toMatchObject({ kind: 'not-from-hyp', certain: true })
  })

  test('the trace of the first versions that print one', () => {
    const log = `kvm [380]: nVHE hyp panic at: [<ffff800008f5b550>] __kvm_nvhe___pkvm_vcpu_init_traps+0x1f0/0x1f0!
kvm [380]: nVHE HYP call trace:
kvm [380]: [<ffff800008f5b550>] __kvm_nvhe___pkvm_vcpu_init_traps+0x1f0/0x1f0
kvm [380]: [<ffff800008f560f0>] __kvm_nvhe_hyp_panic+0x130/0x1c0
kvm [380]: ---- end of nVHE HYP call trace ----
Call trace:
 [<ffff800008088d48>] dump_backtrace+0x0/0x260
`
    const [panic] = decodePanics(log) as [DecodedPanic]
    expect(panic.backtrace.map(({ link }) => link)).toEqual([0xffff800008f5b550n, 0xffff800008f560f0n])
  })

  test('a UBSAN trap names its check, a CFI failure its registers', () => {
    const at = '[<ffff8000812c33b4>] __kvm_nvhe___kvm_vcpu_run+0x24/0x718!'
    const of = (what: string, esr: string) =>
      decodePanics(`kvm [1]: nVHE hyp ${what} at: ${at}\nPS:800003c9 PC:0000b5a5814c33b4 ESR:${esr}\n`)[0]!
    expect(of('UBSAN: array index out of bounds', '00000000f2005512')).toMatchObject({
      printed: { kind: 'UBSAN: array index out of bounds' },
      esr: { brk: { use: 'UBSAN (UBSAN_BRK_IMM): array index out of bounds' } },
    })
    expect(of('CFI failure', '00000000f2008228').esr!.brk!.use).toContain('target in x8, expected type in w17')
  })

  test('a PC outside the hypervisor: the link address is nonsense, Hyp Offset still right', () => {
    const log = text('p73-brk800')
      .replaceAll('PC:0000b845814c3394 ESR:00000000f2000800', 'PC:00000000deadbee0 ESR:0000000086000004')
      .replaceAll('FAR:000000000a000000', 'FAR:00000000deadbee0')
      .replace('[<ffff8000812c3394>] __kvm_nvhe___kvm_vcpu_run+0x4/0x718', '[<fffec7bbde8dbee0>] 0xfffec7bbde8dbee0')
    const [panic] = decodePanics(log) as [DecodedPanic]
    expect(panic.pc!.link).toBeUndefined()
    expect(panic.diagnoses).toMatchObject([{ kind: 'pc-outside-hyp-text', certain: true }])
    expect(panic.diagnoses[0]!.text).toContain('a jump through a bad pointer')
    expect(panic.backtrace[0]).toMatchObject({ link: 0xffff8000812c3b64n })
  })

  test('with VHE the PC is the kernel’s own', () => {
    const log = block.replace('PS:600003c5 PC:0000ffffaf2a0000', 'PS:600003c9 PC:ffff8000100a0000')
    expect(decodePanics(log)[0]!.pc).toMatchObject({ of: 'vhe', image: 0xffff8000100a0000n })
  })
})

describe('a table without the hypervisor’s symbols', () => {
  // As 5.13 to 5.18 print it, whose kallsyms have none: no name anywhere.
  const log = fixture('evidence/c4k39/panic.txt')
    .toString()
    .replaceAll(/ __kvm_nvhe_\S+/g, '')
    .replace('nVHE hyp BUG at: arch/arm64/include/asm/cpufeature.h:483!', 'nVHE hyp panic at: ffffffc00821110c!')
  const kallsyms = fixture('evidence/c4k39/kallsyms.txt.gz').toString()
  const all = parseSymbols(kallsyms, 'all')
  const host = parseSymbols(kallsyms.replaceAll(/^.* __kvm_nvhe_.*\n/gm, ''), 'host')
  const note = /^host: no symbols of the hypervisor/
  const decode = (text: string, ...symbols: (typeof host)[]) => decodePanics(text, { symbols })[0]!

  test('names nothing in the hyp text, and the report says why', () => {
    const full = decode(log, all)
    expect([full.pc!.name, full.notes]).toEqual([expect.stringMatching(/ \[nVHE\]$/), []])
    const { pc, backtrace, notes, unknown } = decode(log, host)
    expect(pc).toMatchObject({ of: 'hyp', link: 0xffffffc00821110cn })
    expect([pc!.name, pc!.returnName]).toEqual([undefined, undefined])
    expect(notes).toEqual([expect.stringMatching(note)])
    expect(unknown).toContain('the name of PC: supply symbols (System.map or vmlinux of this kernel)')
    const trace = decode(fixture('evidence/c4k39/panic.txt').toString(), host).backtrace
    expect(trace.map(({ name, printed, agrees }) => [name, printed?.slice(0, 11), agrees])).toEqual(
      Array(3).fill([undefined, '__kvm_nvhe_', undefined]),
    )
    expect(backtrace.map(({ name }) => name)).toEqual([])
    expect(decode(log, host, all).pc!.name).toBe(full.pc!.name)
  })

  test('names the host’s functions, also those that EL2 has called', () => {
    const kvm = host.addressesOf('kvm_vcpu_ioctl')[0]! + 8n
    const registers = log.replace(/^.*nVHE hyp panic at.*\n/m, '')
    const at = (pc: bigint, status: string) =>
      registers
        .replaceAll('PS:800003c9', `PS:${status}`)
        .replaceAll('PC:0000006e0041110c', `PC:${pc.toString(16).padStart(16, '0')}`)
    const onHost = decode(at(kvm, '800003c5'), host)
    expect(onHost.pc).toMatchObject({ of: 'host', name: expect.stringMatching(/^kvm_vcpu_ioctl\+0x8\//) })
    const hypOffset = 0xffffff5207e00000n
    const link = kvm - 0x1b23000000n
    const called = (link - hypOffset + 2n ** 64n) % 2n ** 64n
    expect(decode(at(called, '800003c9'), host).pc).toMatchObject({
      of: 'hyp',
      link,
      name: expect.stringMatching(/^kvm_vcpu_ioctl\+/),
    })
  })

  test('without landmarks it is not known where the hyp text is', () => {
    const bare = parseSymbols(
      kallsyms.replaceAll(/^.* __kvm_nvhe_.*\n/gm, '').replaceAll(/^.* __hyp_(?:idmap_)?text_\w+\n/gm, ''),
      'bare',
    )
    expect(bare.landmarks.has('__hyp_text_start')).toBe(false)
    expect(decode(log, bare).pc!.name).toBeUndefined()
  })
})
