import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, type Stats, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { openSource, readWhole } from '../../src/cli/io/file-source.ts'
import { gunzipFlow } from '../../src/cli/io/gunzip.ts'
import { CALLS, type Flow, fillFrom, type ReadCalls } from '../../src/cli/io/reading.ts'
import { readText } from '../../src/cli/io/text.ts'
import { recoverLayout } from '../../src/evidence/recover.ts'
import { forEachLine, readFully } from '../../src/source.ts'
import { runs } from '../campaign.ts'
import { fixture } from '../fixtures.ts'
import { MAIN, scratch } from './hypva.ts'

const dir = scratch()
function put(name: string, data: string | Uint8Array): string {
  const file = join(dir, name)
  writeFileSync(file, data)
  return file
}

const failure = (code: string) => Object.assign(new Error(`${code}: as the system says it`), { code })
const MIB = 1 << 20
const same = (a: Uint8Array, b: Uint8Array) => Buffer.from(a.buffer, a.byteOffset, a.length).equals(b)

/** The system's calls, of which the nth read (from 1) does `fault` first. */
function faulty(
  nth: (call: number) => boolean,
  fault: (into: Uint8Array) => Uint8Array,
): ReadCalls & { reads: number } {
  const calls = {
    ...CALLS,
    reads: 0,
    read: (fd: number, into: Uint8Array, position: number | undefined) =>
      CALLS.read(fd, nth(++calls.reads) ? fault(into) : into, position),
  }
  return calls
}
const fails = (code: string) => () => {
  throw failure(code)
}

const PANIC = fixture('panics/p61-brk800-vcpurun.txt')
const KALLSYMS = fixture('evidence/d61-kaslr/kallsyms.txt.gz')
const files: [string, string][] = [
  ['a log', put('panic', PANIC)],
  ['gzip', put('kallsyms.gz', gzipSync(KALLSYMS))],
  ['an empty file', put('empty', '')],
]
const everything = (file: string, calls: ReadCalls = CALLS) => {
  const source = openSource(file, { calls })
  try {
    return readWhole(source)
  } finally {
    source.close()
  }
}

describe.each(files)('%s', (_, file) => {
  const whole = everything(file)
  const reads = (() => {
    const calls = faulty(() => false, fails('EIO'))
    everything(file, calls)
    return calls.reads
  })()

  test('an interrupted read is made again', () => {
    const calls = faulty((n) => n % 2 === 1, fails('EINTR'))
    expect(same(everything(file, calls), whole)).toBe(true)
    expect(calls.reads).toBeGreaterThanOrEqual(2 * reads)
  })
  test.each([1, 3, 7])('reads of %i bytes, the first or all, give the same', (size) => {
    expect(
      same(
        everything(
          file,
          faulty(
            (n) => n === 1,
            (into) => into.subarray(0, size),
          ),
        ),
        whole,
      ),
    ).toBe(true)
    expect(
      same(
        everything(
          file,
          faulty(
            (n) => n < 500,
            (into) => into.subarray(0, size),
          ),
        ),
        whole,
      ),
    ).toBe(true)
  })
  test('any read that fails is an error with the name of the file and the place', () => {
    for (let n = 1; n <= reads; n++) {
      const message = `cannot read ${file}: input/output error at offset 0x`
      expect(() =>
        everything(
          file,
          faulty((call) => call === n, fails('EIO')),
        ),
      ).toThrow(message)
      expect(() =>
        everything(
          file,
          faulty((call) => call === n, fails('ESTALE')),
        ),
      ).toThrow('stale file handle')
    }
  })
  test('closed once, whatever happens', () => {
    let open = 0
    const counted = (calls: ReadCalls): ReadCalls => ({
      ...calls,
      open: (name) => {
        open++
        return calls.open(name)
      },
      close: (fd) => {
        open--
        calls.close(fd)
      },
    })
    everything(file, counted(CALLS))
    expect(open).toBe(0)
    expect(() => everything(file, counted(faulty(() => true, fails('EIO'))))).toThrow()
    expect(open).toBe(0)
    const noStat = { ...CALLS, stat: fails('EIO') }
    expect(() => everything(file, counted(noStat))).toThrow(`cannot read ${file}: input/output error`)
    expect(open).toBe(0)
  })
})

test('a layout: interrupted, short and failing reads', () => {
  const file = put('text', 'a layout, as it were\n')
  expect(
    readText(
      file,
      faulty((n) => n % 2 === 1, fails('EINTR')),
    ),
  ).toBe('a layout, as it were\n')
  expect(
    readText(
      file,
      faulty(
        () => true,
        (into) => into.subarray(0, 1),
      ),
    ),
  ).toBe('a layout, as it were\n')
  expect(() =>
    readText(
      file,
      faulty((n) => n === 2, fails('EIO')),
    ),
  ).toThrow(`cannot read ${file}: input/output error at offset 0x15`)
})

/** A pipe of these bytes over and over, `length` of them in all. */
function pipe(head: Uint8Array, length: number): ReadCalls & { given: number } {
  const calls = {
    open: () => 99,
    stat: () =>
      ({ isFile: () => false, isDirectory: () => false, isCharacterDevice: () => false, size: 0 }) as unknown as Stats,
    close: () => {},
    given: 0,
    read(_: number, into: Uint8Array, __?: number) {
      const count = Math.min(into.length, length - calls.given, head.length - (calls.given % head.length))
      into.set(head.subarray(calls.given % head.length, (calls.given % head.length) + count))
      calls.given += count
      return count
    },
  }
  return calls
}

describe('a pipe', () => {
  const line = Buffer.from('[    1.000000] usb 1-1: a line like any other\n'.repeat(1000))
  const count = (source: ReturnType<typeof openSource>) => {
    let lines = 0
    forEachLine(source, () => lines++)
    return lines
  }
  test('that ends early is read as often as need be', () => {
    const source = openSource('x', { calls: pipe(line, 20 * line.length) })
    expect([source.sequential, count(source), count(source)]).toEqual([undefined, 20_000, 20_000])
  })
  test('that goes on is read once, and a second time is an error that says what to do', () => {
    const calls = pipe(line, 2000 * line.length)
    const source = openSource('x', { calls })
    expect(calls.given).toBeLessThan(40 * MIB)
    const head = new Uint8Array(MIB)
    for (let i = 0; i < 3; i++) expect(readFully(source, 0, head)).toBe(MIB)
    expect(count(source)).toBe(2_000_000)
    expect(readFully(source, 5, head.subarray(0, 1000))).toBe(1000)
    expect(() => count(source)).toThrow('cannot read x twice: it is a pipe of more than 16 MiB; give the file itself')
  })
  test('of an ELF core is held, and read at any place', () => {
    const core = new Uint8Array(MIB).map((_, i) => (i * 31) >> 3)
    core.set([0x7f, 0x45, 0x4c, 0x46])
    const source = openSource('x', { calls: pipe(core, 50 * MIB) })
    const piece = new Uint8Array(100)
    for (const at of [49 * MIB + 5, 7, 33 * MIB + 9]) {
      expect(readFully(source, at, piece)).toBe(100)
      expect(piece).toEqual(core.subarray(at % MIB, (at % MIB) + 100))
    }
    expect(() => openSource('x', { calls: pipe(core, 300 * MIB) })).toThrow(
      'more than 256 MiB in a pipe; give the file itself',
    )
  })
  test('of symbols is held up to a limit', () => {
    expect(readWhole(openSource('x', { calls: pipe(line, 1000 * line.length) })).length).toBe(1000 * line.length)
    expect(() => readWhole(openSource('x', { calls: pipe(line, 300 * MIB) }))).toThrow('more than 256 MiB in a pipe')
  })
  test('that fails in its middle is an error, not memory with a hole', () => {
    const calls = pipe(new Uint8Array(MIB).fill(1), 100 * MIB)
    const read = calls.read
    calls.read = (fd: number, into: Uint8Array) => {
      if (calls.given > 50 * MIB) throw failure('EIO')
      return read(fd, into, undefined)
    }
    expect(() => recoverLayout([openSource('x', { calls })])).toThrow('cannot read x: input/output error at offset 0x')
  })
  test('without evidence: that it was not looked at as memory is said', () => {
    const { files: kinds, notes } = recoverLayout([openSource('x', { calls: pipe(line, 1000 * line.length) })])
    expect(kinds).toEqual([{ file: 'x', kinds: ['unrecognised'] }])
    expect(notes[0]!.text).toMatch(/if it is memory, give the file itself/)
  })
})

describe('gzip, piece by piece', () => {
  const text = Buffer.from(Array.from({ length: 30_000 }, (_, i) => `${i} ${(i * 2654435761) % 1e9}\n`).join(''))
  const members = Buffer.concat([gzipSync(text), gzipSync(''), gzipSync('x'), gzipSync(text, { level: 1 })])
  /** All of it, read and given in such pieces. */
  const gunzip = (data: Uint8Array, read: number, given: number): Buffer => {
    let at = 0
    const source: Flow = {
      next(into) {
        const piece = data.subarray(at, at + Math.min(read, into.length))
        into.set(piece)
        at += piece.length
        return piece.length
      },
    }
    const flow = gunzipFlow('x', source)
    const pieces: Uint8Array[] = []
    for (;;) {
      const piece = new Uint8Array(given)
      const got = fillFrom(flow, piece)
      pieces.push(piece.subarray(0, got))
      if (got < given) return Buffer.concat(pieces)
    }
  }
  const damage = (data: Uint8Array, at: number) => {
    const copy = Buffer.from(data)
    copy[at] = copy[at]! ^ 0x10
    return copy
  }
  test.each([
    [1 << 16, 1 << 16],
    [1, 1 << 16],
    [1 << 16, 1],
    [777, 4096],
  ])('members one after another, %i bytes in, %i out', (read, given) => {
    const data = given === 1 || read === 1 ? Buffer.concat([gzipSync(text.subarray(0, 9999)), gzipSync('x')]) : members
    expect(gunzip(data, read, given).equals(gunzipSync(data))).toBe(true)
  })
  test('zeros behind it are padding', () => {
    const padded = Buffer.concat([members, Buffer.alloc(1000), Buffer.from('whatever')])
    expect(gunzip(padded, 4096, 4096).equals(gunzipSync(padded))).toBe(true)
  })
  // What zlib itself objects to is objected to in the same words.
  test.each<[string, Uint8Array]>([
    ['cut in the data', members.subarray(0, 40_000)],
    ['cut in the checksum', members.subarray(0, members.length - 6)],
    ['cut in a header', Buffer.concat([gzipSync('x'), members.subarray(0, 5)])],
    ['a checksum that is wrong', damage(members, members.length - 8)],
    ['a length that is wrong', damage(members, members.length - 4)],
    ['a code that is wrong', damage(members, 5000)],
    ['something else behind it', Buffer.concat([gzipSync(text), Buffer.from('whatever')])],
  ])('%s', (_, data) => {
    let expected = ''
    try {
      gunzipSync(data)
    } catch (error) {
      expected = (error as Error).message
    }
    expect(expected).not.toBe('')
    expect(() => gunzip(data, 4096, 4096)).toThrow(`cannot read x: damaged gzip data (${expected})`)
  })

  test('a file that makes more than is held is read in order, and again from its beginning', () => {
    const part = Buffer.from('[    1.000000] usb 1-1: a line like any other\n'.repeat(20_000))
    const data = Buffer.concat(Array.from({ length: 60 }, () => gzipSync(part, { level: 1 })))
    for (const [name, bytes] of [
      ['large.gz', data],
      // More than is tried in one piece: what does not compress in front.
      ['larger.gz', Buffer.concat([gzipSync(Buffer.from(noise(9 * MIB))), data])],
    ] as const) {
      const source = openSource(put(name, bytes))
      expect(source.sequential).toBe('again')
      const expected = createHash('sha256').update(gunzipSync(bytes)).digest('hex')
      for (let i = 0; i < 2; i++) expect(digest(source)).toBe(expected)
      source.close()
    }
  })

  /** Bytes without a pattern. */
  function noise(length: number): Uint8Array {
    let state = 1
    return Uint8Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state >>> 24
    })
  }
  function digest(source: ReturnType<typeof openSource>): string {
    const hash = createHash('sha256')
    const piece = new Uint8Array(1 << 16)
    for (let at = 0; ; ) {
      const got = source.read(at, piece)
      if (got === 0) return hash.digest('hex')
      hash.update(piece.subarray(0, got))
      at += got
    }
  }

  test('what is said to be small and is not', () => {
    // The last member's size is all that a file says of its own.
    const data = Buffer.concat([gzipSync(Buffer.alloc(40 * MIB), { level: 1 }), gzipSync('x')])
    const source = openSource(put('said.gz', data))
    expect(source.sequential).toBe('again')
    expect(source.read(40 * MIB, new Uint8Array(9))).toBe(1)
  })
})

describe('a log of any length in 120 MB', () => {
  const preload = put(
    'peak.mjs',
    `import { readFileSync } from 'node:fs'
    process.on('exit', () => console.error(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]))`,
  )
  const block = put(
    'block',
    Array.from(
      { length: 17_000 },
      (_, i) => `[${(i / 7).toFixed(6).padStart(12)}] nfs: server ${i % 91} not responding, still trying\n`,
    ).join(''),
  )
  const panic = put('one-panic', PANIC)
  // The panic in the middle.
  const log = 'b() { for i in $(seq $1); do cat "$BLOCK"; done; }; (b TIMES; cat "$PANIC"; b TIMES)'
  // 150 MB or 300: more than the memory allowed, either way.
  const half = String(runs(85, 170))
  const cases: [string, string, string, RegExp][] = [
    ['decode', log.replaceAll('TIMES', half), 'decode -', /^hyp BUG|^hyp panic/],
    ['layout recover', log.replaceAll('TIMES', half), 'layout recover -', /kernel log/],
    ['decode, compressed', `(${log.replaceAll('TIMES', half)}) | gzip -1`, 'decode -', /^hyp BUG|^hyp panic/],
    ['layout recover, compressed', `(${log.replaceAll('TIMES', half)}) | gzip -1`, 'layout recover -', /kernel log/],
    ['a single line', `head -c ${runs(150e6, 300e6)} /dev/zero | tr "\\0" x`, 'decode -', /no hyp panic/],
    ['a bomb', `head -c ${runs(200e6, 500e6)} /dev/zero | gzip -1`, 'layout recover -', /memory/],
  ]
  test.each(cases)('%s', { timeout: 60_000 }, (_, stream, command, result) => {
    const script = `${stream} | "$NODE" --import "$PEAK" "$MAIN" ${command}`
    const env = { ...process.env, NODE: process.execPath, PEAK: preload, MAIN, BLOCK: block, PANIC: panic }
    const { stdout, stderr } = spawnSync('bash', ['-c', script], { env, encoding: 'utf8' })
    expect(stdout + stderr).toMatch(new RegExp(result, 'm'))
    const peak = Number(stderr.trim().split('\n').at(-1))
    expect(peak).toBeGreaterThan(20_000)
    expect(peak).toBeLessThan(120_000)
  })
})

test('the block of the test above is of the size that it says', () => {
  expect(readFileSync(join(dir, 'block')).length * runs(170, 340)).toBeGreaterThan(runs(150e6, 300e6))
})
