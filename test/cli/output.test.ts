import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type FileSystem, openOutput } from '../../src/cli/io/output.ts'
import { writeAll, writeAllLater } from '../../src/cli/io/writing.ts'
import { hypva, MAIN, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const LAYOUT = join(ROOT, 'samples/exec-6.1.layout.json')
const INPUT = join(ROOT, 'samples/exec-6.1.log')
const ROOT_USER = process.getuid?.() === 0

function file(name: string, content = 'old', mode = 0o644): string {
  const path = join(dir, name)
  fs.writeFileSync(path, content)
  fs.chmodSync(path, mode)
  return path
}

const leftovers = () => fs.readdirSync(dir).filter((name) => name.endsWith('.tmp'))
const modeOf = (path: string) => fs.statSync(path).mode & 0o7777

function fault(code: string): never {
  throw Object.assign(new Error(code), { code })
}

/** The real calls, except for those given; owner and group of the new file are what the last chown made of them. */
function systemWith(changes: Partial<FileSystem>, owner = { uid: 1, gid: 1 }): FileSystem {
  return {
    ...fs,
    accessSync: () => {},
    fstatSync: ((fd: number) => Object.assign(fs.fstatSync(fd), owner)) as typeof fs.fstatSync,
    fchownSync: (_, uid, gid) => {
      owner.uid = uid === -1 ? owner.uid : uid
      owner.gid = gid
    },
    ...changes,
  }
}

/** The old file as if it were user 7's and group 8's. */
const ofOthers = ((path: string) => Object.assign(fs.statSync(path), { uid: 7, gid: 8 })) as typeof fs.statSync

function replace(path: string, system: FileSystem): void {
  const output = openOutput(path, system)
  output.write(Buffer.from('new'))
  output.finish()
}

describe('owner, group and permission bits of a file that is replaced', () => {
  test('stay, less set-user-id, set-group-id and the sticky bit', () => {
    for (const mode of [0o755, 0o4755, 0o2750, 0o1777, 0o7644, 0o6600]) {
      const path = file('suid', 'old', 0o644)
      if (ROOT_USER) fs.chownSync(path, 1000, 1001)
      fs.chmodSync(path, mode)
      expect(modeOf(path)).toBe(mode)
      expect(hypva(['translate', INPUT, '-l', LAYOUT, '-o', path])).toMatchObject({ code: 0, err: '' })
      expect(modeOf(path)).toBe(mode & 0o777)
      const { uid, gid, size } = fs.statSync(path)
      if (ROOT_USER) expect([uid, gid]).toEqual([1000, 1001])
      expect(size).toBeGreaterThan(1000)
    }
  })

  test('the new file is its owner’s alone until it has the owner and group of the old one', () => {
    const old = process.umask(0)
    try {
      for (const mode of [0o666, 0o640, 0o444, 0o4755]) {
        const steps: string[] = []
        const path = file('exposed', 'old', mode)
        const note = (call: string, fd: number) =>
          steps.push(`${call} ${(fs.fstatSync(fd).mode & 0o7777).toString(8).padStart(4, '0')}`)
        const owner = { uid: 1, gid: 1 }
        replace(
          path,
          systemWith(
            {
              statSync: ofOthers,
              openSync: (...args) => {
                const fd = fs.openSync(...args)
                note('open', fd)
                return fd
              },
              fchownSync: (fd, uid, gid) => {
                Object.assign(owner, { uid, gid })
                note(`chown ${uid} ${gid}`, fd)
              },
              fchmodSync: (fd, bits) => {
                fs.fchmodSync(fd, bits)
                note('chmod', fd)
              },
            },
            owner,
          ),
        )
        const closed = (mode & 0o700).toString(8).padStart(4, '0')
        const final = (mode & 0o777).toString(8).padStart(4, '0')
        expect(steps).toEqual([`open ${closed}`, `chown 7 8 ${closed}`, `chmod ${final}`])
        expect(fs.readFileSync(path, 'utf8')).toBe('new')
      }
    } finally {
      process.umask(old)
    }
  })

  test.each(['EPERM', 'EINVAL', 'ENOSYS', 'ENOTSUP'])('%s for the owner: nobody gains a right', (code) => {
    // Ours is another group: it gets no more than everybody had, and neither do the members of the old one.
    for (const [mode, want] of [
      [0o664, 0o644],
      [0o640, 0o600],
      [0o604, 0o600],
      [0o666, 0o666],
      [0o4750, 0o700],
    ] as const) {
      const path = file('foreign', 'old', mode)
      replace(path, systemWith({ statSync: ofOthers, fchownSync: () => fault(code) }))
      expect([path, modeOf(path)]).toEqual([path, want])
      expect(fs.readFileSync(path, 'utf8')).toBe('new')
    }
  })

  test('an owner that cannot be kept is told', () => {
    const path = file('lost', 'old', 0o644)
    const preload = join(dir, 'foreign.cjs')
    fs.writeFileSync(
      preload,
      `const fs = require('node:fs')
      const { statSync } = fs
      fs.statSync = (path) => Object.assign(statSync(path), path === ${JSON.stringify(path)} ? { uid: 7 } : {})
      fs.fchownSync = () => {
        throw Object.assign(new Error(), { code: 'EPERM' })
      }`,
    )
    const args = ['--require', preload, MAIN, 'translate', INPUT, '-l', LAYOUT, '-o', path]
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect([status, stderr]).toEqual([
      0,
      `hypva: note: ${path} belonged to user 7 and is now yours: only root can keep the owner\n`,
    ])
    expect(fs.statSync(path).size).toBeGreaterThan(1000)
  })

  test('the group alone is kept where only the owner cannot be, with its bits', () => {
    const path = file('grouped', 'old', 0o664)
    const owner = { uid: 1, gid: 1 }
    replace(
      path,
      systemWith(
        {
          statSync: ofOthers,
          fchownSync: (_, uid, gid) => {
            if (uid !== -1) fault('EPERM')
            owner.gid = gid
          },
        },
        owner,
      ),
    )
    expect(owner).toEqual({ uid: 1, gid: 8 })
    expect(modeOf(path)).toBe(0o664)
  })

  test('a file system without permission bits is not asked for any', () => {
    const path = file('vfat', 'old', 0o644)
    const flat = (stats: fs.Stats) => Object.assign(stats, { uid: 0, gid: 0, mode: 0o100755 })
    replace(path, {
      ...fs,
      statSync: ((p: string) => flat(fs.statSync(p))) as typeof fs.statSync,
      fstatSync: ((fd: number) => flat(fs.fstatSync(fd))) as typeof fs.fstatSync,
      fchmodSync: () => fault('EPERM'),
      fchownSync: () => fault('EPERM'),
    })
    expect(fs.readFileSync(path, 'utf8')).toBe('new')
  })
})

describe('a file that the user may not write', () => {
  test('is left alone, though its directory would let it be replaced', () => {
    const path = file('readonly', 'precious', 0o444)
    const asked: unknown[] = []
    const opened: unknown[] = []
    const system = systemWith({
      accessSync: (...args) => {
        asked.push(args)
        fault('EACCES')
      },
      openSync: (...args) => {
        opened.push(args)
        return fs.openSync(...args)
      },
    })
    expect(() => openOutput(path, system)).toThrow(
      expect.objectContaining({ message: `cannot write ${path}: permission denied`, exitCode: 2 }),
    )
    // Asked of the file itself, before anything is made beside it.
    expect(asked).toEqual([[path, fs.constants.W_OK]])
    expect(opened).toEqual([])
    expect(fs.readFileSync(path, 'utf8')).toBe('precious')
  })

  test('by the command, without the rights of root', () => {
    const folder = join(dir, 'shared')
    fs.mkdirSync(folder)
    const path = join(folder, 'readonly')
    fs.writeFileSync(path, 'precious')
    fs.chmodSync(path, 0o444)
    // Root without capabilities is held to permission bits like everybody else.
    const user = ROOT_USER ? ['--bounding-set=-all', '--inh-caps=-all'] : []
    const args = [...user, process.execPath, MAIN, 'layout', 'show', '-l', LAYOUT, '--svg', path]
    const { status, stderr } = spawnSync('setpriv', args, { encoding: 'utf8' })
    expect([status, stderr]).toEqual([2, `hypva: cannot write ${path}: permission denied\n`])
    expect(fs.readFileSync(path, 'utf8')).toBe('precious')
    expect(fs.readdirSync(folder)).toEqual(['readonly'])
  })
})

describe('a name that stands for an open descriptor', () => {
  const LINE = 'pc 0x89b380ef1c00\n'
  const WANT = 'pc 0xffffad4306ef1c00\n'

  /** What stands in a file after `{ echo head; …; echo tail; } > FILE`, hypva being `$H`. */
  function around(command: string, redirection: string): string[] {
    const path = file('redirected', '')
    const script = `{ echo head >&3; ${command}; echo tail >&3; } 3>&1 ${redirection}`
    const H = `${process.execPath} ${MAIN} translate -l ${LAYOUT} --to kernel`
    const env = { ...process.env, H, F: path, LINK: join(dir, 'stdout-link'), OTHER: join(dir, 'redirected-link') }
    const { status, stderr } = spawnSync('sh', ['-c', `exec > "$F"; ${script}`], { input: LINE, env, encoding: 'utf8' })
    expect([status, stderr]).toEqual([0, ''])
    expect(leftovers()).toEqual([])
    return fs.readFileSync(path, 'utf8').split('\n')
  }
  fs.symlinkSync('/dev/stdout', join(dir, 'stdout-link'))
  fs.symlinkSync('redirected', join(dir, 'redirected-link'))

  const lines = ['head', WANT.trim(), 'tail', '']
  test.each([
    ['/dev/stdout'],
    ['/dev/fd/1'],
    ['/proc/self/fd/1'],
    ['/proc/thread-self/fd/1'],
    ['/dev/fd/3'],
    ['"$LINK"'],
    ['"$F"'],
    ['"$OTHER"'],
    ['-'],
  ])('-o %s adds to the file that it leads to', (name) => {
    expect(around(`$H -o ${name}`, '')).toEqual(lines)
  })

  test('standard error', () => {
    for (const name of ['/dev/stderr', '/dev/fd/2', '"$F"']) {
      expect(around(`$H -o ${name} 2>&1 > /dev/null`, '')).toEqual(lines)
    }
  })

  test('appended to', () => {
    const path = file('appended', 'head\n')
    const script = `${process.execPath} ${MAIN} translate -l ${LAYOUT} --to kernel -o /dev/stdout >> ${path}`
    expect(spawnSync('sh', ['-c', script], { input: LINE }).status).toBe(0)
    expect(fs.readFileSync(path, 'utf8')).toBe(`head\n${WANT}`)
  })

  test('of another process: what stands in the file stays', () => {
    const path = file('others', 'head\n')
    const fd = fs.openSync(path, 'a')
    try {
      expect(
        hypva(['translate', '-l', LAYOUT, '--to', 'kernel', '-o', `/proc/${process.pid}/fd/${fd}`], { input: LINE })
          .code,
      ).toBe(0)
    } finally {
      fs.closeSync(fd)
    }
    expect(fs.readFileSync(path, 'utf8')).toBe(`head\n${WANT}`)
  })
})

describe('a call that fails leaves the old file and nothing beside it', () => {
  const words: Record<string, string> = { EPERM: 'not permitted', EIO: 'input/output error', ENOSPC: 'no space left' }
  test.each([
    ['fchmodSync', 'EPERM'],
    ['fchmodSync', 'EIO'],
    ['fchownSync', 'EIO'],
    ['fstatSync', 'EIO'],
    ['writeSync', 'ENOSPC'],
    ['closeSync', 'EIO'],
    ['renameSync', 'EPERM'],
    ['openSync', 'EPERM'],
    ['realpathSync', 'EIO'],
  ] as const)('%s: %s', (call, code) => {
    const path = file('kept', 'old', 0o604)
    let failed = 0
    const system = systemWith({
      statSync: ofOthers,
      [call]: () => {
        failed++
        fault(code)
      },
    })
    const before = process.listenerCount('SIGINT')
    const run = () => {
      const output = openOutput(path, system)
      try {
        output.write(Buffer.from('new'))
        output.finish()
      } catch (error) {
        output.abandon()
        throw error
      }
    }
    expect(run).toThrow(new RegExp(`^cannot write ${path}: ${words[code]}`))
    expect(failed).toBeGreaterThan(0)
    expect(leftovers()).toEqual([])
    expect(fs.readFileSync(path, 'utf8')).toBe('old')
    expect(process.listenerCount('SIGINT')).toBe(before)
  })
})

describe('symbolic links that lead to no file yet', () => {
  const translate = (path: string) => hypva(['translate', INPUT, '-l', LAYOUT, '-o', path])

  test('the file at the end of them is made, and they stay', () => {
    fs.mkdirSync(join(dir, 'a/b'), { recursive: true })
    fs.mkdirSync(join(dir, 'c'))
    // What .. means behind `short` is the folder above a/b, not the one above `short`.
    fs.symlinkSync('a/b', join(dir, 'short'))
    for (const [link, to, target] of [
      ['absolute', join(dir, 'c/1'), 'c/1'],
      ['relative', 'c/2', 'c/2'],
      ['chain', 'relative-2', 'c/3'],
      ['relative-2', join(dir, 'c/../c/3'), 'c/3'],
      ['a/b/up', '../4', 'a/4'],
    ] as const) {
      fs.symlinkSync(to, join(dir, link))
      if (link === 'chain') continue
      const name = link === 'relative-2' ? 'chain' : link === 'a/b/up' ? 'short/up' : link
      expect(translate(join(dir, name))).toMatchObject({ code: 0, err: '' })
      expect(fs.lstatSync(join(dir, link)).isSymbolicLink()).toBe(true)
      expect(fs.lstatSync(join(dir, target)).isFile()).toBe(true)
      expect(fs.statSync(join(dir, target)).size).toBeGreaterThan(1000)
    }
    expect(fs.lstatSync(join(dir, 'chain')).isSymbolicLink()).toBe(true)
    expect(leftovers()).toEqual([])
  })

  test('loops and missing folders are errors', () => {
    fs.symlinkSync('loop-2', join(dir, 'loop-1'))
    fs.symlinkSync('loop-1', join(dir, 'loop-2'))
    fs.symlinkSync('no/where', join(dir, 'nowhere'))
    for (const [name, why] of [
      ['loop-1', 'too many symbolic links'],
      ['nowhere', 'no such file'],
      ['new/', 'no such directory'],
    ]) {
      const { code, err } = translate(`${dir}/${name}`)
      expect([code, err]).toEqual([2, `hypva: cannot write ${dir}/${name}: ${why}\n`])
    }
  })
})

describe('interrupted and refused writes are repeated', () => {
  // Each call writes three bytes at most, and every other one fails first.
  function reluctant() {
    const written: Buffer[] = []
    const positions: (number | null)[] = []
    let calls = 0
    const step = (bytes: Uint8Array, at: number, length: number, position: number | null) => {
      const code = [undefined, 'EINTR', 'EAGAIN'][calls++ % 3]
      if (code !== undefined) return fault(code)
      const count = Math.min(3, length)
      written.push(Buffer.from(bytes.subarray(at, at + count)))
      positions.push(position)
      return count
    }
    return {
      writeSync: ((_: number, bytes: Uint8Array, at: number, length: number, position: number | null) =>
        step(bytes, at, length, position)) as typeof fs.writeSync,
      write: ((
        _: number,
        bytes: Uint8Array,
        at: number,
        length: number,
        position: number | null,
        done: (error: unknown, count: number) => void,
      ) => {
        try {
          done(null, step(bytes, at, length, position))
        } catch (error) {
          done(error, 0)
        }
      }) as unknown as typeof fs.write,
      result: () => Buffer.concat(written).toString(),
      positions,
    }
  }

  test('at once and later, at a place and where the descriptor stands', async () => {
    for (const position of [null, 100]) {
      const want = position === null ? [null, null, null, null] : [100, 103, 106, 109]
      const now = reluctant()
      writeAll(9, Buffer.from('0123456789'), position, now)
      expect([now.result(), now.positions]).toEqual(['0123456789', want])
      const later = reluctant()
      await writeAllLater(9, Buffer.from('0123456789'), position, later)
      expect([later.result(), later.positions]).toEqual(['0123456789', want])
    }
  })

  test('of an output file', async () => {
    const path = file('reluctant')
    let calls = 0
    const system = systemWith({
      writeSync: ((...args: Parameters<typeof fs.writeSync>) =>
        calls++ % 2 === 0 ? fault('EINTR') : fs.writeSync(...args)) as typeof fs.writeSync,
    })
    replace(path, system)
    expect(calls).toBe(2)
    expect(fs.readFileSync(path, 'utf8')).toBe('new')
  })
})

describe('standard output that cannot be written to', () => {
  const SAMPLE = ['-l', LAYOUT]
  const run = (redirection: string, args: string[], shell = 'sh') =>
    spawnSync(shell, ['-c', `"$0" "$@" ${redirection}; echo "exit $?" >&2`, process.execPath, MAIN, ...args], {
      encoding: 'utf8',
    }).stderr

  test.each([
    ['explain', '0x89b380ef1c00', ...SAMPLE],
    ['translate', INPUT, ...SAMPLE],
    ['summary', INPUT, ...SAMPLE],
    ['layout', 'show', ...SAMPLE],
    ['translate', '--help'],
  ])('closed: %s %s', (...args) => {
    for (const shell of ['sh', 'bash']) {
      expect(run('>&-', args, shell)).toBe('hypva: cannot write standard output: it is closed\nexit 2\n')
      // Closed for the shell as well.
      const inherited = spawnSync(shell, ['-c', 'exec >&-; "$0" "$@"; exit $?', process.execPath, MAIN, ...args])
      expect([inherited.status, inherited.stderr.toString()]).toEqual([
        2,
        'hypva: cannot write standard output: it is closed\n',
      ])
    }
  })

  test('one that is thrown away is not closed', () => {
    const args = ['explain', '0x89b380ef1c00', ...SAMPLE]
    expect(run('> /dev/null', args)).toBe('exit 0\n')
    // Node opens /dev/null for reading and writing here, as it does for a descriptor that is closed.
    const ignored = spawnSync(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
    expect([ignored.status, ignored.stderr.toString()]).toEqual([0, ''])
    const below = spawnSync('sh', ['-c', '"$0" "$@"; echo "exit $?" >&2', process.execPath, MAIN, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    expect(below.stderr.toString()).toBe('exit 0\n')
    // What goes to a file needs no standard output.
    expect(run('>&-', ['translate', INPUT, ...SAMPLE, '-o', join(dir, 'no-stdout')])).toBe('exit 0\n')
  })

  test('full, or open for reading only: one line', () => {
    for (const args of [['--version'], ['-V'], ['--help'], ['explain', '0x89b380ef1c00', ...SAMPLE]]) {
      const message = 'hypva: cannot write standard output:'
      expect(run('> /dev/full', args)).toBe(`${message} no space left on the device\nexit 2\n`)
      expect(run('1< /dev/null', args)).toBe(`${message} bad file descriptor\nexit 2\n`)
    }
  })
})

describe('arguments that are not UTF-8', () => {
  const run = (name: string) =>
    spawnSync(
      'bash',
      ['-c', `cd "$4"; "$0" "$1" translate "$2" -l "$3" -o ${name}`, process.execPath, MAIN, INPUT, LAYOUT, dir],
      { encoding: 'utf8' },
    )

  test('are refused before anything is written', () => {
    const before = fs.readdirSync(dir)
    const { status, stderr } = run("$'name\\xff'")
    expect([status, stderr.split('\n').length]).toEqual([2, 2])
    expect(stderr).toMatch(/^hypva: the argument name\\xff is not UTF-8, and hypva cannot open a file of that name: /)
    expect(fs.readdirSync(dir)).toEqual(before)
  })

  test('a name with a replacement character of its own is a name', () => {
    const { status, stderr } = run("$'name\\xef\\xbf\\xbd'")
    expect([status, stderr]).toEqual([0, ''])
    expect(fs.existsSync(join(dir, 'name\ufffd'))).toBe(true)
  })
})
