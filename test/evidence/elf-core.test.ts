import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readElfCore } from '../../src/evidence/kinds/elf-core.ts'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { type ByteSource, bytesSource } from '../../src/source.ts'
import { fixture } from '../fixtures.ts'

interface Header {
  readonly type?: number
  readonly offset: bigint
  readonly virtual: bigint
  readonly physical: bigint
  readonly fileSize: bigint
  readonly memorySize?: bigint
}

/** An ELF core of these program headers and this content behind them. */
function core(headers: readonly Header[], content = new Uint8Array(0), machine = 183): Uint8Array {
  const start = 64 + 56 * headers.length
  const bytes = new Uint8Array(start + content.length)
  const view = new DataView(bytes.buffer)
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(16, 4, true)
  view.setUint16(18, machine, true)
  view.setBigUint64(32, 64n, true)
  view.setUint16(54, 56, true)
  view.setUint16(56, headers.length, true)
  headers.forEach((header, i) => {
    const at = 64 + 56 * i
    view.setUint32(at, header.type ?? 1, true)
    view.setBigUint64(at + 8, header.offset, true)
    view.setBigUint64(at + 16, header.virtual, true)
    view.setBigUint64(at + 24, header.physical, true)
    view.setBigUint64(at + 32, header.fileSize, true)
    view.setBigUint64(at + 40, header.memorySize ?? header.fileSize, true)
  })
  bytes.set(content, start)
  return bytes
}

const recover = (bytes: Uint8Array) => recoverLayout([bytesSource('core', bytes)])
const notes = (bytes: Uint8Array) =>
  recover(bytes)
    .notes.map(({ text }) => text)
    .join('\n')
const segment = { offset: 176n, virtual: 0x40000000n, physical: 0x40000000n, fileSize: 20n }
const TEXT = new Uint8Array(new Uint32Array([0x92408800, 0x93c08c00, 0x913a0c00, 0x91400400, 0x93c07400]).buffer)

describe('hostile headers', () => {
  test('what is right beside them is still read', () => {
    const bytes = core([{ ...segment, offset: 1n << 40n }, segment], TEXT)
    expect(recover(bytes).layout).toMatchObject({ tagLsb: 35, tagVal: 0x1e83n })
    expect(notes(bytes)).toMatch(/1 program header left out/)
  })
  test.each([
    ['an offset past the end', { ...segment, offset: (1n << 63n) + 5n }],
    ['an address range past 2^64', { ...segment, virtual: (1n << 64n) - 4096n, memorySize: 8192n }],
    ['a size of 2^64 - 1', { ...segment, fileSize: (1n << 64n) - 1n, memorySize: (1n << 64n) - 1n }],
    ['a note past the end', { ...segment, type: 4, offset: 1n << 62n }],
  ])('%s', (_, header) => expect(notes(core([header as Header, segment], TEXT))).toMatch(/left out/))
  test('a size past the end of the file is cut', () => {
    expect(recover(core([{ ...segment, offset: 120n, fileSize: 1n << 50n }], TEXT)).layout.tagLsb).toBe(35)
  })
  test('overlapping segments agree with themselves', () => {
    const { layout, conflicts } = recover(core([segment, { ...segment, virtual: 0x50000000n }], TEXT))
    expect([layout.tagLsb, conflicts]).toEqual([35, []])
  })
  test('the same bytes under many headers are read once, and count once', () => {
    const headers = 60_000
    const content = new Uint8Array(1 << 20)
    content.set(TEXT, content.length / 2)
    const offset = BigInt(64 + 56 * headers)
    const fileSize = BigInt(content.length)
    const bytes = core(
      Array.from({ length: headers }, (_, i) => ({ ...segment, offset, fileSize, physical: BigInt(i) << 20n })),
      content,
    )
    const memory = bytesSource('core', bytes)
    let read = 0
    const counted: ByteSource = {
      ...memory,
      read(at, into) {
        const got = memory.read(at, into)
        read += got
        return got
      },
    }
    const { provenance } = recoverLayout([counted], { exhaustive: true })
    expect(provenance.tagVal![0]!.rule).toBe('patched instruction sequence')
    expect(read).toBeLessThan(2 * bytes.length)
  })
  test.each([0, 1, 2, 3, 4])(
    'a sequence across the ends of overlapping segments counts once, cut %i words in',
    (words) => {
      const content = new Uint8Array(256)
      content.set(TEXT, 100)
      const at = 64n + 56n * 3n
      const cut = 100n + 4n * BigInt(words)
      const both = core(
        [
          { ...segment, offset: at + cut, fileSize: 40n },
          { ...segment, offset: at, fileSize: 256n },
          { ...segment, offset: at + 1n, fileSize: 200n },
        ],
        content,
      )
      const { provenance } = recoverLayout([bytesSource('core', both)], { exhaustive: true })
      expect(provenance.tagVal![0]!.rule).toBe('patched instruction sequence')
    },
  )
  test('cut off', () => {
    const bytes = core([segment, segment], TEXT)
    expect(notes(bytes.subarray(0, 40))).toMatch(/cut off inside its header/)
    expect(notes(bytes.subarray(0, 100))).toMatch(/cut off after 0 of 2 program headers/)
  })
  test('other ELF files', () => {
    expect(notes(core([segment], TEXT, 62))).toMatch(/machine 62, not for AArch64/)
    const narrow = core([segment], TEXT)
    narrow[4] = 1
    expect(notes(narrow)).toMatch(/32-bit/)
  })
  test('a million program headers: so many are not kept', () => {
    const head = core([])
    const view = new DataView(head.buffer)
    view.setUint16(56, 0xffff, true)
    // The section header with the true count stands at 64, program headers everywhere after.
    view.setBigUint64(40, 64n, true)
    view.setBigUint64(32, 128n, true)
    const section = new Uint8Array(64)
    new DataView(section.buffer).setUint32(44, 1_000_000, true)
    const header = core([{ ...segment, offset: 128n, fileSize: 4n }]).subarray(64, 120)
    const source: ByteSource = {
      name: 'million',
      size: 128 + 56_000_000,
      read(offset, into) {
        for (let i = 0; i < into.length; i++) {
          const at = offset + i
          into[i] = at < 64 ? head[at]! : at < 128 ? section[at - 64]! : header[(at - 128) % 56]!
        }
        return into.length
      },
    }
    const result = readElfCore(source)
    if ('refused' in result) throw new Error(result.refused)
    expect(result.segments.length).toBe(65536)
    expect(result.warnings[0]).toMatch(/1000000 program headers; the first 65536/)
  })
})

const words = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(0n, 1n, 64n, 176n, (1n << 64n) - 1n, 1n << 63n, (1n << 53n) - 1n, 1n << 53n),
)
const anyHeader = fc.record({
  type: fc.constantFrom(1, 1, 1, 4, 7),
  offset: words,
  virtual: words,
  physical: words,
  fileSize: words,
  memorySize: words,
})

test('fuzzed headers never crash, and time and memory stay bounded', () => {
  fc.assert(
    fc.property(fc.array(anyHeader, { maxLength: 8 }), fc.uint8Array({ maxLength: 300 }), (headers, content) => {
      const { conflicts } = recover(core(headers, content))
      for (const { field } of conflicts) expect(typeof field).toBe('string')
    }),
    { numRuns: 500 },
  )
})

test('real cores with bytes changed, and cut anywhere, never crash', () => {
  const real = ['core.elf.gz', 'kcore.elf.gz'].map((file) => fixture(`evidence/d73-a57/${file}`))
  const change = fc.tuple(fc.integer({ min: 0, max: 12_000 }), fc.integer({ min: 0, max: 255 }))
  fc.assert(
    fc.property(
      fc.constantFrom(...real),
      fc.array(change, { maxLength: 20 }),
      fc.option(fc.integer({ min: 0, max: 20_000 }), { nil: undefined }),
      (file, changes, cut) => {
        const bytes = new Uint8Array(file.subarray(0, cut))
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
        expect(recover(bytes)).toBeDefined()
      },
    ),
    { numRuns: 300 },
  )
})

describe('an address that can be of the image or of the linear map', () => {
  const image = { ...segment, offset: 176n, virtual: 0xffffa2a67af4b000n, physical: 0x4114b000n }
  const recoverWith = (text: string) =>
    recoverLayout([
      bytesSource('core', core([image, image], TEXT)),
      bytesSource('kallsyms', `${text} T _text\nffffa2a67df4b000 B _end`),
    ]).layout
  test('is of neither without more', () => {
    const { layout } = recover(core([image, image], TEXT))
    expect(layout).toMatchObject({ tagLsb: 35 })
    for (const field of ['kimageVoffset', 'vaBits', 'vaBitsActual', 'hypPhysvirtOffset'])
      expect(layout).not.toHaveProperty(field)
    expect(recoverWith('ffffa2a67af40000')).not.toHaveProperty('kimageVoffset')
  })
  test('is of the image when it holds _text', () =>
    expect(recoverWith('ffffa2a67af4b000').kimageVoffset).toBe(image.virtual - image.physical))
})

describe('program headers', () => {
  const MIB = 1n << 20n
  /** /proc/kcore as it is: giant, sparse, only headers here; nothing of what has no physical address may be read. */
  test('/proc/kcore as it is on a host', () => {
    const vmcoreinfo = [
      'OSRELEASE=6.12.1',
      'PAGESIZE=4096',
      'NUMBER(VA_BITS)=48',
      'NUMBER(TCR_EL1_T1SZ)=0x10',
      'KERNELOFFSET=0',
      'NUMBER(MODULES_END)=0xffff800080000000',
      'SYMBOL(_stext)=ffff800080000000',
    ].join('\n')
    const name = new TextEncoder().encode('VMCOREINFO\0\0')
    const data = new TextEncoder().encode(vmcoreinfo)
    const note = new Uint8Array(24 + data.length)
    const view = new DataView(note.buffer)
    view.setUint32(0, 11, true)
    view.setUint32(4, data.length, true)
    note.set(name, 12)
    note.set(data, 24)
    const ram = 2048n * MIB
    const headers: Header[] = [
      { type: 4, offset: 64n + 56n * 4n, virtual: 0n, physical: 0n, fileSize: BigInt(note.length), memorySize: 0n },
      { offset: 0x8000_8000_0000n, virtual: 0xffff800080000000n, physical: 0x40200000n, fileSize: 36n * MIB },
      { offset: 0x8000_0000_0000n, virtual: 0xffff800000000000n, physical: (1n << 64n) - 1n, fileSize: 1n << 46n },
      { offset: 0x1000_0000n, virtual: 0xffff000000000000n, physical: 0x40000000n, fileSize: ram },
    ]
    const head = core(headers, note)
    const touched = new Set<bigint>()
    const source: ByteSource = {
      name: '/proc/kcore',
      size: undefined,
      read(offset, into) {
        if (offset < head.length) {
          const piece = head.subarray(offset, offset + into.length)
          into.set(piece)
          return piece.length
        }
        const header = headers.find((h) => BigInt(offset) >= h.offset && BigInt(offset) < h.offset + h.fileSize)
        if (header === undefined) return 0
        touched.add(header.virtual)
        into.fill(0)
        if (header === headers[1] && BigInt(offset) === header.offset) {
          for (let i = 0; i < 20; i++)
            into.set(
              new Uint8Array(new Uint32Array([0x92407800, 0x93c07c00, 0x91100c00, 0x91405800, 0x93c08400]).buffer),
              64 * i,
            )
        }
        return into.length
      },
    }
    const { layout, conflicts } = recoverLayout([source])
    expect(conflicts).toEqual([])
    expect(layout).toMatchObject({
      tagLsb: 31,
      tagVal: 0x16403n,
      kimageVoffset: 0xffff800080000000n - 0x40200000n,
      image: { start: 0xffff800080000000n, end: 0xffff800080000000n + 36n * MIB },
      physOffset: 0x40000000n,
      dram: [{ start: 0x40000000n, end: 0x40000000n + ram }],
    })
    expect([...touched]).toEqual([0xffff800080000000n])
  })
})

describe('what cannot be read of a core', () => {
  const note = (text: string) => {
    const data = new TextEncoder().encode(text)
    const bytes = new Uint8Array(24 + Math.ceil(data.length / 4) * 4)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, 11, true)
    view.setUint32(4, data.length, true)
    bytes.set(new TextEncoder().encode('VMCOREINFO'), 12)
    bytes.set(data, 24)
    return bytes
  }
  const info = note('OSRELEASE=6.1.0\nNUMBER(kimage_voffset)=0xffff7fffc0000000\nNUMBER(VA_BITS)=48\n')
  const page = new Uint8Array(4096)
  page.set(TEXT)
  // Behind what is read to see what the file is.
  const start = 8192
  const content = new Uint8Array(start - 64 - 2 * 56 + info.length + page.length)
  content.set(info, start - 64 - 2 * 56)
  content.set(page, start - 64 - 2 * 56 + info.length)
  const bytes = core(
    [
      { type: 4, offset: BigInt(start), virtual: 0n, physical: 0n, fileSize: BigInt(info.length) },
      {
        offset: BigInt(start + info.length),
        virtual: 0xffff800009230000n,
        physical: 0x49230000n,
        fileSize: BigInt(page.length),
      },
    ],
    content,
  )
  /** The core, of which bytes [from, end) cannot be read. */
  const failing = (from: number, end: number): ByteSource => {
    const whole = bytesSource('core', bytes)
    return {
      ...whole,
      read(offset, into) {
        if (offset < end && from < offset + into.length)
          throw new Error('cannot read core: input/output error at offset 0x99')
        return whole.read(offset, into)
      },
    }
  }
  const kallsyms = bytesSource(
    'kallsyms',
    'ffff800009230000 T _text\nffff800009230100 D tag_lsb\nffff800009230108 D tag_val\nffff800009230110 D va_mask\n',
  )
  const texts = (source: ByteSource) =>
    recoverLayout([source, kallsyms])
      .notes.filter(({ file }) => file === 'core')
      .map(({ text }) => text)
  const reasonOnly = '(input/output error at offset 0x99)'

  test('all of it can', () => {
    const { layout } = recoverLayout([bytesSource('core', bytes), kallsyms])
    expect(layout).toMatchObject({ vaBits: 48, tagLsb: 35, kimageVoffset: 0xffff7fffc0000000n })
    expect(texts(bytesSource('core', bytes)).join()).not.toMatch(/could not be read/)
  })
  test('a note: the rest is read, and that it is missing is said', () => {
    const source = failing(start + 20, start + 30)
    expect(recoverLayout([source, kallsyms]).layout).toMatchObject({ tagLsb: 35 })
    expect(recoverLayout([source, kallsyms]).layout.vaBits).toBeUndefined()
    expect(texts(source)).toContain(
      `the NOTE segment at offset 0x${start.toString(16)} could not be read ${reasonOnly}`,
    )
  })
  test('variables of the kernel: said once', () => {
    const at = start + info.length + 0x100
    const said = texts(failing(at, at + 32)).filter((text) => text.startsWith('variables'))
    expect(said).toEqual([`variables at offset 0x${(at + 16).toString(16)} could not be read ${reasonOnly}`])
  })
  test.each([0, 63, 64, 64 + 2 * 56 - 1])('the headers, at byte %i: an error', (at) => {
    expect(() => readElfCore(failing(at, at + 1))).toThrow('cannot read core: input/output error')
    expect(() => readElfCore(failing(at + 4096, at + 4097))).not.toThrow()
  })
})
