import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { bytesOf, SAMPLES } from '../contents.ts'
import { boot, fixture, machineJson } from '../fixtures.ts'
import { hypva, MAIN, scratch } from './hypva.ts'

const dir = scratch()
mkdirSync(join(dir, 'out'))

function put(name: string, data: string | Uint8Array): string {
  const file = join(dir, name)
  writeFileSync(file, data)
  return file
}

const LAYOUT = join(dir, 'layout.json')
hypva(['layout', 'compute', '-m', put('machine.json', machineJson(boot('exec-6.1-kaslr'))), '-o', LAYOUT])
const { kernel_va: KERNEL, hyp_va: HYP } = boot('exec-6.1-kaslr').pairs[0]!
const AS_HYP = `0x${HYP.slice(2).padStart(16, '0')}`
const KALLSYMS = put('kallsyms', fixture('traces/exec-6.1-kaslr.kallsyms.gz'))

const samples = Object.entries(SAMPLES)
const xz = put('trace.xz', bytesOf(SAMPLES.xz!))
const good = put('good.txt', `pc ${KERNEL}\n`)
const memory = put('memory', fixture('evidence/d61-kaslr/text.bin.gz'))

/** One line on stderr, nothing on stdout, exit code 2. */
function expectRefusal(args: string[], message: RegExp, input?: Uint8Array) {
  const { code, out, err } = hypva(args, input === undefined ? {} : { input })
  expect(err).toMatch(message)
  expect(err).toMatch(/^hypva: [^\n]*\n$/)
  expect([code, out.toString()]).toEqual([2, ''])
}

/** The message names the input, what it is, and the command that makes text of it. */
const says = (name: string, sample: (typeof SAMPLES)[string], expected: string) =>
  new RegExp(
    `^hypva: ${name}: ${sample.name.source.slice(1)}[^\n]*, not ${expected}: [^\n]*\`${sample.command.replace('.', '\\.')}`,
  )

describe('translate', () => {
  test.each(samples)('%s is refused before anything is written', (name, sample) => {
    const out = put(`out/${name}`, 'old')
    const file = put(name, bytesOf(sample))
    expectRefusal(['translate', file, '-l', LAYOUT, '-o', out], says(file, sample, 'plain text'))
    expect(readFileSync(out, 'utf8')).toBe('old')
    expect(readdirSync(join(dir, 'out')).filter((entry) => entry.endsWith('.tmp'))).toEqual([])
  })

  test('from standard input, for names, and for a summary', () => {
    const bytes = bytesOf(SAMPLES.zip!)
    const message = /^hypva: standard input: a zip archive, not plain text: extract it with `unzip -p FILE` \(--text /
    expectRefusal(['translate', '-l', LAYOUT], message, bytes)
    expectRefusal(['translate', '-l', LAYOUT, '--to', 'name', '--symbols', KALLSYMS], message, bytes)
    expectRefusal(['translate', '-l', LAYOUT, '--annotate', '--symbols', KALLSYMS], message, bytes)
    expectRefusal(['summary', '-l', LAYOUT], message, bytes)
  })

  test('binary data: what to do with it', () => {
    expectRefusal(
      ['translate', memory, '-l', LAYOUT],
      /memory: binary data, not plain text: .*--format u64le.*`strings /,
    )
  })

  test('the command is for pasting: a name that a shell would take apart is left out', () => {
    const file = put('my trace;.xz', bytesOf(SAMPLES.xz!))
    expectRefusal(['translate', file, '-l', LAYOUT], /my trace;\.xz: xz-compressed data, .*`xz -dc FILE`/)
    expectRefusal(['translate', xz, '-l', LAYOUT], new RegExp(`\`xz -dc ${xz}\``))
  })

  test('what gzip holds is looked at as well', () => {
    const file = put('perf.data.gz', gzipSync(bytesOf(SAMPLES.perf!)))
    const message =
      /a perf\.data file inside gzip, not plain text: unpack the gzip, then print it with `perf script -i FILE`/
    expectRefusal(['translate', file, '-l', LAYOUT], message)
    expectRefusal(['translate', '-l', LAYOUT], message, readFileSync(file))
    expectRefusal(['translate', '-l', LAYOUT], /gzip data inside gzip/, gzipSync(gzipSync('x\n')))
    const damaged = Buffer.from(gzipSync(Buffer.from(Array.from({ length: 3000 }, (_, i) => `${i * i}`).join())))
    damaged[2] = 0x41
    expectRefusal(['translate', '-l', LAYOUT], /binary data/, damaged)
    damaged[2] = 8
    damaged[9] = 0x55
    expectRefusal(['translate', '-l', LAYOUT], /gzip data, not plain text/, damaged)
  })

  test('of several files all are looked at before the first is translated', () => {
    const out = put('out/several', 'old')
    const gz = put('memory.gz', gzipSync(readFileSync(memory)))
    for (const bad of [xz, gz]) {
      expectRefusal(['translate', good, bad, '-l', LAYOUT], /(xz-compressed|binary) data/)
      expectRefusal(['translate', good, good, bad, '-l', LAYOUT, '-o', out], /(xz-compressed|binary) data/)
    }
    expect(readFileSync(out, 'utf8')).toBe('old')
    const { code, out: text } = hypva(['translate', good, '-', good, '-l', LAYOUT], { input: `x ${KERNEL}\n` })
    expect([code, text.toString()]).toEqual([0, `pc ${AS_HYP}\nx ${AS_HYP}\npc ${AS_HYP}\n`])
  })

  test('--text overrides, and raw words are not looked at', () => {
    const odd = Buffer.concat([bytesOf(SAMPLES.xz!), Buffer.from(` ${KERNEL}\n`)])
    const file = put('odd', odd)
    const want = Buffer.concat([bytesOf(SAMPLES.xz!), Buffer.from(` ${AS_HYP}\n`)])
    expect(hypva(['translate', file, '-l', LAYOUT, '--text'])).toEqual({ code: 0, out: want, err: '' })
    expect(hypva(['translate', '-l', LAYOUT, '--text'], { input: gzipSync(odd) })).toEqual({
      code: 0,
      out: want,
      err: '',
    })
    expect(hypva(['summary', good, file, '-l', LAYOUT, '--text']).code).toBe(0)
    const words = bytesOf(SAMPLES.traceDat!).subarray(0, 16)
    for (const format of ['u64le', 'u64be']) {
      const { code, out, err } = hypva(['translate', '-l', LAYOUT, '--format', format], { input: words })
      expect([code, out]).toEqual([0, words])
      expect(err).toMatch(/^hypva: note: nothing was translated: .*\n$/)
      expectRefusal(['translate', '-l', LAYOUT, '--format', format, '--text'], /--text is for text/, words)
    }
  })

  test('a magic number in two pieces of a pipe', async () => {
    const child = spawn('sh', [
      '-c',
      // The pause only makes it likely that two reads see it.
      `{ printf '\\3757zX'; sleep 0.3; printf 'Z\\0\\0\\4'; } | "$0" "$1" translate -l "$2"`,
      ...[process.execPath, MAIN, LAYOUT],
    ])
    let [out, err] = ['', '']
    child.stdout.on('data', (bytes) => (out += bytes))
    child.stderr.on('data', (bytes) => (err += bytes))
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(2)
    expect([out, err]).toEqual(['', expect.stringMatching(/xz-compressed data/)])
  })

  test.each([
    [
      'UTF-16 without a mark',
      "printf 'p\\0c\\0 \\0'; sleep 0.3; printf 'f\\0f\\0f\\0f\\0f\\0'",
      2,
      /UTF-16 text, not plain/,
    ],
    // A power cycle, then what it was for.
    ['NULs before a log', `head -c 300 /dev/zero; sleep 0.3; echo 'pc is at ${KERNEL}'`, 0, /^$/],
  ])('%s in two pieces of a pipe', async (_, made, code, says) => {
    // The pause only makes it likely that two reads see it.
    const command = `{ ${made}; } | "$0" "$1" translate -l "$2"`
    const { status, stdout, stderr } = spawnSync('sh', ['-c', command, process.execPath, MAIN, LAYOUT])
    expect([status, stderr.toString()]).toEqual([code, expect.stringMatching(says)])
    expect(stdout.toString()).toBe(code === 0 ? `${'\0'.repeat(300)}pc is at ${AS_HYP}\n` : '')
  })

  test('a pipe is answered by its first piece, and a beginning that may be a magic number by the next', async () => {
    const child = spawn(process.execPath, [MAIN, 'translate', '-l', LAYOUT])
    const answered = async (want: string) => {
      let answer = ''
      while (answer.length < want.length) {
        answer += await new Promise<string>((resolve) => child.stdout.once('data', (bytes) => resolve(String(bytes))))
      }
      expect(answer).toBe(want)
    }
    child.stdin.write('P')
    child.stdin.write(`C ${KERNEL}\n`)
    await answered(`PC ${AS_HYP}\n`)
    child.stdin.write('PK\u0003\u0004\n')
    await answered('PK\u0003\u0004\n')
    child.stdin.end()
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0)
  })
})

describe('decode', () => {
  const some = samples.filter(([name]) => ['elf', 'kdump', 'perf', 'zstd', 'utf16', 'tar', 'journal'].includes(name))
  test.each(some)('%s is refused', (name, sample) => {
    const file = put(name, bytesOf(sample))
    expectRefusal(['decode', file], says(file, sample, 'a log'))
  })
  test('from standard input, inside gzip, binary data', () => {
    expectRefusal(['decode'], /^hypva: standard input: xz-compressed data, not a log/, bytesOf(SAMPLES.xz!))
    const file = put('log.xz.gz', gzipSync(bytesOf(SAMPLES.xz!)))
    expectRefusal(['decode', file], /xz-compressed data inside gzip, not a log: unpack the gzip, then .*`xz -dc FILE`/)
    expectRefusal(['decode', memory], /binary data, not a log: print the text in it with `strings .*`/)
  })
  test('--text overrides', () => {
    const panic = fixture('panics/p61-brk800-vcpurun.txt')
    const odd = put('odd.log', Buffer.concat([bytesOf(SAMPLES.xz!), Buffer.from('\n'), panic]))
    expectRefusal(['decode', odd], /xz-compressed/)
    const { code, out } = hypva(['decode', '--text', odd])
    expect([code, out.toString()]).toEqual([0, expect.stringMatching(/^hyp BUG/)])
  })
})

describe('evidence', () => {
  const some = samples.filter(([name]) => ['perf', 'zstd', 'xz', 'tar', 'utf16NoMark'].includes(name))
  test.each(some)('%s is refused', (name, sample) => {
    const file = put(name, bytesOf(sample))
    const { code, out, err } = hypva(['layout', 'recover', file])
    expect(code).toBe(2)
    expect(out.toString().split('\n')[0]).toBe(`${file}: a format that hypva does not read`)
    expect(err).toMatch(
      new RegExp(
        `^hypva: ${file}: ${sample.name.source.slice(1)}.*, which hypva does not read: .*\`${sample.command}.*\n$`,
      ),
    )
  })

  test('no layout is written', () => {
    const out = put('out/kept.json', 'old')
    expect(hypva(['layout', 'recover', xz, '-o', out]).code).toBe(2)
    expect(readFileSync(out, 'utf8')).toBe('old')
  })

  test('inside gzip', () => {
    const { code, err } = hypva(['layout', 'recover', put('log.gz.gz', gzipSync(gzipSync('x\n')))])
    expect([code, err]).toEqual([2, expect.stringMatching(/gzip data, which hypva does not read/)])
  })

  test('other evidence still gives a layout, and the note is on stderr', () => {
    const { code, out, err } = hypva(['layout', 'recover', xz, memory, '-o', '-'])
    expect([code, JSON.parse(out.toString()).tagVal]).toEqual([0, '0x629b2'])
    expect(err).toBe(
      `hypva: ${xz}: xz-compressed data, which hypva does not read: decompress it with \`xz -dc FILE\`\n`,
    )
  })
})

describe('symbols and layouts', () => {
  test('the same message', () => {
    const symbols = (file: string) => ['translate', '-l', LAYOUT, '--to', 'name', '--symbols', file]
    expectRefusal(symbols(xz), /trace\.xz: xz-compressed data, no symbol table: decompress it with `xz -dc FILE`/)
    expectRefusal(symbols(memory), /memory: binary data, no symbol table: expected \/proc\/kallsyms/)
    expectRefusal(['translate', '-l', xz], /trace\.xz: xz-compressed data, not JSON: decompress it with `xz -dc /)
    expectRefusal(['translate', '-l', memory], /memory: binary data, not JSON: expected a layout/)
    expectRefusal(['check', '-m', put('m.gz', gzipSync('{}'))], /m\.gz: gzip data, not JSON: .*`gzip -dc /)
  })
})
