import { describe, expect, test } from 'vitest'
import { type RecoverOptions, recoverLayout } from '../../src/evidence/recover.ts'
import { isVheText, perCpuReads } from '../../src/evidence/vhe.ts'
import { type ByteSource, bytesSource } from '../../src/source.ts'
import { fixture } from '../fixtures.ts'

// A running kernel's /proc/kcore, made from what was seen of real boots, that writes down every byte it is asked for. A read of the
// hypervisor's pages panics a protected host: docs/kernel-facts.md, 4.

const NAMES = ['c4k39', 'd61-kaslr', 'd612-max-nvhe-va52', 'd73-a57'] as const
const MIB = 1n << 20n
/** Where /proc/kcore's headers end. */
const DATA = 0x3000n
const VARIABLES = ['tag_lsb', 'tag_val', 'va_mask', 'memstart_addr', 'kimage_voffset', 'hyp_idmap_start', 'kvm_mode']

interface Span {
  readonly start: bigint
  readonly end: bigint
}

/** Symbols of a table, by a pattern of our own. */
function symbolsOf(text: string): Map<string, bigint> {
  const symbols = new Map<string, bigint>()
  for (const [, address, name] of text.matchAll(/^([0-9a-f]{16}) \S (\S+)$/gm)) {
    if (!symbols.has(name!)) symbols.set(name!, BigInt(`0x${address}`))
  }
  return symbols
}

function bootOf(name: string) {
  const file = (suffix: string) => fixture(`evidence/${name}/${suffix}`)
  const truth = JSON.parse(file('case.json').toString())
  const kallsyms = file('kallsyms.txt.gz').toString()
  const symbols = symbolsOf(kallsyms)
  const at = (symbol: string) => symbols.get(symbol)!
  const words = JSON.parse(file('text.json').toString()).sequences[0].words as string[]
  return {
    kallsyms,
    symbols,
    vmcoreinfo: file('vmcoreinfo.txt').toString(),
    image: { start: BigInt(truth.text_va), end: BigInt(truth.end_va) } satisfies Span,
    physical: BigInt(truth.text_phys),
    dram: (truth.dram as Record<keyof Span, string>[]).map(
      (bank): Span => ({ start: BigInt(bank.start), end: BigInt(bank.end) }),
    ),
    linear: BigInt(truth.page_offset) - BigInt(truth.memstart_addr),
    pageOffset: BigInt(truth.page_offset),
    pageSize: BigInt(truth.page_size),
    stext: at('_stext'),
    hypText:
      at('__hyp_idmap_text_start') < at('__hyp_text_start') ? at('__hyp_idmap_text_start') : at('__hyp_text_start'),
    sequence: new Uint8Array(Uint32Array.from(words, Number).buffer),
    tagLsb: truth.observed.tag_lsb as number,
    tagVal: BigInt(truth.observed.tag_val),
    /** What the kernel's variables hold. */
    variables: {
      memstart_addr: BigInt(truth.memstart_addr),
      kimage_voffset: BigInt(truth.kimage_voffset),
      hyp_idmap_start: BigInt(truth.idmap_addr),
    } as Record<string, bigint>,
  }
}

type Boot = ReturnType<typeof bootOf>

/** Content of the image: bytes at run-time addresses, zeros between. */
type Content = readonly { readonly at: bigint; readonly bytes: Uint8Array }[]

/** /proc/kcore of a boot, and the addresses that were read of it. `dense` puts the segments one behind the other, as /proc/vmcore has them. */
function kcore(boot: Boot, content: Content, { live = true, dense = false, vmcoreinfo = true } = {}) {
  const mask = (1n << 64n) - 1n
  const spans = [
    { start: boot.image.start, end: boot.image.end, physical: boot.physical },
    { start: 0xffffff0000000000n, end: 0xffffff0000000000n + 64n * MIB, physical: mask },
    ...boot.dram.map(({ start, end }: Span) => ({
      start: (start + boot.linear) & mask,
      end: ((end + boot.linear - 1n) & mask) + 1n,
      physical: start,
    })),
  ]
  let next = DATA
  const headers = spans.map(({ start, end, physical }) => {
    const offset = dense ? next : start - boot.pageOffset + DATA
    next += end - start
    return { offset, start, end, physical }
  })
  const note = new Uint8Array(24 + boot.vmcoreinfo.length)
  const view = new DataView(note.buffer)
  view.setUint32(0, 11, true)
  view.setUint32(4, boot.vmcoreinfo.length, true)
  note.set(new TextEncoder().encode('VMCOREINFO\0'), 12)
  note.set(new TextEncoder().encode(boot.vmcoreinfo), 24)
  const head = new Uint8Array(Number(DATA))
  const elf = new DataView(head.buffer)
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  elf.setUint16(16, 4, true)
  elf.setUint16(18, 183, true)
  elf.setBigUint64(32, 64n, true)
  elf.setUint16(54, 56, true)
  elf.setUint16(56, headers.length + 1, true)
  const first = 64 + 56 * (headers.length + 1)
  const put = (i: number, values: readonly bigint[]) => {
    elf.setUint32(64 + 56 * i, i === 0 ? 4 : 1, true)
    values.forEach((value, field) => {
      elf.setBigUint64(64 + 56 * i + 8 + 8 * field, value & mask, true)
    })
  }
  put(0, [BigInt(first), 0n, 0n, vmcoreinfo ? BigInt(note.length) : 0n, 0n])
  headers.forEach(({ offset, start, end, physical }, i) => {
    put(i + 1, [offset, start, physical, end - start, end - start])
  })
  head.set(note, first)

  const variables = Object.entries(boot.variables).flatMap(([name, value]) => {
    const at = boot.symbols.get(name)
    return at === undefined ? [] : [{ at, bytes: new Uint8Array(BigUint64Array.of(value).buffer) }]
  })
  const reads: Span[] = []
  const source: ByteSource = {
    name: 'kcore',
    size: undefined,
    live,
    read(offset, into) {
      if (BigInt(offset) < DATA) {
        const piece = head.subarray(offset, offset + into.length)
        into.set(piece)
        return piece.length
      }
      const place = headers.find((h) => BigInt(offset) >= h.offset && BigInt(offset) < h.offset + (h.end - h.start))
      if (place === undefined) return 0
      const start = place.start + BigInt(offset) - place.offset
      const size = Math.min(into.length, Number(place.end - start))
      reads.push({ start, end: start + BigInt(size) })
      into.fill(0, 0, size)
      for (const { at, bytes } of [...variables, ...content]) {
        for (let i = 0; i < bytes.length; i++) {
          const to = at + BigInt(i) - start
          if (to >= 0n && to < BigInt(size)) into[Number(to)] = bytes[i]!
        }
      }
      return size
    },
  }
  return { source, reads }
}

const liveText = (name: string, text: string): ByteSource => ({ ...bytesSource(name, text), live: true })

/** What may be read: text of the host, and variables of the host in pages where nothing of EL2 is. */
function forbidden(boot: Boot, { start, end }: Span): boolean {
  if (start >= boot.stext && end <= boot.hypText) return false
  const variable = VARIABLES.some((name) => {
    const at = boot.symbols.get(name)
    return at !== undefined && at <= start && end <= at + 8n
  })
  if (!variable) return true
  const { pageSize } = boot
  const page = start - (start % pageSize)
  const inPage = (at: bigint) => at >= page && at < page + pageSize
  const bounds = [...boot.symbols].filter(([name]) => /^__hyp_\w+_start$/.test(name))
  return (
    [...boot.symbols].some(([name, at]) => name.startsWith('__kvm_nvhe_') && inPage(at)) ||
    bounds.some(([name, at]) => at < page + pageSize && page < (boot.symbols.get(name.replace('_start', '_end')) ?? 0n))
  )
}

const recover = (sources: readonly ByteSource[], options?: RecoverOptions) => recoverLayout(sources, options)

describe.each(NAMES)('a live /proc/kcore of %s', (name) => {
  const boot = bootOf(name)
  const twice = (at: bigint): Content => [
    { at, bytes: boot.sequence },
    { at: at + 64n, bytes: boot.sequence },
  ]
  const early = twice(boot.stext + 0x51ab8n)
  const late = twice(boot.hypText - 0x200n)
  const kallsyms = liveText('kallsyms', boot.kallsyms)
  const tag = { tagLsb: boot.tagLsb, tagVal: boot.tagVal }
  const bytesRead = (reads: readonly Span[]) => reads.reduce((sum, { start, end }) => sum + (end - start), 0n)

  function expectHarmless(reads: readonly Span[]): void {
    expect(reads.length).toBeGreaterThan(0)
    expect(reads.filter((read) => forbidden(boot, read))).toEqual([])
  }

  test('with kallsyms: the tag, and no byte that may be the hypervisor’s', () => {
    const { source, reads } = kcore(boot, early)
    const { layout, conflicts } = recover([source, kallsyms])
    expect(conflicts).toEqual([])
    expect(layout).toMatchObject(tag)
    expectHarmless(reads)
    // Sequences that agree are enough: the rest of the text is left alone.
    expect(bytesRead(reads)).toBeLessThan(MIB)
  })

  test('alone: the first MiB of text at most', () => {
    const found = kcore(boot, early)
    expect(recover([found.source]).layout).toMatchObject(tag)
    expectHarmless(found.reads)
    const nothing = kcore(boot, [])
    const { layout, notes } = recover([nothing.source])
    expect(layout).not.toHaveProperty('tagLsb')
    expect(notes.map(({ text }) => text).join()).toMatch(/first MiB of kernel text.*\/proc\/kallsyms/)
    expectHarmless(nothing.reads)
    expect(nothing.reads.every(({ start, end }) => start >= boot.stext && end <= boot.stext + MIB)).toBe(true)
  })

  test('with kallsyms, sequences only where the host’s text ends: found, and nothing behind them is read', () => {
    const { source, reads } = kcore(boot, late)
    expect(recover([source, kallsyms]).layout).toMatchObject(tag)
    expectHarmless(reads)
    expect(reads.some(({ end }) => end === boot.hypText - (boot.hypText % boot.pageSize))).toBe(true)
  })

  test('only /proc/kallsyms itself says how far the text reaches: a copy may be of another boot, a System.map of another build', () => {
    const inFirst = ({ start, end }: Span) => start >= boot.stext && end <= boot.stext + MIB
    const own = kcore(boot, late)
    expect(recover([own.source, bytesSource('copy', boot.kallsyms)]).layout).not.toHaveProperty('tagLsb')
    expect(own.reads.every(inFirst)).toBe(true)
    // Another build of the same kernel: all it has of EL2 is 128 KiB further up, a variable of the host where EL2's are now.
    const moved = boot.kallsyms
      .replace(
        /^([0-9a-f]{16}) (\S) (__kvm_nvhe_\S+|__hyp_\w+_(?:start|end))$/gm,
        (_, address: string, type: string, symbol: string) =>
          `${(BigInt(`0x${address}`) + 0x20000n).toString(16)} ${type} ${symbol}`,
      )
      .replace(
        /^[0-9a-f]{16} (\S) memstart_addr$/m,
        `${boot.symbols.get('__hyp_bss_start')?.toString(16)} $1 memstart_addr`,
      )
    const built = kcore(boot, late)
    expect(recover([built.source, bytesSource('System.map', moved)]).layout).not.toHaveProperty('tagLsb')
    expect(built.reads.every(inFirst)).toBe(true)
    const beside = kcore(boot, late)
    expect(recover([bytesSource('System.map', moved), beside.source, kallsyms]).layout).toMatchObject(tag)
    expectHarmless(beside.reads)
  })

  test('a source of a library’s caller that does not say what it is, and is laid out like /proc/kcore, is taken for it', () => {
    const { source, reads } = kcore(boot, late)
    const { live: _, ...silent } = source
    recover([silent as ByteSource])
    expectHarmless(reads)
  })

  test('without VMCOREINFO only /proc/kallsyms tells where the image is', () => {
    const told = kcore(boot, early, { vmcoreinfo: false })
    expect(recover([told.source, kallsyms]).layout).toMatchObject(tag)
    expectHarmless(told.reads)
    const blind = kcore(boot, early, { vmcoreinfo: false })
    const { notes } = recover([blind.source, bytesSource('copy', boot.kallsyms)])
    expect(notes.map(({ text }) => text).join()).toMatch(/hypva read no memory/)
    expect(blind.reads).toEqual([])
  })

  test('a host with VHE: mode vhe, from the first MiB', () => {
    // mrs x5, tpidr_el2, as `mrs x5, tpidr_el1` is patched to.
    const words = new Uint8Array(Uint32Array.from({ length: 40 }, () => 0xd53cd045).buffer)
    const { source, reads } = kcore(boot, [{ at: boot.stext + 4096n, bytes: words }])
    const { layout, conflicts, provenance } = recover([source, kallsyms])
    expect(conflicts).toEqual([])
    expect(layout.mode).toBe('vhe')
    expect(provenance.mode![0]!.rule).toMatch(/TPIDR_EL2 \(40 places, TPIDR_EL1 0\)/)
    expectHarmless(reads)
    expect(reads.every(({ end }) => end <= boot.stext + MIB || end > boot.hypText)).toBe(true)
  })

  test('text that was not patched, or has nothing to patch: which of them it is', () => {
    const words = [0x92400000, 0x93c00400, 0x91000000, 0x91400000, 0x93c0fc00]
    const unpatched = kcore(boot, [{ at: boot.stext + 4096n, bytes: new Uint8Array(Uint32Array.from(words).buffer) }])
    const said = recover([unpatched.source, kallsyms])
    expect(said.layout).not.toHaveProperty('mode')
    expect(said.notes.map(({ text }) => text).join()).toMatch(/1 kern_hyp_va sequence before patching/)
    expectHarmless(unpatched.reads)
    const none = kcore(boot, [])
    const { notes, layout } = recover([none.source, kallsyms])
    expect(layout).not.toHaveProperty('mode')
    expect(notes.map(({ text }) => text).join()).toMatch(/built without KVM, or older than 4\.17/)
    expectHarmless(none.reads)
  })

  test('is never scanned exhaustively', () => {
    const { source, reads } = kcore(boot, early)
    expect(() => recover([source, kallsyms], { exhaustive: true })).toThrow(
      expect.objectContaining({ code: 'HYPVA_LIVE', message: expect.stringMatching(/^kcore: .*the hypervisor owns/) }),
    )
    expect(reads).toEqual([])
  })

  test('a copy of it and /proc/vmcore are read as any core: all of them until the tag is beyond doubt', () => {
    for (const kind of [{ live: false }, { dense: true }]) {
      const { source, reads } = kcore(
        { ...boot, dram: [{ start: boot.dram[0]!.start, end: boot.dram[0]!.start + MIB }] },
        early,
        kind,
      )
      expect(recover([source, kallsyms]).layout).toMatchObject(tag)
      expect(reads.some(({ start }) => start > boot.hypText && start < boot.image.end)).toBe(true)
      expect(reads.some(({ start }) => start === ((boot.dram[0]!.start + boot.linear) & ((1n << 64n) - 1n)))).toBe(true)
    }
  })
})

describe('text of one kernel, on a host without VHE and on one with it', () => {
  const boot = bootOf('d612-max-nvhe-va52')
  const text = (host: string) => fixture(`text/${host}-6.12.bin.gz`)
  const core = (host: string) => {
    const at = boot.stext + 0x40000n
    // Patched text in the memory of the host, as of a guest that runs there.
    const guest = { at: (boot.dram[0]!.start + boot.linear + 16n * MIB) & ((1n << 64n) - 1n), bytes: boot.sequence }
    return kcore({ ...boot, dram: boot.dram.slice(0, 1) }, [{ at, bytes: text(host) }, guest], { live: false })
  }
  test('how often each reads the registers, counted outside of hypva', () => {
    const reads = (host: string) => perCpuReads(bytesSource(host, text(host)), 0, text(host).length)
    expect([reads('nvhe'), reads('vhe')]).toEqual([
      { el1: 45, el2: 76 },
      { el1: 1, el2: 120 },
    ])
    expect([isVheText(reads('nvhe')), isVheText(reads('vhe'))]).toEqual([false, true])
  })
  test('a core: the mode is vhe, and what a guest has in memory is not taken for the host’s', () => {
    const { source, reads } = core('vhe')
    const { layout, conflicts } = recover([source])
    expect([layout.mode, layout.tagLsb, conflicts]).toEqual(['vhe', undefined, []])
    expect(reads.every(({ start, end }) => start >= boot.image.start && end <= boot.image.end)).toBe(true)
  })
  test('without VHE the two sequences in the first MiB are found', () => {
    const { source, reads } = kcore(boot, [{ at: boot.stext + 0x40000n, bytes: text('nvhe') }])
    const { layout, provenance } = recover([source])
    expect(layout.mode).toBeUndefined()
    expect(provenance.tagVal![0]!.rule).toBe('patched instruction sequence, 2 that agree')
    expect(reads.every((read) => !forbidden(boot, read))).toBe(true)
  })
})
