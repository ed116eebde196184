import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { openSource } from '../../src/cli/file-source.ts'
import { isLive, kcoreFailure, refuseLiveMemory, refuseMemoryDevice } from '../../src/cli/live.ts'

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
    for (const rdev of [0x101, 0x102]) {
      expect(() => refuseMemoryDevice('dev', device(rdev))).toThrow(/hypervisor owns panics.*give \/proc\/kcore/)
    }
    expect(() => refuseMemoryDevice('null', statSync('/dev/null'))).not.toThrow()
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
