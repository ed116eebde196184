import { describe, expect, test } from 'vitest'
import { HEAD } from '../../src/content.ts'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { type ByteSource, bytesSource } from '../../src/source.ts'
import { bytesOf, SAMPLES } from '../contents.ts'
import { fixture } from '../fixtures.ts'

const memory = fixture('evidence/d61-kaslr/text.bin.gz')
const samples = Object.entries(SAMPLES).filter(([name]) => !['elf', 'kdump', 'diskdump', 'flat'].includes(name))

test.each(samples)('%s is not scanned as memory', (name, sample) => {
  // The head of UTF-16 has to be all of it.
  const head = name.startsWith('utf16') ? Buffer.alloc(HEAD, bytesOf(sample)) : bytesOf(sample)
  // Memory that shows a tag lies behind.
  const bytes = bytesSource('it', Buffer.concat([head, memory]))
  let end = 0
  const recording: ByteSource = {
    ...bytes,
    read(offset, into) {
      end = Math.max(end, offset + into.length)
      return bytes.read(offset, into)
    },
  }
  const { files, notes, layout } = recoverLayout([recording])
  expect(files).toEqual([{ file: 'it', kinds: ['unsupported'] }])
  expect(notes).toEqual([{ file: 'it', text: expect.stringContaining(`which hypva does not read: `) }])
  expect(notes[0]!.text).toMatch(sample.name)
  expect(notes[0]!.text).toContain(`\`${sample.command}`)
  expect(layout).toEqual({})
  expect(end).toBe(HEAD)
})

test('memory is scanned whatever it begins with', () => {
  for (const start of ['', 'PK', '\0\0', '\x1f\x8b', 'BZh9', 'MZ']) {
    const bytes = Buffer.from(start.padEnd(64, '\0'), 'latin1')
    const { files, layout } = recoverLayout([bytesSource('ram', Buffer.concat([bytes, memory]))])
    expect([start, files[0]!.kinds, layout.tagVal]).toEqual([start, ['memory'], 0x629b2n])
  }
})

test('a short log with a few control characters is a log', () => {
  const text = '\0\0\u0001\ntag_lsb = 29, tag_val = 0x629b2\n'
  const { files, layout } = recoverLayout([bytesSource('log', text)])
  expect([files[0]!.kinds, layout.tagVal]).toEqual([['debugger'], 0x629b2n])
})

test('NULs before a log, and the separators of a JSON text sequence, leave it a log', () => {
  for (const start of ['\0'.repeat(3000), '\u001e{"MESSAGE":"a"}\n'.repeat(100)]) {
    const log = `${start}\ntag_lsb = 29, tag_val = 0x629b2\n`
    const { files, layout } = recoverLayout([bytesSource('log', log)])
    expect([files[0]!.kinds, layout.tagVal]).toEqual([['debugger'], 0x629b2n])
  }
})

describe('what is binary by its beginning, and no memory', () => {
  const LOG = 'tag_lsb = 29, tag_val = 0x629b2\n'
  const NOISE = '\x01\x02\x03\x04'.repeat(HEAD / 4)
  const PAIR = '0xffff800008f81138 0x89b380ef1138\n'
  const LINES = '[    1.000000] usb 1-1: a line like any other\n'.repeat(2 * NOISE.length)

  test('is read as text', () => {
    const { files, layout, notes } = recoverLayout([bytesSource('log', `${NOISE}\n${LINES}${LOG}`)])
    expect([files[0]!.kinds, layout.tagLsb, layout.tagVal, notes]).toEqual([['debugger'], 29, 0x629b2n, []])
  })

  test('with the symbols and pairs in it', () => {
    const text = `${NOISE}\n${LINES}${PAIR}`
    const { files } = recoverLayout([bytesSource('pairs', text), bytesSource('plain', PAIR)])
    expect(files.map(({ kinds }) => kinds)).toEqual([['pairs'], ['pairs']])
  })

  test('unless most of it is not text: lines in memory are of anything, a guest say', () => {
    const { files, layout } = recoverLayout([bytesSource('ram', `${NOISE}\n${LINES.slice(0, NOISE.length)}${LOG}`)])
    expect([files[0]!.kinds, layout]).toEqual([['memory'], {}])
  })

  test('unless it shows a tag as memory, or cannot be read a second time', () => {
    const both = recoverLayout([
      bytesSource(
        'ram',
        Buffer.concat([
          Buffer.from(`${NOISE}\n${LINES}${LOG}`.padEnd(Math.ceil((NOISE.length + LINES.length) / HEAD + 1) * HEAD)),
          memory,
        ]),
      ),
    ])
    expect([both.files[0]!.kinds, both.layout.tagLsb]).toEqual([
      ['memory'],
      recoverLayout([bytesSource('ram', memory)]).layout.tagLsb,
    ])
    const once: ByteSource = { ...bytesSource('pipe', `${NOISE}\n${LINES}${LOG}`), sequential: 'once' }
    expect(recoverLayout([once]).files[0]!.kinds).toEqual(['memory'])
  })

  test('and where it says nothing either, what it may be is named', () => {
    const { files, notes } = recoverLayout([bytesSource('blob', NOISE.repeat(3))])
    expect(files[0]!.kinds).toEqual(['memory'])
    expect(notes).toEqual([{ file: 'blob', text: expect.stringMatching(/compressed.*no kernel memory/) }])
  })
})
