import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { jobsFor } from '../../src/cli/jobs/job-count.ts'
import { fixture } from '../fixtures.ts'
import { hypva, MAIN, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const LAYOUT = join(ROOT, 'samples/exec-6.1.layout.json')
const BLOCK = 1 << 21

const log = fixture('traces/exec-6.1-kaslr.log.gz')

/** Text whose every block boundary falls somewhere nasty. */
function trap(): Buffer {
  const text = Buffer.alloc(6 * BLOCK + 12_345)
  for (let at = 0; at < text.length; at += log.length) log.copy(text, at)
  const put = (boundary: number, before: number, piece: string) =>
    text.write(piece, boundary * BLOCK - before, 'latin1')
  // A token across the boundary, one that ends there, one that begins there, one longer than any token, an endless word.
  put(1, 7, ' 0x89b380ef1c00 ')
  put(2, 17, ' 000089b380ef1c00 000089b380ef1138')
  put(3, 200, ` ${'f'.repeat(190)}000089b380ef1c00${'f'.repeat(40)}000089b380ef1c00 `)
  put(4, 18, ' 0x000089b380ef1c00 ')
  put(5, 3, '_0x89b380ef1c00_')
  return text
}

function translate(input: Buffer, jobs: number | undefined, ...args: string[]) {
  const [source, target] = [join(dir, 'in'), join(dir, 'out')]
  writeFileSync(source, input)
  const more = jobs === undefined ? [] : ['--jobs', String(jobs)]
  const { code, err } = hypva(['translate', source, '-l', LAYOUT, '-o', target, ...more, ...args])
  return { code, err, bytes: readFileSync(target) }
}

/** The same through a pipe, which no jobs share. */
function translatePiped(input: Buffer, ...args: string[]) {
  const target = join(dir, 'piped')
  const { code, err } = hypva(['translate', '-l', LAYOUT, '-o', target, ...args], { input })
  return { code, err: err.replaceAll('standard input', join(dir, 'in')), bytes: readFileSync(target) }
}

describe('however many jobs, the bytes are those of a pipe', () => {
  test.each([
    ['hyp to kernel, where text grows', ['--from', 'hyp', '--to', 'kernel']],
    ['kernel to hyp, in place', []],
    ['physical, where short tokens count', ['--from', 'phys', '--to', 'linear']],
    ['unchecked', ['--unchecked']],
  ])('%s', (_, args) => {
    const input = trap()
    const piped = translatePiped(input, ...args, '--stats')
    expect(piped.code).toBe(0)
    for (const jobs of [1, 2, 3, 7]) {
      const shared = translate(input, jobs, ...args, '--stats')
      expect(shared.bytes.equals(piped.bytes)).toBe(true)
      expect(shared.err).toBe(piped.err)
    }
  })

  test('raw words, whole and cut', () => {
    const words = new BigUint64Array((3 * BLOCK) / 8 + 5).map((_, i) => 0x89b380000000n + BigInt(i * 64))
    for (const rest of [0, 3]) {
      const input = Buffer.concat([Buffer.from(words.buffer), Buffer.alloc(rest)])
      for (const format of ['u64le', 'u64be']) {
        const piped = translatePiped(input, '--format', format, '--from', 'hyp', '--to', 'linear')
        for (const jobs of [1, 2]) {
          const shared = translate(input, jobs, '--format', format, '--from', 'hyp', '--to', 'linear')
          expect(shared.bytes.equals(piped.bytes)).toBe(true)
          expect(shared.bytes.length).toBe(words.byteLength)
          expect([shared.code, shared.err]).toEqual([piped.code, piped.err])
          expect(shared.code).toBe(rest === 0 ? 0 : 2)
        }
      }
    }
  })

  test('counts and the first miss are those of the whole', () => {
    const blanks = Buffer.alloc(2 * BLOCK, ' ')
    blanks.write('0x89b380ef1c00', 5000)
    // Of another boot.
    const input = Buffer.concat([
      blanks,
      Buffer.from('0x91b380000000 '),
      Buffer.alloc(BLOCK, ' 0x91b380000008 0x5678 '),
    ])
    const args = ['--from', 'hyp', '--strict', '--stats']
    const piped = translatePiped(input, ...args)
    expect(piped.err).toContain(`byte ${2 * BLOCK}`)
    for (const jobs of [1, 3]) {
      const { code, err } = translate(input, jobs, ...args)
      expect([code, err]).toEqual([1, piped.err])
    }
  })

  test('a large file is shared without being asked', () => {
    const input = Buffer.concat(Array(1 + Math.floor((128 << 20) / log.length)).fill(log))
    expect(jobsFor(input.length, undefined)).toBe(Math.min(availableParallelism(), 65))
    const piped = translatePiped(input, '--from', 'hyp')
    expect(translate(input, undefined, '--from', 'hyp').bytes.equals(piped.bytes)).toBe(true)
  })

  test('a small one is not, and none by more jobs than there are blocks', () => {
    expect([0, 1, BLOCK].map((size) => jobsFor(size, undefined))).toEqual([0, 0, 0])
    expect([BLOCK + 1, 100 << 20].map((size) => jobsFor(size, undefined))).toEqual([1, 1])
    expect([BLOCK, BLOCK + 1, 5 * BLOCK].map((size) => jobsFor(size, 4))).toEqual([0, 2, 4])
  })
})

test('--jobs wants a number', () => {
  for (const bad of ['0', '-1', 'many', '']) {
    const { code, err } = hypva(['translate', '-l', LAYOUT, '--jobs', bad])
    expect([code, err.trim().split('\n').length]).toEqual([2, 1])
  }
})

test.each([1, 2])('%i jobs on a full file system: one line, and the old output stays', (jobs) => {
  const mount = join(dir, `mnt${jobs}`)
  mkdirSync(mount)
  writeFileSync(join(dir, 'big'), trap())
  const script = [
    'mount -t tmpfs -o size=2m tmpfs "$4" || exit 77',
    'echo old > "$4/out"',
    '"$0" "$1" translate "$2" -l "$3" -o "$4/out" --jobs $5; echo "exit $?" >&2',
    'cat "$4/out"; ls -A "$4"; umount "$4"',
  ].join('\n')
  const { status, stdout, stderr } = spawnSync('unshare', [
    ...['-m', 'sh', '-c', script, process.execPath, MAIN, join(dir, 'big'), LAYOUT, mount, String(jobs)],
  ])
  if (status === 0) {
    expect(stderr.toString()).toMatch(/^hypva: cannot write .*out: no space left on the device\nexit 2\n$/)
    expect(stdout.toString()).toBe('old\nout\n')
  } else {
    // No right to mount: a file size limit fails in the same place.
    const limited = spawnSync('bash', [
      ...['-c', 'trap "" XFSZ; ulimit -f 1024; exec "$0" "$@"', process.execPath, MAIN, 'translate', join(dir, 'big')],
      ...['-l', LAYOUT, '-o', join(dir, 'limited'), '--jobs', String(jobs)],
    ])
    expect(limited.stderr.toString()).toMatch(/^hypva: cannot write .*limited: file too large\n$/)
    expect(limited.status).toBe(2)
  }
  expect(readdirSync(dir).filter((name) => name.endsWith('.tmp'))).toEqual([])
  expect(statSync(join(dir, 'big')).size).toBeGreaterThan(BLOCK)
})
