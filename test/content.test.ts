import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HEAD, recognise, undecided } from '../src/content.ts'
import { bytesOf, SAMPLES } from './contents.ts'
import { fixture } from './fixtures.ts'

const samples = Object.entries(SAMPLES)
const bytes = (text: string) => Buffer.from(text, 'latin1')

describe.each(samples)('%s', (_, sample) => {
  test('is recognised, with the command that makes text of it', () => {
    const content = recognise(bytesOf(sample))
    expect(content?.name).toMatch(sample.name)
    expect(content?.remedy).toContain(`\`${sample.command}`)
    expect(content?.remedy).toMatch(/FILE/)
    expect(content?.kind).toMatch(/^(elf|kdump|unsupported)$/)
  })
})

// What UTF-16 is depends on all of it, and so does a tar header.
const magics = samples.filter(([name]) => !/^(utf16|tar)/.test(name))

test.each(magics)('%s stays what it is whatever follows', (_, sample) => {
  const kind = recognise(bytesOf(sample))
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 6000 }), (rest) => {
      expect(recognise(Buffer.concat([bytesOf(sample), rest]))).toBe(kind)
    }),
    { numRuns: 20 },
  )
})

test.each(magics)('%s in pieces: each beginning asks for more until it is recognised', (name, sample) => {
  const all = bytesOf(sample)
  const whole = recognise(all)
  let length = 1
  while (undecided(all.subarray(0, length))) length++
  // A skippable frame is measured, which its beginning does not allow; that of lzop holds a line feed.
  if (name !== 'pzstd' && name !== 'lzop') expect(recognise(all.subarray(0, length))).toBe(whole)
  expect(length).toBeLessThanOrEqual(16)
})

describe('text is not recognised as anything', () => {
  function* files(dir: string): Generator<string> {
    for (const name of readdirSync(dir)) {
      const path = join(dir, name)
      if (statSync(path).isDirectory()) yield* files(path)
      else if (!/\.(elf|bin)(\.gz)?$/.test(name)) yield path
    }
  }
  const root = join(import.meta.dirname, '..')
  const texts = ['test/fixtures', 'samples', 'src'].flatMap((dir) => [...files(join(root, dir))])

  test('every text of the fixtures and samples, from any place on', () => {
    expect(texts.length).toBeGreaterThan(100)
    for (const path of texts) {
      const content = readFileSync(path)
      const text = path.endsWith('.gz') ? gunzipSync(content) : content
      expect([path, recognise(text)]).toEqual([path, undefined])
      const pieces = Array.from({ length: 400 }, (_, i) =>
        [1, 30, 700].map((length) => text.subarray(i * 7, i * 7 + length)),
      )
      expect(pieces.flat().filter((piece) => recognise(piece) !== undefined)).toEqual([])
    }
  })

  test.each([
    'PK 0xffff000000ee7abc',
    'PK\r\n',
    'PAR1 register is 0',
    'PAR1',
    'BZh91AY&SX is no bzip2',
    'BZ 123',
    'KDUMP   started',
    'DISKDUMP 1',
    'makedumpfile: version 1.7.2',
    'PERFILE2 is the magic of perf.data',
    '2ELIFREP',
    'LPKSHHRH is the magic of journals',
    'SQLite format 3 is a format',
    'ELF header at 0x40',
    '7z is an archiver',
    'LZIP and LZO',
    'MZ\0\0 is a stamp',
    'ANDROID! boots',
    'ANDROID!',
    ':ÿ&í',
    'hsqs is squashfs backwards: a magic number',
    ']\0x',
    'ustar',
    `${'x'.repeat(257)}ustar  `,
    '\ufeff[    0.000000] Booting Linux',
    'Überlauf bei 0xffff000000ee7abc, naïve façade',
    '日本語の記録 0xffff000000ee7abc',
    '\u001b[1;31mpanic\u001b[0m \u001b[32mat\u001b[0m 0xffff000000ee7abc',
    'Hit any key to stop autoboot:  3 \b\b\b 2 \b\b\b 1 \b\b\b 0 \u0007',
    '\0',
    '\0\0\0\0\0\0\0\0[    0.000000] Booting Linux',
    `\0\0\u0001\u001f\u0003[    0.000000] Booting Linux`,
    '',
  ])('%j', (text) => {
    expect(recognise(Buffer.from(text))).toBeUndefined()
  })

  test('a serial log that begins with a break', () => {
    const line = '[    0.000000] Booting Linux on physical CPU 0x0\n'
    expect(recognise(bytes(`${'\0'.repeat(60)}${line.repeat(100)}`))).toBeUndefined()
  })

  const LINE = '[    0.000000] Booting Linux on physical CPU 0x0\n'

  test('a serial log that begins with NULs, as many as there are', () => {
    for (const nuls of [9, 200, 2000, HEAD - 200, HEAD - 16]) {
      expect([nuls, recognise(bytes(`${'\0'.repeat(nuls)}${LINE.repeat(100)}`))]).toEqual([nuls, undefined])
    }
    // The whole file.
    expect(recognise(bytes(`${'\0'.repeat(200)}${LINE}`))).toBeUndefined()
  })

  test('a JSON text sequence, of journalctl -o json-seq', () => {
    expect(recognise(bytes('\u001e{"MESSAGE":"a"}\n'.repeat(100)))).toBeUndefined()
  })

  test('any printable bytes, UTF-8 or of an 8-bit encoding', () => {
    const byte = fc.oneof(
      fc.constantFrom(9, 10, 13, 27),
      fc.integer({ min: 32, max: 126 }),
      fc.integer({ min: 160, max: 255 }),
    )
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 300 }), (text) => {
        expect(recognise(Uint8Array.from(text))).toBeUndefined()
      }),
      { numRuns: 500 },
    )
    fc.assert(
      fc.property(fc.stringMatching(/^(PK|BZh9|PAR1|KDUMP {3}|PERFILE2|makedumpfile|LZIP|7z)[ -~\n\t]*$/), (text) => {
        expect(recognise(bytes(text))).toBeUndefined()
      }),
    )
  })
})

describe('plainly binary', () => {
  test('memory, raw words, deflated data whose header is damaged', () => {
    expect(recognise(fixture('evidence/d61-kaslr/text.bin.gz'))?.kind).toBe('binary')
    expect(recognise(Buffer.alloc(4096))?.kind).toBe('binary')
    const words = Buffer.from(BigUint64Array.from({ length: 8 }, (_, i) => 0x89b380ef1c00n + BigInt(i * 4)).buffer)
    expect(recognise(words)?.kind).toBe('binary')
    const damaged = readFileSync(join(import.meta.dirname, 'fixtures/traces/hyptracing-7.3.txt.gz'))
    damaged[2] = 0x41
    expect(recognise(damaged)?.kind).toBe('binary')
  })
  test('one control character in 64 bytes is borne, more is not', () => {
    const text = (odd: number) => bytes('\u0001'.repeat(odd).padEnd(HEAD, 'x'))
    expect(recognise(text(HEAD / 64))).toBeUndefined()
    expect(recognise(text(HEAD / 64 + 1))?.kind).toBe('binary')
    // What comes later is not looked at.
    expect(recognise(Buffer.concat([text(0), Buffer.alloc(1 << 16)]))).toBeUndefined()
  })
  test('nothing but NULs, and NULs before what is no text', () => {
    const binary = (data: Uint8Array) => expect(recognise(data)?.kind).toBe('binary')
    for (const nuls of [9, 200, 2000, HEAD]) {
      const head = Buffer.alloc(nuls)
      binary(head)
      // Too little to be sure of it.
      if (nuls < HEAD) binary(Buffer.concat([head, bytes('cpu')]))
      if (nuls < HEAD) binary(Buffer.concat([head, Buffer.from('89b380ef1c000000'.repeat(400), 'hex')]))
      if (nuls < HEAD) binary(Buffer.concat([head, Buffer.from('b9d3a80fc19ee17a'.repeat(400), 'hex')]))
      if (nuls < HEAD) binary(Buffer.concat([head, bytes('a string\0and another\0'.repeat(99))]))
    }
  })
  test('kernel text from any of its pages on is never taken for something compressed', () => {
    // It holds the ELF files of the vDSO, and the table of magic numbers that the kernel itself decompresses by.
    for (const name of ['c4k39', 'd61-kaslr', 'd612-max-nvhe-va52', 'd73-a57']) {
      const text = fixture(`evidence/${name}/text.bin.gz`)
      for (let page = 0; page < text.length; page += 4096) {
        expect([page, recognise(text.subarray(page))?.kind]).not.toEqual([page, 'unsupported'])
      }
    }
  })
})

describe('asking for more', () => {
  test('what no magic number begins with, and what holds a line, is decided', () => {
    for (const text of ['x', '0xffff', '[', 'PX', '\n', 'P\n', 'PK 0', '']) {
      expect([text, text !== '' && undecided(bytes(text))]).toEqual([text, false])
    }
  })
  test('UTF-16 of a few letters, until there are enough of them', () => {
    for (const order of ['le', 'be'] as const) {
      const text = Buffer.from('pc 0xffff000000ee7abc', 'utf16le')
      if (order === 'be') text.swap16()
      for (let length = order === 'le' ? 2 : 1; length < 16; length++) {
        expect([length, undecided(text.subarray(0, length))]).toEqual([length, true])
      }
      expect(undecided(text.subarray(0, 16))).toBe(false)
      expect(recognise(text.subarray(0, 16))?.name).toBe('UTF-16 text')
    }
    // A line is answered at once.
    expect(undecided(bytes('a\0\n'))).toBe(false)
  })
  test('NULs, until text follows or cannot', () => {
    for (const nuls of [1, 100, HEAD - 1]) expect([nuls, undecided(Buffer.alloc(nuls))]).toEqual([nuls, true])
    expect(undecided(Buffer.alloc(HEAD))).toBe(false)
    expect(undecided(bytes(`${'\0'.repeat(100)}[    0.0`))).toBe(true)
    expect(undecided(bytes(`${'\0'.repeat(100)}[    0.000000] B`))).toBe(false)
  })
})
