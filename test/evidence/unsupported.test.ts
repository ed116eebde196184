import { expect, test } from 'vitest'
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
  expect(notes).toEqual([{ file: 'it', text: expect.stringContaining(`which is not read: `) }])
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
