import { spawnSync } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openSource } from '../../src/cli/io/file-source.ts'
import { isLive, kcoreFailure, refuseLiveMemory, refuseMemoryDevice } from '../../src/cli/io/running-kernel.ts'
import { MAIN, ROOT, scratch } from './hypva.ts'

describe('what belongs to the running kernel', () => {
  test('files of /proc do, by their file system; others and links out of /proc do not', () => {
    const liveness = (file: string) => {
      const fd = openSync(file, 'r')
      try {
        return isLive(fd)
      } finally {
        closeSync(fd)
      }
    }
    // /proc/self/exe leads to a file on a disk, and /proc/self/fd/N to whatever is open there.
    const seen = ['/proc/self/maps', '/proc/self/exe', 'package.json'].map(liveness)
    expect(seen).toEqual([true, false, false])
  })
  test('where /proc is not mounted, the path tells', () => {
    const only = (known: string) => (path: string) => {
      if (path !== known) throw new Error('ENOENT')
      return { type: 0x9fa0 }
    }
    expect(isLive(9, '/chroot/kcore', only('/chroot/kcore'))).toBe(true)
    expect(isLive(9, '/chroot/kcore', only('/proc/self/fd/9'))).toBe(true)
    expect(isLive(9, undefined, only('/chroot/kcore'))).toBe(false)
  })
  test('a source says so', () => {
    const sources = ['/proc/self/maps', 'package.json'].map((file) => openSource(file))
    expect(sources.map(({ live }) => live === true)).toEqual([true, false])
    for (const source of sources) source.close()
  })
  test('its memory is refused where it would be read as text, a table or a layout', () => {
    // No file of /proc but /proc/kcore is an ELF file: the header is that of another file, the file system that of the first.
    const fd = openSync(process.execPath, 'r')
    const live = () => true
    expect(() => refuseLiveMemory('kcore', fd, fstatSync(fd), live)).toThrow(
      /^cannot read kcore: it is the memory of the running kernel/,
    )
    expect(() => refuseLiveMemory('vmlinux', fd, fstatSync(fd))).not.toThrow()
    closeSync(fd)
    const text = openSync('package.json', 'r')
    expect(() => refuseLiveMemory('config', text, fstatSync(text), live)).not.toThrow()
    closeSync(text)
  })
  test('devices of memory are refused by their number', () => {
    const device = (rdev: number) => Object.assign(statSync('/dev/null'), { rdev })
    // /dev/mem, /dev/kmem, and /dev/crash, which is a misc device.
    for (const rdev of [0x101, 0x102, 0xa00 + 59]) {
      expect(() => refuseMemoryDevice('dev', device(rdev))).toThrow(/hypervisor owns panics.*give \/proc\/kcore/)
    }
    expect(() => refuseMemoryDevice('null', statSync('/dev/null'))).not.toThrow()
    expect(() => refuseMemoryDevice('/proc/kcore', statSync('/dev/null'))).toThrow(/this container hides it/)
    expect(() => refuseMemoryDevice('file', Object.assign(statSync('package.json'), { rdev: 0x101 }))).not.toThrow()
  })
})

describe('a /proc/kcore that cannot be opened', () => {
  const failure = (code: string, mode?: string) => kcoreFailure('/proc/kcore', { code }, () => mode)?.message
  test.each([
    [
      'lockdown',
      failure('EPERM', 'confidentiality'),
      /lockdown is in confidentiality mode.*Other ways to the tag: the log/,
    ],
    ['a container', failure('EPERM', 'integrity'), /CAP_SYS_RAWIO.*on the host itself/],
    ['a container without lockdown', failure('EPERM'), /CAP_SYS_RAWIO/],
    ['no such file', failure('ENOENT'), /built without CONFIG_PROC_KCORE.*Other ways to the tag/],
    ['not root', failure('EACCES'), /permission denied; run hypva as root/],
  ])('%s: the cause, and the other ways', (_, message, wanted) => expect(message).toMatch(wanted))
  test('other files and other reasons are left to the general words', () => {
    expect(failure('EIO')).toBeUndefined()
    expect(kcoreFailure('/tmp/kcore', { code: 'EPERM' })).toBeUndefined()
  })
})

describe('every command that opens files, given a live /proc/kcore', () => {
  const dir = scratch()
  const kcore = join(dir, 'kcore')
  const seen = join(dir, 'seen.json')
  const MIB = 1 << 20
  /** A kernel image of 4 MiB at the end of the file, memory of the machine before it, as /proc/kcore lays them out. */
  const [IMAGE, IMAGE_SIZE, LINEAR, LINEAR_SIZE] = [16 * MIB, 4 * MIB, 8192, 12 * MIB]
  const vmcoreinfo = 'OSRELEASE=6.12.1\nPAGESIZE=4096\nSYMBOL(_stext)=ffffa00080010000\n'
  const bytes = new Uint8Array(IMAGE + IMAGE_SIZE)
  const view = new DataView(bytes.buffer)
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(16, 4, true)
  view.setUint16(18, 183, true)
  view.setBigUint64(32, 64n, true)
  view.setUint16(54, 56, true)
  view.setUint16(56, 3, true)
  const segments = [
    [4, 64 + 56 * 3, 0n, 0n, 24 + vmcoreinfo.length],
    [1, IMAGE, 0xffffa00080000000n, 0x40200000n, IMAGE_SIZE],
    [1, LINEAR, 0xffff000000000000n, 0x40000000n, LINEAR_SIZE],
  ] as const
  segments.forEach(([type, offset, virtual, physical, size], i) => {
    view.setUint32(64 + 56 * i, type, true)
    ;[BigInt(offset), virtual, physical, BigInt(size), BigInt(size)].forEach((value, field) => {
      view.setBigUint64(72 + 56 * i + 8 * field, value, true)
    })
  })
  view.setUint32(64 + 56 * 3, 11, true)
  view.setUint32(64 + 56 * 3 + 4, vmcoreinfo.length, true)
  bytes.set(new TextEncoder().encode('VMCOREINFO'), 64 + 56 * 3 + 12)
  bytes.set(new TextEncoder().encode(vmcoreinfo), 64 + 56 * 3 + 24)
  writeFileSync(kcore, bytes)

  // Loaded before hypva: the file system of the file is procfs, and what is read of it is written down.
  const shim = join(dir, 'shim.cjs')
  writeFileSync(
    shim,
    `const fs = require('node:fs')
    const { KCORE, SEEN } = process.env
    const { ino } = fs.statSync(KCORE)
    const isKcore = (fd) => { try { return fs.fstatSync(fd).ino === ino } catch { return false } }
    const reads = []
    const at = new Map()
    const note = (fd, count, position) => {
      if (!isKcore(fd) || !(count > 0)) return
      const from = typeof position === 'number' ? position : (at.get(fd) ?? 0)
      if (typeof position !== 'number') at.set(fd, from + count)
      reads.push([from, from + count])
    }
    const { statfsSync, readSync, read, readFileSync, createReadStream } = fs
    fs.statfsSync = (path) => {
      const stat = fs.statSync(path, { throwIfNoEntry: false })
      return stat?.ino === ino ? { type: 0x9fa0 } : statfsSync(path)
    }
    fs.readSync = (fd, into, ...rest) => {
      const count = readSync(fd, into, ...rest)
      note(fd, count, rest.length === 1 ? rest[0]?.position : rest[2])
      return count
    }
    fs.read = (fd, into, offset, length, position, done) =>
      read(fd, into, offset, length, position, (error, count) => { note(fd, count, position); done(error, count) })
    fs.readFileSync = (file, ...rest) => {
      const data = readFileSync(file, ...rest)
      const stat = typeof file === 'number' ? fs.fstatSync(file) : fs.statSync(file)
      if (stat.ino === ino) reads.push([0, data.length])
      return data
    }
    process.on('exit', () => fs.writeFileSync(SEEN, JSON.stringify(reads)))`,
  )

  function run(args: string[], stdin: string | undefined) {
    const fd = stdin === undefined ? 'ignore' : openSync(stdin, 'r')
    const { status, stderr } = spawnSync(process.execPath, ['--require', shim, MAIN, ...args], {
      cwd: ROOT,
      env: { ...process.env, KCORE: kcore, SEEN: seen },
      stdio: [fd, 'ignore', 'pipe'],
    })
    if (typeof fd === 'number') closeSync(fd)
    const reads = JSON.parse(readFileSync(seen, 'utf8')) as [number, number][]
    return { status, err: stderr.toString(), reads }
  }

  const LAYOUT = 'samples/exec-6.1.layout.json'
  const LOG = 'samples/exec-6.1.log'
  const translate = ['translate', '-l', LAYOUT]
  const name = [...translate, '--to', 'name']
  test.each<[string[], string?]>([
    [[...translate, kcore]],
    [[...translate, kcore, '--text']],
    [[...translate, kcore, '--format', 'u64le']],
    [['summary', '-l', LAYOUT, kcore]],
    [[...translate, LOG, kcore]],
    [translate, kcore],
    [[...translate, '--text'], kcore],
    [[...translate, '--format', 'u64be', '-'], kcore],
    [[...name, LOG, '--symbols', kcore]],
    [[...name, LOG, '--symbols', '-'], kcore],
    [['decode', kcore]],
    [['decode', kcore, '--text']],
    [['decode'], kcore],
    [['decode', '--text'], kcore],
    [['decode', 'samples/recover/panic.txt', '--symbols', kcore]],
    [['decode', 'samples/recover/panic.txt', '-l', kcore]],
    [['translate', LOG, '-l', kcore]],
    [['translate', LOG, '-l', '-'], kcore],
    [['explain', '0x1000', '-l', kcore]],
    [['layout', 'show', '-l', kcore]],
    [['layout', 'compute', '-m', kcore]],
    [['layout', 'compute', '-m', '-'], kcore],
    [['check', '-m', kcore]],
  ])('%j', (args, stdin) => {
    const { status, err, reads } = run(args, stdin)
    expect(err).toMatch(/^hypva: cannot read \S+( input)?: it is the memory of the running kernel.*\n$/)
    expect(status).toBe(2)
    // Its header, which the kernel makes up.
    expect(reads.length).toBeGreaterThan(0)
    expect(reads.filter(([, end]) => end > 4096)).toEqual([])
  })

  test.each<[string[], string?]>([
    [['layout', 'recover', kcore]],
    [['layout', 'recover', kcore, 'samples/recover/kallsyms.txt.gz']],
    [['layout', 'recover', '-'], kcore],
    [['layout', 'recover', '-', 'samples/recover/iomem.txt'], kcore],
  ])('%j reads no more than headers and the first MiB of text', (args, stdin) => {
    const { reads } = run(args, stdin)
    const text = IMAGE + 0x10000
    const stray = reads.filter(([start, end]) => end > 4096 && (start < text || end > text + MIB))
    expect(stray).toEqual([])
    expect(reads.some(([start]) => start >= text)).toBe(true)
  })

  test('layout recover --exhaustive is refused', () => {
    const { status, err, reads } = run(['layout', 'recover', kcore, '--exhaustive'], undefined)
    expect([status, err.trim().split('\n').length]).toEqual([2, 1])
    expect(err).toMatch(/not scanned exhaustively.*panics a protected host/)
    expect(reads.filter(([, end]) => end > 4096)).toEqual([])
  })
})
