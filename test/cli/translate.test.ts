import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { runs } from '../campaign.ts'
import { boot, fixture, machineJson } from '../fixtures.ts'
import { hypva, MAIN, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const LAYOUT = join(dir, 'layout.json')
writeFileSync(join(dir, 'machine.json'), machineJson(boot('exec-6.1-kaslr')))
hypva(['layout', 'compute', '-m', join(dir, 'machine.json'), '-o', LAYOUT])

const { pairs } = boot('exec-6.1-kaslr')
const KERNEL = pairs.map(({ kernel_va }) => kernel_va).slice(0, 20)
// Sixteen digits in, sixteen out.
const HYP = pairs.map(({ hyp_va }) => `0x${hyp_va.slice(2).padStart(16, '0')}`).slice(0, 20)

const REAL_LOG = fixture('traces/exec-6.1-kaslr.log.gz')

/** A file of raw addresses. */
function raw(addresses: readonly string[], order: 'le' | 'be'): Buffer {
  const bytes = Buffer.alloc(addresses.length * 8)
  addresses.forEach((x, i) => {
    if (order === 'le') bytes.writeBigUInt64LE(BigInt(x), i * 8)
    else bytes.writeBigUInt64BE(BigInt(x), i * 8)
  })
  return bytes
}

function file(name: string, content: string | Buffer): string {
  const path = join(dir, name)
  writeFileSync(path, content)
  return path
}

/** One line on stderr that names what is wrong, nothing on stdout, no stack trace. */
function expectFailure(args: string[], code: number, message: RegExp, options = {}) {
  const result = hypva(args, options)
  expect(result.err).toMatch(message)
  expect(result.err.trim().split('\n')).toHaveLength(1)
  expect(result.err).not.toMatch(/^\s+at /m)
  expect(result.code).toBe(code)
  return result
}

describe('formats', () => {
  test('text from stdin and from files, which follow each other', () => {
    const a = file('a.txt', `${KERNEL[0]}\n`)
    const b = file('b.txt', `${KERNEL[1]} no newline`)
    const { out, code } = hypva(['translate', a, '-', b, '-l', LAYOUT], { input: `x ${KERNEL[2]}\r\n` })
    expect(out.toString()).toBe(`${HYP[0]}\nx ${HYP[2]}\r\n${HYP[1]} no newline`)
    expect(code).toBe(0)
  })

  test.each(['le', 'be'] as const)('u64%s', (order) => {
    const { out, code } = hypva(['translate', '-l', LAYOUT, '--format', `u64${order}`], { input: raw(KERNEL, order) })
    expect(out.equals(raw(HYP, order))).toBe(true)
    expect(code).toBe(0)
  })

  test('gzip is told by its header, in any format and from a pipe', () => {
    const text = KERNEL.join('\n')
    for (const args of [[file('t.bin', gzipSync(text))], []]) {
      const { out } = hypva(['translate', ...args, '-l', LAYOUT], { input: gzipSync(text) })
      expect(out.toString()).toBe(HYP.join('\n'))
    }
    const members = Buffer.concat([gzipSync(raw(KERNEL.slice(0, 3), 'be')), gzipSync(raw(KERNEL.slice(3), 'be'))])
    expect(hypva(['translate', '-l', LAYOUT, '--format', 'u64be'], { input: members }).out.equals(raw(HYP, 'be'))).toBe(
      true,
    )
  })

  test('raw words that begin like gzip are not gzip', () => {
    const words = ['0xffff000000088b1f', ...KERNEL]
    const { out, code } = hypva(['translate', '-l', LAYOUT, '--format', 'u64le'], { input: raw(words, 'le') })
    expect(code).toBe(0)
    expect(out.subarray(8).equals(raw(HYP, 'le'))).toBe(true)
    for (const start of [[0x1f], [0x1f, 0x8b], [0x1f, 0x8b, 8, 0x40, 0, 0, 0, 0, 0, 0, 0]]) {
      const { out } = hypva(['translate', '-l', LAYOUT, '--text'], { input: Buffer.from(start) })
      expect(out).toEqual(Buffer.from(start))
    }
  })

  test('empty input gives empty output', () => {
    for (const format of ['text', 'u64le', 'u64be']) {
      const { out, code, err } = hypva(['translate', '-l', LAYOUT, '--format', format])
      expect([out.length, code, err]).toEqual([0, 0, ''])
    }
  })

  test('--unchecked applies the macro to everything', () => {
    const { observed } = boot('exec-6.1-kaslr')
    const all = ['0x0', '0x123456789abcdef0', '0xffffffffffffffff', ...KERNEL]
    const want = all.map((x) => `0x${((BigInt(x) & BigInt(observed.va_mask)) | BigInt(observed.tag)).toString(16)}`)
    const { out } = hypva(['translate', '-l', LAYOUT, '--unchecked', '--format', 'u64le'], { input: raw(all, 'le') })
    expect(out.equals(raw(want, 'le'))).toBe(true)
    // All that the macro needs is the patched code's two numbers.
    const bare = file(
      'bare.json',
      `{"format":"hypva-layout/1","tagLsb":${observed.tag_lsb},"tagVal":"${observed.tag_val}"}`,
    )
    const text = hypva(['translate', '-l', bare, '--unchecked'], { input: '0x123 ffff00001234abcd' })
    expect(text.out.toString()).toBe(
      `${want[0]!.slice(0, -3)}123 ${((0x1234abcdn & BigInt(observed.va_mask)) | BigInt(observed.tag)).toString(16).padStart(16, '0')}`,
    )
  })
})

describe('counts', () => {
  // Other numbers: a program's address, a small one, one behind the linear map. And two in its holes.
  const input = `${KERNEL[0]} 0x7f0000000000 0x12 ffff800000000000 12345678\n`
  const holes = `${input}ffff000000000000 0xffff7fffffffffff\n`

  test('--stats says on stderr what happened', () => {
    const { out, err, code } = hypva(['translate', '-l', LAYOUT, '--stats'], { input })
    expect(err).toBe(
      `addresses: 1 translated, 3 other numbers unchanged; bytes: ${input.length} in, ${out.length} out\n`,
    )
    expect(code).toBe(0)
  })

  test('--strict exits with 1, names the first miss, and still writes everything', () => {
    const out = join(dir, 'strict.out')
    const result = hypva(['translate', '-l', LAYOUT, '--strict', '-o', out], { input: holes })
    expect(result.code).toBe(1)
    expect(result.err).toBe(
      `hypva: addresses that did not translate: 2, the first at standard input, byte ${input.length}\n`,
    )
    expect(readFileSync(out, 'utf8')).toBe(holes.replace(KERNEL[0]!, HYP[0]!))
    expect(hypva(['translate', '-l', LAYOUT, '--strict'], { input }).code).toBe(0)
    expect(hypva(['translate', '-l', LAYOUT, '--strict'], { input: KERNEL.join(' ') }).code).toBe(0)
    const binary = hypva(['translate', '-l', LAYOUT, '--strict', '--format', 'u64le'], {
      input: raw([KERNEL[0]!, '0x12'], 'le'),
    })
    expect([binary.code, binary.err]).toEqual([
      1,
      'hypva: addresses that did not translate: 1, the first at standard input, byte 8\n',
    ])
  })

  test('nothing is said without them', () => {
    expect(hypva(['translate', '-l', LAYOUT], { input }).err).toBe('')
  })
})

describe('what is wrong is said in one line', () => {
  test('inputs', () => {
    expectFailure(['translate', join(dir, 'missing'), '-l', LAYOUT], 2, /cannot read .*missing: no such file/)
    expectFailure(['translate', dir, '-l', LAYOUT], 2, /cannot read .*: is a directory/)
    expectFailure(['translate', '-', '-', '-l', LAYOUT], 2, /named twice/)
    expectFailure(['translate', '-', '-l', '-'], 2, /named twice/)
    const missing = hypva(['translate', file('one.txt', KERNEL[0]!), join(dir, 'missing'), '-l', LAYOUT])
    expect([missing.code, missing.out.length]).toEqual([2, 0])
  })

  test('damaged gzip: what could be decoded comes out, then the message', () => {
    const whole = gzipSync(REAL_LOG)
    for (const length of [30, 1000, 20_000, 200_000, whole.length - 1]) {
      const { out, err, code } = hypva(['translate', '-l', LAYOUT, '--from', 'image', '--to', 'image'], {
        input: whole.subarray(0, length),
      })
      expect(err).toMatch(/^hypva: cannot read standard input: damaged gzip data \(.*\)\n$/)
      expect(code).toBe(2)
      const zcat = spawnSync('zcat', { input: whole.subarray(0, length), maxBuffer: 2 ** 26 }).stdout
      expect(out.equals(zcat)).toBe(true)
    }
    const bad = Buffer.from(whole)
    bad.fill(0xff, 100_000, 100_100)
    expect(hypva(['translate', '-l', LAYOUT], { input: bad })).toMatchObject({ code: 2 })
  })

  test('damaged gzip from a pipe that stays open ends it all the same', async () => {
    const child = spawn(process.execPath, [MAIN, 'translate', '-l', LAYOUT], { stdio: ['pipe', 'ignore', 'pipe'] })
    const damaged = gzipSync('x'.repeat(1000))
    damaged.fill(0xff, 10, 20)
    child.stdin.write(damaged)
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(2)
  })

  test('an odd-sized binary file: whole addresses come out, then the offset', () => {
    const input = Buffer.concat([raw(KERNEL.slice(0, 3), 'le'), Buffer.from([1, 2, 3])])
    const { out, err, code } = hypva(['translate', '-l', LAYOUT, '--format', 'u64le'], { input })
    expect(out.equals(raw(HYP.slice(0, 3), 'le'))).toBe(true)
    expect(err).toMatch(/standard input: byte 24: 3 of the 8 bytes of an address/)
    expect(code).toBe(2)
    const kept = join(dir, 'whole.bin')
    expect(hypva(['translate', '-l', LAYOUT, '--format', 'u64le', '-o', kept], { input }).code).toBe(2)
    expect(readFileSync(kept).equals(raw(HYP.slice(0, 3), 'le'))).toBe(true)
    const summary = hypva(['summary', '-l', LAYOUT, '--format', 'u64le'], { input })
    expect(summary.err).toBe('hypva: standard input: the input ends with 3 of the 8 bytes of an address\n')
    expect(summary.out.length).toBe(0)
    expect(summary.code).toBe(2)
  })

  test('a file that ends inside an address is the last one read, by jobs or without', () => {
    const whole = raw(KERNEL, 'le')
    // Several blocks, so that the offset is that of the input.
    const large = Buffer.concat([...new Array(300_000).fill(whole.subarray(0, 16)), Buffer.from([1])])
    for (const [name, bytes] of [
      ['small', Buffer.concat([whole, Buffer.from([1, 2])])],
      ['large', large],
    ] as const) {
      const cut = file(`${name}.bin`, bytes)
      const out = join(dir, `${name}.out`)
      const more = ['translate', cut, file('more.bin', whole), '-l', LAYOUT, '--format', 'u64le', '--stats']
      for (const jobs of ['1', '2']) {
        const rest = bytes.length % 8
        const at = bytes.length - rest
        const { err, code } = hypva([...more, '-o', out, '--jobs', jobs])
        expect(err).toBe(
          `hypva: ${cut}: byte ${at}: ${rest} of the 8 bytes of an address; the ${at / 8} whole ones before it are written; hypva did not read the files after it\n`,
        )
        expect(code).toBe(2)
        expect(readFileSync(out).length).toBe(at)
      }
    }
  })

  test('layouts', () => {
    const good = JSON.parse(readFileSync(LAYOUT, 'utf8'))
    const bad = (change: object, message: RegExp) =>
      expectFailure(['translate', '-l', file('bad.json', JSON.stringify({ ...good, ...change }))], 2, message)
    bad({ tagVal: undefined }, /bad\.json: layout\.tagVal: missing/)
    bad({ tagval: '0x1' }, /layout\.tagval: unknown field/)
    bad({ tagVal: 70503 }, /layout\.tagVal: .*hex string/)
    bad({ kimageVoffset: '0xzz' }, /layout\.kimageVoffset: /)
    bad({ dram: [{ start: '0x80000000', end: '0x40000000' }] }, /layout\.dram\[0\]/)
    bad({ format: 'hypva-layout/2' }, /layout\.format: /)
    expectFailure(
      ['translate', '-l', file('no.json', '{"format":\n oops}')],
      2,
      /no\.json: layout: not JSON: line 2, column 2: Unexpected token 'o'/,
    )
    expectFailure(['translate', '-l', join(dir, 'none.json')], 2, /cannot read .*none\.json: no such file/)
  })

  test('a space that the layout does not reach: which field, and how to learn it', () => {
    const { kimageVoffset, ...rest } = JSON.parse(readFileSync(LAYOUT, 'utf8'))
    expect(kimageVoffset).toBeDefined()
    const partial = file('partial.json', JSON.stringify(rest))
    expectFailure(
      ['translate', '-l', partial, '--to', 'image'],
      2,
      /kimageVoffset \(NUMBER\(kimage_voffset\) in vmcoreinfo/,
    )
    const { err, code } = hypva(['translate', '-l', partial], { input: '' })
    expect([err, code]).toEqual([expect.stringMatching(/note: the layout has no image and kimageVoffset/), 0])
  })

  test('flags', () => {
    expectFailure(
      ['translate', '-l', LAYOUT, '--unchecked', '--from', 'hyp'],
      2,
      /unchecked: kern_hyp_va goes from kernel to hyp, not from hyp to kernel/,
    )
    expectFailure(['translate', '-l', LAYOUT, '--from', 'nowhere'], 2, /nowhere.*Allowed choices are kernel, linear/)
    expectFailure(['translate', '-l', LAYOUT, '--fromm', 'hyp'], 2, /unknown option '--fromm'.*Did you mean --from/)
    expectFailure(['translate'], 2, /required option '-l, --layout <file>'/)
    expectFailure(['trnslate'], 2, /unknown command 'trnslate'.*Did you mean translate/)
  })
})

describe('the output file is the old one or the complete new one', () => {
  const input = file('in.txt', KERNEL.join('\n'))
  const translated = HYP.join('\n')

  test('it is replaced as a whole, with the mode it had, and may be the input', () => {
    const out = file('out.txt', 'old')
    chmodSync(out, 0o640)
    expect(hypva(['translate', input, '-l', LAYOUT, '-o', out]).code).toBe(0)
    expect(readFileSync(out, 'utf8')).toBe(translated)
    expect(statSync(out).mode & 0o777).toBe(0o640)
    const same = file('same.txt', KERNEL.join('\n'))
    expect(hypva(['translate', same, '-l', LAYOUT, '-o', same]).code).toBe(0)
    expect(readFileSync(same, 'utf8')).toBe(translated)
    expect(readdirSync(dir).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  test('a symbolic link stays one', () => {
    const target = file('target.txt', 'old')
    const link = join(dir, 'link.txt')
    symlinkSync(target, link)
    expect(hypva(['translate', input, '-l', LAYOUT, '-o', link]).code).toBe(0)
    expect(readFileSync(target, 'utf8')).toBe(translated)
  })

  test('after an error the old one stays and nothing lies beside it', () => {
    const out = file('kept.bin', 'old')
    const cut = file('cut-log.gz', gzipSync(REAL_LOG).subarray(0, 200_000))
    expectFailure(['translate', cut, '-l', LAYOUT, '-o', out], 2, /cut-log\.gz: damaged gzip data/)
    expect(readFileSync(out, 'utf8')).toBe('old')
    expectFailure(['translate', input, '-l', LAYOUT, '-o', dir], 2, /cannot write .*: is a directory/)
    expectFailure(['translate', input, '-l', LAYOUT, '-o', join(dir, 'no/where')], 2, /cannot write .*: no such file/)
    expect(readdirSync(dir).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  test('a full disk', () => {
    expectFailure(['translate', input, '-l', LAYOUT, '-o', '/dev/full'], 2, /cannot write \/dev\/full: no space left/)
    expect(statSync('/dev/full').isCharacterDevice()).toBe(true)
    const shell = spawnSync('sh', [
      '-c',
      `exec "$0" "$1" translate "$2" -l "$3" > /dev/full`,
      process.execPath,
      MAIN,
      input,
      LAYOUT,
    ])
    expect(shell.stderr.toString()).toBe('hypva: cannot write standard output: no space left on the device\n')
    expect(shell.status).toBe(2)
  })

  test('no room for the end of it', () => {
    // One large piece and nothing behind it: what becomes of it is known only after all has been read.
    const text = file('large.txt', `${'no address in this line\n'.repeat(8000)}`)
    const out = file('kept.txt', 'old')
    const script = 'trap "" XFSZ; ulimit -f 100; exec "$0" "$1" translate "$2" -l "$3" -o "$4"'
    const { status, stderr } = spawnSync('bash', ['-c', script, process.execPath, MAIN, text, LAYOUT, out])
    expect(stderr.toString()).toBe(`hypva: cannot write ${out}: file too large\n`)
    expect(status).toBe(2)
    expect(readFileSync(out, 'utf8')).toBe('old')
  })

  test('a full file system, a read-only one', () => {
    // Both need a mount of their own; where there is no right to make one, the folder's own limits say the same.
    const mount = join(dir, 'mnt')
    mkdirSync(mount)
    const script = [
      'mount -t tmpfs -o size=64k tmpfs "$4" || exit 77',
      'echo old > "$4/out"',
      'yes | head -c 200000 > "$4/../big"',
      '"$0" "$1" translate "$4/../big" -l "$3" -o "$4/out"; echo "full $?" >&2',
      'cat "$4/out"; ls -A "$4"',
      'mount -o remount,ro "$4"',
      '"$0" "$1" translate "$2" -l "$3" -o "$4/out"; echo "ro $?" >&2',
      'cat "$4/out"; ls -A "$4"; umount "$4"',
    ].join('\n')
    const shell = spawnSync('unshare', ['-m', 'sh', '-c', script, process.execPath, MAIN, input, LAYOUT, mount])
    if (shell.status === 0) {
      expect(shell.stdout.toString()).toBe('old\nout\nold\nout\n')
      expect(shell.stderr.toString()).toMatch(
        /^hypva: cannot write .*out: no space left on the device.*\nfull 2\nhypva: cannot write .*out: read-only file system.*\nro 2\n$/,
      )
    } else {
      expectFailure(['translate', input, '-l', LAYOUT, '-o', '/proc/self/out'], 2, /cannot write/)
    }
  })

  test('an interrupt leaves the old one and says so', async () => {
    const out = file('interrupted.txt', 'old')
    const child = spawn(process.execPath, [MAIN, 'translate', '-l', LAYOUT, '-o', out])
    child.stdin.write(KERNEL.join('\n'))
    let err = ''
    child.stderr.on('data', (bytes) => {
      err += bytes
    })
    const temporary = () => readdirSync(dir).some((name) => name.endsWith('.tmp'))
    while (!temporary()) await new Promise((resolve) => setTimeout(resolve, 10))
    child.kill('SIGINT')
    const signal = await new Promise((resolve) => child.on('close', (_, s) => resolve(s)))
    expect(signal).toBe('SIGINT')
    expect(err).toBe(`hypva: interrupted; ${out} is unchanged\n`)
    expect(readFileSync(out, 'utf8')).toBe('old')
    expect(temporary()).toBe(false)
    expect(existsSync(out)).toBe(true)
  })
})

describe('a filter', () => {
  test('a closed pipe ends it quietly', () => {
    const script =
      'yes "$3 and more" | head -n 2000000 | { "$0" "$1" translate -l "$2"; echo "exit $?" >&2; } | head -n 1'
    const { stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, MAIN, LAYOUT, KERNEL[0]!])
    expect(stdout.toString()).toBe(`${HYP[0]} and more\n`)
    expect(stderr.toString()).toBe('exit 0\n')
  })

  const SAMPLE = ['-l', join(ROOT, 'samples/exec-6.1.layout.json')]
  const commands = [
    ['--version'],
    ['--help'],
    ['translate', '--help'],
    ['explain', '0x89b380ef1c00', ...SAMPLE],
    ['layout', 'show', ...SAMPLE],
    ['layout', 'compute', '-m', join(ROOT, 'samples/exec-6.1.machine.json')],
    ['layout', 'recover', join(ROOT, 'samples/recover/pairs.txt')],
  ]

  test.each(commands.map((c) => [c.slice(0, 2).join(' '), c] as const))(
    '%s into a closed pipe, into a full disk',
    (_, args) => {
      const run = (script: string) =>
        spawnSync('bash', ['-c', script, process.execPath, MAIN, ...args], { encoding: 'utf8' })
      const closed = run('{ sleep 0.2; "$0" "$@"; echo "exit $?" >&2; } | true')
      expect(closed.stderr).toBe('exit 0\n')
      const full = run('"$0" "$@" > /dev/full')
      expect(full.status).toBe(2)
      expect(full.stderr).not.toMatch(/^\s+at /m)
      const { status } = run('"$0" "$@" > /dev/null 2> /dev/full')
      expect(status).toBe(0)
    },
  )

  test('line in, line out: it answers before its input ends', async () => {
    const child = spawn(process.execPath, [MAIN, 'translate', '-l', LAYOUT])
    for (let i = 0; i < 5; i++) {
      const answer = new Promise<string>((resolve) => child.stdout.once('data', (bytes) => resolve(String(bytes))))
      child.stdin.write(`${KERNEL[i]} line ${i}\n`)
      expect(await answer).toBe(`${HYP[i]} line ${i}\n`)
    }
    child.stdin.end()
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0)
  })

  test('a pipe that pauses after any number of bytes is answered up to there', async () => {
    const fifo = join(dir, 'fifo')
    execFileSync('mkfifo', [fifo])
    const child = spawn('sh', ['-c', 'exec "$0" "$1" translate -l "$2" < "$3"', process.execPath, MAIN, LAYOUT, fifo])
    let arrived = 0
    let more = () => {}
    child.stdout.on('data', (bytes: Buffer) => {
      arrived += bytes.length
      more()
    })
    const pipe = await open(fifo, 'w')
    // A pipe holds 64 KiB, a chunk 256 KiB.
    let sent = 0
    for (const size of [1, 4096, 65535, 65536, 65537, 131072, 262143, 262144, 262145, 1_000_000]) {
      // A line's end at the end: nothing can be the beginning of an address.
      const bytes = Buffer.alloc(size, `${KERNEL[0]} and more\n`).fill('\n', size - 1)
      for (let at = 0; at < size; ) at += (await pipe.write(bytes, at)).bytesWritten
      sent += size
      while (arrived < sent) await new Promise<void>((resolve) => (more = resolve))
      expect(arrived).toBe(sent)
    }
    await pipe.close()
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0)
  })

  test('that nobody reads on is seen while the input stays open, after a large piece as well', async () => {
    // Fits a pipe at once, and makes more than 64 KiB.
    const burst = file('burst', '0x89b380ef1c00 and more\n'.repeat(2600))
    const script =
      '{ cat "$3"; exec sleep 1000; } | { "$0" "$1" translate -l "$2" --from hyp; echo "exit $?" >&2; } | true'
    const child = spawn('bash', ['-c', script, process.execPath, MAIN, LAYOUT, burst], { detached: true })
    try {
      const said = await new Promise((resolve) => child.stderr.once('data', (bytes) => resolve(String(bytes))))
      expect(said).toBe('exit 0\n')
    } finally {
      process.kill(-child.pid!)
    }
  })

  test('a full disk behind a large pipe: one line', () => {
    const script = 'yes "$3 and more" | head -n 200000 | "$0" "$1" translate -l "$2" > /dev/full'
    const { status, stderr } = spawnSync('bash', ['-c', script, process.execPath, MAIN, LAYOUT, KERNEL[0]!])
    expect(stderr.toString()).toMatch(/^hypva: cannot write standard output: no space left on the device\n$/)
    expect(status).toBe(2)
  })

  test('memory stays below 120 MB, however much goes through a pipe', () => {
    // Trace-like text, the sample over and over: 300 MB, or 2 GB. GNU time is not everywhere; the kernel's own peak is.
    const preload = file(
      'peak.mjs',
      `import { readFileSync } from 'node:fs'
      const peak = () => /VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]
      process.on('exit', () => console.error(peak()))`,
    )
    const blocks = runs(150, 1000)
    const script =
      'for i in $(seq 130); do cat "$3"; done > "$4"; for i in $(seq "$6"); do cat "$4"; done | "$0" --import "$5" "$1" translate -l "$2" --from hyp --to kernel --stats | wc -c'
    const { stdout, stderr } = spawnSync('bash', [
      '-c',
      script,
      process.execPath,
      MAIN,
      LAYOUT,
      join(import.meta.dirname, '../../samples/exec-6.1.log'),
      join(dir, 'block'),
      preload,
      String(blocks),
    ])
    const [stats, peak] = stderr.toString().trim().split('\n')
    expect(Number(/bytes: (\d+) in/.exec(stats!)?.[1])).toBeGreaterThan(blocks * 2e6)
    expect(Number(stdout)).toBeGreaterThan(blocks * 2e6)
    expect(Number(peak)).toBeGreaterThan(20_000)
    expect(Number(peak)).toBeLessThan(120_000)
  })
})
