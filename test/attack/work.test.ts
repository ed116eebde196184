import { describe, expect, test } from 'vitest'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { decodePanics, type HypLayout, parseLayout, parseSymbols, renderSvg, renderText } from '../../src/index.ts'
import { hypRegions, kernelRegions } from '../../src/layout/regions.ts'
import { bytesSource } from '../../src/source.ts'
import { Census } from '../../src/translate/census.ts'
import { compileSegments } from '../../src/translate/directions.ts'
import { fixture } from '../fixtures.ts'
import { growth, workOf } from './work.ts'

const recover = (text: string) => recoverLayout([bytesSource('file', text)])
const lines = (count: number, line: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n')
const hex = (value: number | bigint, digits = 8) => value.toString(16).padStart(digits, '0')

const HYP_OFFSET = 'kvm [40]: Hyp Offset: 0xffffff5987e00000'
const PANIC = fixture('panics/hyppanic-6.1-bug.txt').toString()

/** Pairs of one layout. */
const pair = (i: number) => `0xffff0000${hex(0xee7000 + 8 * i)} 0x89b3${hex(0x80ee7000 + 8 * i)}`

const banks = (count: number, size = 0x100000n): HypLayout => ({
  tagLsb: 38,
  tagVal: 0x100n,
  pageOffset: 0xffff000000000000n,
  physOffset: 0x40000000n,
  pageSize: 4096,
  vaBits: 48,
  dram: Array.from({ length: count }, (_, i) => {
    const start = 0x40000000n + BigInt(i) * 0x200000n
    return { start, end: start + size }
  }),
})

/** An ELF file whose symbols all have names that end where the table of names does. */
function vmlinux(count: number): Uint8Array {
  const names = 20 * count
  const [symbolsAt, namesAt] = [64, 64 + 24 * count]
  const sectionsAt = (namesAt + names + 7) & ~7
  const bytes = new Uint8Array(sectionsAt + 4 * 64)
  const view = new DataView(bytes.buffer)
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(18, 183, true)
  view.setBigUint64(0x28, BigInt(sectionsAt), true)
  view.setUint16(0x3a, 64, true)
  view.setUint16(0x3c, 4, true)
  bytes.fill(97, namesAt + 1, namesAt + names - 1)
  for (let i = 0; i < count; i++) {
    const at = symbolsAt + 24 * i
    view.setUint32(at, 1 + (i % 19), true)
    view.setUint8(at + 4, 0x12)
    view.setUint16(at + 6, 1, true)
    view.setBigUint64(at + 8, 0xffff800010000000n + BigInt(i) * 16n, true)
  }
  const section = (index: number, type: number, at: number, size: number, link = 0) => {
    view.setUint32(sectionsAt + 64 * index + 4, type, true)
    view.setBigUint64(sectionsAt + 64 * index + 0x18, BigInt(at), true)
    view.setBigUint64(sectionsAt + 64 * index + 0x20, BigInt(size), true)
    view.setUint32(sectionsAt + 64 * index + 0x28, link, true)
  }
  section(2, 2, symbolsAt, 24 * count, 3)
  section(3, 3, namesAt, names)
  return bytes
}

const quietly = (call: () => unknown) => {
  try {
    call()
  } catch {
    // Only its work is asked for.
  }
}

describe('four times the input is at most five times the work', () => {
  test.each<[string, number, (size: number) => unknown]>([
    [
      'a chain of reserved memory in /proc/iomem',
      100,
      (n) =>
        recover(
          `40000000-4fffffff : System RAM\n${lines(n, (i) => `${hex(0x50000000 + i * 0x1000)}-${hex(0x50000fff + i * 0x1000)} : reserved`)}`,
        ),
    ],
    ['the same Hyp Offset again and again', 200, (n) => recover(lines(n, () => HYP_OFFSET))],
    [
      'a Hyp Offset that is always another',
      200,
      (n) => recover(lines(n, (i) => `Hyp Offset: 0x${hex(0x10000 * (i + 1))}`)),
    ],
    ['pairs that agree', 200, (n) => recover(lines(n, pair))],
    [
      'pairs of which the last contradicts',
      200,
      (n) => recover(`${lines(n, pair)}\n0xffff000040000000 0x123440000000`),
    ],
    ['pairs and their tag', 200, (n) => recover(`tag_lsb = 31, tag_val = 0x16\n${lines(n, pair)}`)],
    [
      'banks in a log',
      200,
      (n) => recover(lines(n, (i) => `node   0: [mem 0x${hex(i * 0x10000)}-0x${hex(i * 0x10000 + 0xfff)}]`)),
    ],
    ['boots in a log', 50, (n) => recover(lines(n, () => PANIC))],
    ['panics of one line', 100, (n) => decodePanics(lines(n, () => HYP_OFFSET))],
    ['whole panics', 10, (n) => decodePanics(lines(n, () => PANIC))],
    [
      'panics whose registers differ',
      50,
      (n) =>
        decodePanics(
          lines(
            n,
            (i) =>
              `Kernel panic - not syncing: HYP panic:\nPS:800003c9 PC:00000066${hex(0x80400000 + 4 * i)} ESR:0000000097c08005\nFAR:0000000000000008 HPFAR:00000000000a0000 PAR:0000000000000000\nVCPU:0000000000000000`,
          ),
        ),
    ],
    ['symbols at one address', 200, (n) => parseSymbols(lines(n, (i) => `ffff800010000000 T f${i}`))],
    ['names that share their ends', 200, (n) => quietly(() => parseSymbols(vmlinux(n)))],
    ['regions of banks', 100, (n) => [kernelRegions(banks(n)), hypRegions(banks(n))]],
    ['a picture of banks, as text', 100, (n) => renderText(banks(n))],
    ['a picture of banks, as SVG', 100, (n) => renderSvg(banks(n))],
    ['a summary of banks', 60, (n) => new Census(banks(n))],
    ['segments of banks', 100, (n) => compileSegments(banks(n), 'kernel', 'hyp')],
  ])('%s', (_, size, call) => expect(growth(size, call)).toBeLessThan(5))
})

test.each([
  ['of one boot', ''],
  ['each of a boot of its own', '[    0.000000] Linux version 6.1.0-56-arm64\n'],
])('a log with 16 panics, %s, is at most 1.5 times the work of one as long with a single panic', (_, begin) => {
  const noise = lines(16_000, (i) => `[    7.${i}] systemd: Started Session ${i} of user root`)
  // Panics of boots differ in their offsets: here by the place where KASLR put the image.
  const panic = (i: number) => `${begin}${PANIC}`.replace('300ad8', (0x300ad8 + 2 * i).toString(16))
  const log = (count: number) => {
    const panics = Array.from({ length: count }, (_, i) => panic(i))
    const rest = noise.slice(0, 150_000 - panics.join('').length)
    return panics
      .map((text, i) => text + rest.slice((rest.length * i) / count, (rest.length * (i + 1)) / count))
      .join('')
  }
  decodePanics(log(1))
  expect(log(16).length - log(1).length).toBeLessThan(16)
  expect(decodePanics(log(16))).toHaveLength(16)
  expect(workOf(() => decodePanics(log(16))) / workOf(() => decodePanics(log(1)))).toBeLessThan(1.5)
})

describe('no input is too long for the stack', () => {
  const messageOf = (call: () => unknown) => {
    try {
      call()
      return 'nothing thrown'
    } catch (error) {
      return (error as Error).message
    }
  }
  test.each([
    ['a string', `{"format":"hypva-layout/1","mode":"${'a'.repeat(20_000_000)}"`, 'layout: not JSON: '],
    ['a number', `[${'1'.repeat(20_000_000)}`, 'layout: not JSON: '],
    ['blanks', `{${' '.repeat(20_000_000)}x`, 'line 1, column 20000002: '],
    ['arrays', '['.repeat(2_000_000), 'layout: not JSON: '],
    ['closed arrays', '['.repeat(1_000_000) + ']'.repeat(1_000_000), 'layout: expected an object, got an array'],
    ['objects', '{"a":'.repeat(1_000_000), 'layout: not JSON: '],
    ['a word', 'a'.repeat(20_000_000), 'layout: not JSON: '],
    [
      'digits',
      `{"format":"hypva-layout/1","tagLsb":31,"tagVal":"0x${'f'.repeat(10_000_000)}"}`,
      'needs more than 64 bits',
    ],
  ])('JSON: %s', (_, text, message) => expect(messageOf(() => parseLayout(text))).toContain(message))

  test('a layout of more banks than any machine has', () => {
    const range = (i: number) => ({ start: `0x${(2 * i).toString(16)}000`, end: `0x${(2 * i + 1).toString(16)}000` })
    const text = (count: number) =>
      JSON.stringify({
        format: 'hypva-layout/1',
        tagLsb: 38,
        tagVal: '0x1',
        dram: Array.from({ length: count }, (_, i) => range(i)),
      })
    expect(messageOf(() => parseLayout(text(100_000)))).toBe('layout.dram: expected at most 4096 ranges, got 100000')
    expect(parseLayout(text(4096)).dram).toHaveLength(4096)
  })

  test('blocks of all banks together are limited', () => {
    const small = { ...banks(4000, 0x180000n), tagLsb: 12, tagVal: 1n }
    expect(messageOf(() => compileSegments(small, 'kernel', 'hyp'))).toContain('spans more than 4096 blocks')
  })

  test('130,000 panics and 130,000 pairs: what repeats is counted, what contradicts is found', () => {
    const { provenance, conflicts } = recover(`${lines(130_000, () => HYP_OFFSET)}\nHyp Offset: 0x1000`)
    expect(provenance).toEqual({})
    const sides = conflicts.find(({ field }) => field === 'hypOffset')!.sides
    expect(sides).toHaveLength(2)
    expect(sides[0]!.provenance).toHaveLength(64)
    expect(sides[0]!.provenance.at(-1)!.where).toBe('line 64 and 129936 more')
    expect(sides[1]!.provenance[0]!.where).toBe('line 130001')

    const pairs = recover(lines(130_000, pair))
    expect(pairs.conflicts).toEqual([])
    expect(pairs.candidates.length).toBeGreaterThan(1)
    expect(pairs.notes.map(({ text }) => text)).toEqual([
      'holds more than 100000 pairs; only those before line 100001 are used',
    ])
    expect(recover(`${lines(90_000, pair)}\n0xffff000040000000 0x123440000000`).conflicts).toHaveLength(1)
  })
})
