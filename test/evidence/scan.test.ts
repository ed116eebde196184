import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Engine } from '../../src/engine/engine.ts'
import { type HitGroup, PatchScanner, weigh } from '../../src/evidence/patch-scan.ts'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { type ByteSource, bytesSource } from '../../src/source.ts'

/** docs/kernel-facts.md, 2, word by word; shares no code with what is tested. */
function sequence(lsb: number, tag: number, r: number): number[] {
  const rr = r * 32 + r
  const hi = Math.floor(tag / 4096)
  const words = [
    0x92400000 + (lsb - 1) * 1024 + rr,
    0x93c00000 + r * 65536 + lsb * 1024 + rr,
    0x91000000 + (tag % 4096) * 1024 + rr,
    (hi === 0 ? 0x91000000 : 0x91400000) + hi * 1024 + rr,
    0x93c00000 + r * 65536 + (64 - lsb) * 1024 + rr,
  ]
  return tag === 0 ? [words[0]!, 0xd503201f, 0xd503201f, 0xd503201f, 0xd503201f] : words
}

function put(bytes: Uint8Array, at: number, words: readonly number[], little = true): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  words.forEach((word, i) => {
    view.setUint32(at + 4 * i, word, little)
  })
}

function scan(bytes: Uint8Array | ByteSource): readonly HitGroup[] {
  const scanner = new PatchScanner()
  const source = bytes instanceof Uint8Array ? bytesSource('x', bytes) : bytes
  scanner.scan(source, 0, undefined, 0n)
  return scanner.groups
}

const show = (groups: readonly HitGroup[]) =>
  groups.map(({ tagLsb, tagVal, count, at }) => [tagLsb, tagVal, count, at.map(Number)])

const lsbs = fc.integer({ min: 25, max: 51 })
const registers = fc.integer({ min: 0, max: 30 })
const tagOf = (lsb: number) => fc.integer({ min: 0, max: 2 ** Math.min(24, 52 - lsb) - 1 })
const layouts = lsbs.chain((lsb) => fc.tuple(fc.constant(lsb), tagOf(lsb)))

test('any mask, tag and register at any aligned place is found', () => {
  const places = fc.integer({ min: 0, max: 300 }).map((n) => 4 * n)
  fc.assert(
    fc.property(layouts, registers, places, fc.integer({ min: 0, max: 64 }), ([lsb, tag], r, at, more) => {
      const bytes = new Uint8Array(at + 20 + more)
      put(bytes, at, sequence(lsb, tag, r))
      expect(show(scan(bytes))).toEqual([[lsb, BigInt(tag), 1, [at]]])
    }),
  )
})

test('register 31 and unaligned places are nothing', () => {
  const bytes = new Uint8Array(64)
  put(bytes, 8, sequence(35, 0x1e83, 31))
  expect(scan(bytes)).toEqual([])
  put(bytes, 10, sequence(35, 0x1e83, 3))
  expect(scan(bytes)).toEqual([])
})

test('every fixed bit is checked: of 160, only those of the tag may change, and then it is another tag', () => {
  for (const [lsb, tag, r] of [
    [35, 0x1e83, 0],
    [31, 0x175eed, 19],
    [33, 0x24, 7],
  ] as const) {
    const words = sequence(lsb, tag, r)
    const free: string[] = []
    for (let bit = 0; bit < 160; bit++) {
      const bytes = new Uint8Array(20)
      put(bytes, 0, words)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      const [group] = scan(bytes)
      if (group === undefined) continue
      expect(group.tagLsb).toBe(lsb)
      expect(group.tagVal).not.toBe(BigInt(tag))
      free.push(`${bit >> 5}:${bit & 31}`)
    }
    // The immediates of the third and fourth word; without the shift bit the fourth has none.
    const immediate = (word: number) => Array.from({ length: 12 }, (_, i) => `${word}:${10 + i}`)
    const shifted = immediate(3).filter((bit) => (tag >> 12) ^ (1 << (Number(bit.slice(2)) - 10)))
    expect(free).toEqual(tag < 4096 ? immediate(2) : [...immediate(2), ...shifted])
  }
})

test('the kernel itself checks every fixed bit', () => {
  const engine = new Engine(4096)
  const at = engine.heap
  const hits = (words: readonly number[]) => {
    put(engine.bytes.subarray(at), 0, words)
    return engine.exports.scanPatch(at, at + 20, at + 1024, 4)
  }
  const words = sequence(35, 0x1e83, 4)
  expect(hits(words)).toBe(1)
  expect(hits(sequence(35, 0x1e83, 31))).toBe(0)
  for (let bit = 0; bit < 160; bit++) {
    const changed = words.map((word, i) => (i === bit >> 5 ? (word ^ (1 << (bit & 31))) >>> 0 : word))
    const immediate = [2, 3].includes(bit >> 5) && (bit & 31) >= 10 && (bit & 31) < 22
    // Bit 10 of the fourth word is its only immediate bit: without it the shift bit has to go as well.
    expect([bit, hits(changed)]).toEqual([bit, immediate && bit !== 3 * 32 + 10 ? 1 : 0])
  }
})

test('random memory has no sequence', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1000, maxLength: 4000 }), (bytes) => {
      expect(scan(bytes)).toEqual([])
    }),
    { numRuns: 200 },
  )
  const bytes = new Uint8Array(1 << 24)
  let state = 12345
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < bytes.length; i += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    view.setUint32(i, state ^ (state >>> 13))
  }
  expect(scan(bytes)).toEqual([])
})

test('chunk edges, short reads: nothing is lost and nothing counted twice', () => {
  const size = (1 << 18) * 2 + 100
  const reads = fc.integer({ min: 1, max: 1 << 18 })
  fc.assert(
    fc.property(fc.integer({ min: -6, max: 6 }), fc.array(reads, { minLength: 1, maxLength: 5 }), (shift, limits) => {
      const bytes = new Uint8Array(size)
      const at = (1 << 18) + 4 * shift
      put(bytes, at, sequence(35, 0x1e83, 4))
      put(bytes, size - 20, sequence(35, 0x1e83, 5))
      put(bytes, 0, sequence(35, 0x1e83, 6))
      let turn = 0
      const source: ByteSource = {
        name: 'short',
        size,
        read(offset, into) {
          const piece = bytes.subarray(
            offset,
            Math.min(size, offset + into.length, offset + limits[turn++ % limits.length]!),
          )
          into.set(piece)
          return piece.length
        },
      }
      // Tiny reads of a large file only repeat themselves.
      fc.pre(limits.some((limit) => limit > 1 << 12))
      expect(show(scan(source))).toEqual([[35, 0x1e83n, 3, [0, at, size - 20]]])
    }),
    { numRuns: 40 },
  )
})

test('thousands of hits in a chunk', () => {
  const bytes = new Uint8Array(20 * 5000)
  for (let i = 0; i < 5000; i++) put(bytes, 20 * i, sequence(35, 0x1e83, i % 31))
  const [group, ...others] = scan(bytes)
  expect([group!.count, others]).toEqual([5000, []])
})

describe('kinds', () => {
  test('reversed words (big-endian data) are recognised and said', () => {
    const bytes = new Uint8Array(4096)
    put(bytes, 64, sequence(35, 0x1e83, 4), false)
    const { layout, notes } = recoverLayout([bytesSource('x', bytes)])
    expect(layout).toMatchObject({ tagLsb: 35, tagVal: 0x1e83n })
    expect(notes[0]!.text).toMatch(/reversed \(big-endian data\)/)
  })
  test('words before patching are recognised and said', () => {
    const bytes = new Uint8Array(4096)
    put(bytes, 64, [0x92400000, 0x93c00400, 0x91000000, 0x91400000, 0x93c0fc00])
    const { layout, notes } = recoverLayout([bytesSource('x', bytes)])
    expect(layout).toEqual({})
    expect(notes[0]!.text).toMatch(/before patching, first at offset 0x40/)
  })
  test('a mask and NOPs count where nothing else does, and only a mask as wide as memory', () => {
    const bytes = new Uint8Array(4096)
    put(bytes, 64, sequence(8, 0, 4))
    expect(scan(bytes)).toEqual([])
    put(bytes, 128, sequence(38, 0, 4))
    expect(recoverLayout([bytesSource('x', bytes)]).layout).toMatchObject({ tagLsb: 38, tagVal: 0n })
    put(bytes, 256, sequence(35, 0x1e83, 4))
    const { layout, conflicts } = recoverLayout([bytesSource('x', bytes)])
    expect([layout.tagLsb, conflicts]).toEqual([35, []])
  })
  test('a few that disagree are reported with their places', () => {
    const bytes = new Uint8Array(4096)
    for (let i = 0; i < 20; i++) put(bytes, 64 * i, sequence(35, 0x1e83, 4))
    put(bytes, 3000, sequence(33, 0x24, 4))
    const { layout, notes, conflicts } = recoverLayout([bytesSource('x', bytes)])
    expect(conflicts).toEqual([])
    expect(layout.tagLsb).toBe(35)
    expect(notes[0]!.text).toBe('1 patched sequence disagree: tag_lsb 33, tag_val 0x24 at offset 0xbb8')
  })
  test('weighing', () => {
    const group = (count: number, tagLsb: number): HitGroup => ({
      tagLsb,
      tagVal: 1n,
      form: 'full',
      swapped: false,
      count,
      at: [],
    })
    expect(weigh([]).best).toBeUndefined()
    expect(weigh([group(7, 31), group(8, 32)]).rivals.map(({ tagLsb }) => tagLsb)).toEqual([32, 31])
    expect(weigh([group(1, 31), group(9, 32)])).toMatchObject({ best: { tagLsb: 32 }, strays: [{ tagLsb: 31 }] })
  })
})

test('pages that cannot be read are skipped', () => {
  const size = 1 << 20
  const bytes = new Uint8Array(size)
  put(bytes, 8192, sequence(35, 0x1e83, 4))
  put(bytes, 600_000, sequence(35, 0x1e83, 4))
  const source: ByteSource = {
    name: 'holes',
    size,
    read(offset, into) {
      const end = Math.min(size, offset + into.length)
      // One bad page, and a stretch of bad ones longer than a chunk.
      const bad = (from: number, to: number) => offset < to && end > from
      if (bad(4096, 8192) || bad(131072, 524288)) throw new Error('EIO')
      into.set(bytes.subarray(offset, end))
      return end - offset
    },
  }
  const scanner = new PatchScanner()
  scanner.scan(source, 0, undefined, 0n)
  expect(show(scanner.groups)).toEqual([[35, 0x1e83n, 2, [8192, 600_000]]])
  expect(scanner.unreadable).toBe(4096 + 524288 - 131072)
})
