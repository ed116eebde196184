import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readBoots } from '../../src/evidence/boots.ts'
import { FileFindings } from '../../src/evidence/facts.ts'
import { LOG_WORDS } from '../../src/evidence/kinds/log.ts'
import { lineFilter } from '../../src/evidence/line-filter.ts'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { EVIDENCE_WORDS, TextReaders } from '../../src/evidence/text-readers.ts'
import { decodePanics } from '../../src/index.ts'
import { type ByteSource, bytesSource, forEachLine, type LineFilter } from '../../src/source.ts'

/** A source of these bytes whose reads give as many as `sizes` says, over and over. */
function stingy(bytes: Uint8Array, sizes: readonly number[], size: number | undefined = bytes.length): ByteSource {
  const whole = bytesSource('s', bytes)
  let call = 0
  return {
    name: 's',
    size,
    read: (offset, into) => whole.read(offset, into.subarray(0, sizes[call++ % sizes.length])),
  }
}

/** The lines of a text that are left by a filter; before it come as many small reads as are not filtered yet. */
function filtered(text: string | Uint8Array, filter: LineFilter): [number, string][] {
  const START = 17
  const bytes = Buffer.concat([Buffer.from('-\n'.repeat(START)), typeof text === 'string' ? latin(text) : text])
  const whole = bytesSource('s', bytes)
  const source: ByteSource = {
    ...whole,
    size: undefined,
    read: (offset, into) => whole.read(offset, offset < 2 * START ? into.subarray(0, 2) : into),
  }
  return linesOf(source, () => filter)
    .lines.filter(([number]) => number > START)
    .map(([number, line]) => [number - START, line])
}

function linesOf(source: ByteSource, filter?: () => LineFilter): { lines: [number, string][]; complete: boolean } {
  const lines: [number, string][] = []
  const complete = forEachLine(source, (text, number) => lines.push([number, text]), filter)
  return { lines, complete }
}

const latin = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0))
const numbered = (texts: string[]) => texts.map((text, i): [number, string] => [i + 1, text])

describe('lines of a text', () => {
  test('the same whatever the reads give at a time', () => {
    const part = fc.constantFrom(
      '',
      'a',
      '\r',
      '\n',
      '\n\n',
      'Hyp Offset',
      '0x1234567890',
      'é',
      ' ',
      'x'.repeat(70),
      '\r\n',
    )
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 60 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        (parts, sizes, sized) => {
          const text = parts.join('')
          const expected = text.split('\n').map((line) => line.replace(/\r+$/, ''))
          const complete = text === '' || text.endsWith('\n')
          if (complete) expected.pop()
          const source = stingy(latin(text), sizes, sized ? text.length : undefined)
          expect(linesOf(source)).toEqual({ lines: numbered(expected), complete })
        },
      ),
    )
  })

  test('lines across the chunks that are read', () => {
    const texts = Array.from({ length: 4000 }, (_, i) => `${i} ${'y'.repeat((i * 7919) % 301)}`)
    expect(linesOf(bytesSource('s', texts.join('\n'))).lines).toEqual(numbered(texts))
    expect(linesOf(stingy(latin(`${texts.join('\n')}\n`), [65536, 1, 4099])).lines).toEqual(numbered(texts))
  })

  test.each([65535, 65536, 65537, 131072, 200_000])(
    'a line of %i characters comes in pieces of one number',
    (length) => {
      const long = Array.from({ length }, (_, i) => String.fromCharCode(97 + (i % 23))).join('')
      for (const sizes of [[1 << 20], [65536, 77], [1021]]) {
        const { lines } = linesOf(stingy(latin(`one\n${long}\nthree\n`), sizes))
        expect(lines[0]).toEqual([1, 'one'])
        expect(lines.at(-1)).toEqual([3, 'three'])
        const pieces = lines.filter(([number]) => number === 2).map(([, text]) => text)
        expect(pieces.join('')).toBe(long)
        expect(Math.max(...pieces.map((text) => text.length))).toBeLessThanOrEqual(65536)
      }
    },
  )
})

describe('lines that say nothing are passed over unread', () => {
  const filter = lineFilter(EVIDENCE_WORDS)

  test.each([...LOG_WORDS, 'tag_lsb', 'ABCDEF0', '0x89b3123'])('a line with %s matters', (word) => {
    for (const text of [word, `[ 1.0] x: ${word}`, `${word} x`, word.toUpperCase(), `a\n${word}\nb`]) {
      const lines = filtered(`${'-\n'.repeat(50)}${text}\n`, filter)
      expect(lines.length).toBeLessThan(20)
      expect(lines.map(([, line]) => line.toLowerCase()).join('\n')).toContain(word.toLowerCase())
    }
  })

  test('most lines of a log do not, and numbers count them all', () => {
    const noise = Array.from({ length: 5000 }, (_, i) => `[ ${i}.5] usb 1-1: new device, id ${i}`)
    noise[4000] = 'kvm [1]: Hyp Offset: 0xffff7fbf40000000'
    const lines = filtered(noise.join('\n'), filter)
    expect(lines).toContainEqual([4001, noise[4000]])
    expect(lines).toContainEqual([5000, noise[4999]])
    // The line itself, what may answer it, and the last, whose end is not there.
    expect(lines.length).toBe(3)
  })

  test('lines that begin as VMCOREINFO and answers do', () => {
    const lines = filtered('-\n-\nSIZE(page)=64\n-\n-\n-\n$3 = 5\n-\n-\n-\nNov 24\n-\n', filter)
    expect(lines.map(([, line]) => line)).toEqual(['SIZE(page)=64', '-', '$3 = 5', '-'])
  })

  test('colours inside of a word', () => {
    const lines = filtered('-\n-\nHyp\u001b[0m Off\u001b[1mset: 0x1\n-\n', filter)
    expect(lines).toContainEqual([3, 'Hyp Offset: 0x1'])
  })

  test('the answer of a debugger is the next line that is not empty, and no other', () => {
    const noise = 'a line like any other of a log, without anything in it\n'.repeat(30_000)
    const asked = (between: string) =>
      recoverLayout([bytesSource('gdb', `${noise}(gdb) p tag_lsb\n${between}$1 = 31\n`)])
    expect(asked('').layout.tagLsb).toBe(31)
    expect(asked('\n\r\n').layout.tagLsb).toBe(31)
    expect(asked('no symbol\n').layout.tagLsb).toBeUndefined()
  })

  // Whatever a reader knows must be let through: here every line of the real files, one reader per line with no memory of others.
  const ROOT = join(import.meta.dirname, '../fixtures')
  const files = ['panics', 'evidence', 'traces']
    .flatMap((folder) => readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && /\.(txt|log|kallsyms)(\.gz)?$/.test(entry.name))
    .map(({ parentPath, name }) => join(parentPath, name))
  test('there are real files', () => expect(files.length).toBeGreaterThan(20))
  test.each(files)('every line of evidence in %s', (file) => {
    const data = readFileSync(file)
    const text = file.endsWith('.gz') ? gunzipSync(data) : data
    // Noise between keeps the lines apart, and makes chunks in which few lines matter.
    const noise = '- nothing to see here, move on -\n'
    const lines = linesOf(bytesSource('s', text)).lines.map(([, line]) => line)
    const known = [...new Set(lines)]
      .filter((line) => new TextReaders(new FileFindings('s', 0)).line(line, 1))
      .slice(0, 300)
    for (const line of known) {
      const found = filtered(`${noise.repeat(9)}${line}\n${noise.repeat(9)}`, filter)
      expect(found.length).toBeLessThan(5)
      expect(found).toContainEqual([10, line])
    }
  })

  const panics = readdirSync(join(ROOT, 'panics')).filter((name) => name.endsWith('.txt'))
  test.each(panics)('%s among noise is decoded and gives the layout that it gives alone', (name) => {
    const text = readFileSync(join(ROOT, 'panics', name), 'latin1')
    const noise = '[    7.125000] systemd: Started Session of user root, nothing more\n'.repeat(20_000)
    const without = (log: string) =>
      decodePanics(log).map(({ printed: { firstLine: _, lastLine: __, ...printed }, ...rest }) => ({
        printed,
        ...rest,
      }))
    expect(without(`${noise}${text}\n${noise}`)).toEqual(without(`${text}\n`))
    const layout = (log: string) => recoverLayout([bytesSource('log', log)]).layout
    expect(layout(`${noise}${text}\n${noise}`)).toEqual(layout(text))
  })
})

describe('a log of any length takes bounded memory', () => {
  const panic = (
    i: number,
  ) => `kvm [1]: nVHE hyp panic at: [<${(0xffff800080000000n + BigInt(i * 4)).toString(16)}>] f+0x1/0x2!
PS:800003c9 PC:${i.toString(16).padStart(16, '0')} ESR:0000000096000004
FAR:0000000000000008 HPFAR:00000000000a0000 PAR:0000000000000000
VCPU:0000000000000000
`
  test('10,000 panics are decoded, and the last says that there are more', () => {
    const log = Array.from({ length: 10_001 }, (_, i) => panic(i)).join('')
    const panics = decodePanics(log)
    expect(panics.length).toBe(10_000)
    expect(panics.filter(({ notes }) => notes.some((note) => note.includes('further panics'))).length).toBe(1)
    expect(panics.at(-1)!.notes.join()).toContain('further panics')
    expect(decodePanics(log.slice(0, log.lastIndexOf('kvm ['))).at(-1)!.notes).toEqual([])
  })

  test('facts of a boot that say ever new things are not all kept', () => {
    const offsets = Array.from(
      { length: 40_000 },
      (_, i) => `[ 1.0] Kernel Offset: 0x${i.toString(16)}0000 from 0xffff800080000000\n`,
    )
    const log = `${offsets.join('')}${panic(1)}Kernel Offset: 0xabc0000 from 0xffff800080000000\n`
    const [boot, ...more] = readBoots(bytesSource('log', log))
    expect(more).toEqual([])
    expect(boot!.panics.map(({ kaslrOffset }) => kaslrOffset)).toEqual([0xabc0000n])
    const { facts } = boot!.findings
    expect(facts.length).toBeLessThan(1000)
    expect(facts.find(({ field }) => field === 'kaslrOffset')!.value).toBe(0n)
  })

  test('of boots without a panic nothing is kept', () => {
    const boot = (i: number) => `Linux version 6.1.${i}\n[ 1.0] Kernel Offset: 0x10000 from 0xffff800080000000\n`
    const boots = readBoots(bytesSource('log', `${boot(1)}${boot(2)}${boot(3)}${panic(1)}${boot(4)}`))
    const releases = boots.map(({ findings }) => findings.facts.filter(({ field }) => field === 'release'))
    expect(releases.map((facts) => facts.map(({ value }) => value))).toEqual([['6.1.3']])
  })
})
