import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openProgress } from '../../src/cli/io/progress.ts'
import { toJson, visible } from '../../src/cli/printable.ts'
import { hypva, MAIN, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const LAYOUT = join(ROOT, 'samples/exec-6.1.layout.json')
const SAMPLE = readFileSync(join(ROOT, 'samples/exec-6.1.log'))

/** More than sixteen pieces of 256 KiB: signals get their turn before the end. */
const BIG = join(dir, 'big.log')
writeFileSync(BIG, Buffer.concat(Array(Math.ceil((9 << 20) / SAMPLE.length)).fill(SAMPLE)))

/** Preloaded: a clock on which each look takes 0.6 s, and that interrupts at the fourth where that is asked for. */
const CLOCK = join(dir, 'clock.cjs')
writeFileSync(
  CLOCK,
  `let looks = 0
  performance.now = () => {
    if (++looks === 4 && process.env.INTERRUPT) process.kill(process.pid, 'SIGINT')
    return looks * 600
  }`,
)

/** What a command writes to a terminal that is its stdin, stdout and stderr where it is not redirected. */
function inTerminal(command: string, options: { input?: string; main?: string; env?: NodeJS.ProcessEnv } = {}) {
  const { input = '', main = MAIN, env = {} } = options
  const script = `hypva() { "$NODE" --require "$CLOCK" "$MAIN" "$@"; }; ${command}`
  const { stdout, status } = spawnSync('script', ['-qec', script, '/dev/null'], {
    input,
    env: {
      ...process.env,
      SHELL: '/bin/sh',
      TERM: 'xterm',
      NODE: process.execPath,
      CLOCK,
      MAIN: main,
      LAYOUT,
      BIG,
      DIR: dir,
      ...env,
    },
    encoding: 'utf8',
    timeout: 60_000,
  })
  return { shown: stdout, status }
}

/** The screen of a terminal on which `shown` was written, far wider than any line; only what hypva makes use of. */
function screenOf(shown: string): string[] {
  const lines = ['']
  let column = 0
  let wraps = true
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal takes for a command
  for (const [sequence] of shown.matchAll(/\x1b\[(?:\?7[lh]|K)|./gs)) {
    const line = lines.at(-1)!
    if (sequence === '\r') column = 0
    else if (sequence === '\n') lines.push(' '.repeat(column))
    else if (sequence === '\x1b[K') lines[lines.length - 1] = line.slice(0, column)
    else if (sequence.startsWith('\x1b[?7')) wraps = sequence.endsWith('h')
    else {
      expect(sequence).toMatch(/^[ -~]$/)
      lines[lines.length - 1] = line.slice(0, column).padEnd(column) + sequence + line.slice(column + 1)
      column++
    }
  }
  expect(wraps).toBe(true)
  return lines.map((line) => line.trimEnd())
}

describe('progress', () => {
  test('shows on a terminal while output goes elsewhere, and leaves the screen as it was', () => {
    const { shown, status } = inTerminal('echo before; hypva translate $BIG -l $LAYOUT > $DIR/out; echo after')
    expect(status).toBe(0)
    expect(shown).toMatch(/\[###+\.+\] \d+%, \d of 9 MiB, \d+ s left/)
    expect(screenOf(shown)).toEqual(['before', 'after', ''])
    // Lines of what stood there at one time or another.
    expect(new Set(shown.match(/\d+%/g)).size).toBeGreaterThan(5)
  })

  test('a message clears it', () => {
    const cut = join(dir, 'cut.bin')
    writeFileSync(cut, Buffer.alloc((1 << 20) + 3))
    const { shown, status } = inTerminal(`hypva translate $BIG '${cut}' -l $LAYOUT --format u64le > $DIR/out`)
    expect(status).toBe(2)
    expect(shown).toMatch(/\d+%/)
    const screen = screenOf(shown)
    expect(screen).toHaveLength(2)
    expect(screen[0]).toMatch(/^hypva: .*big\.log: byte \d+: \d of the 8 bytes|^hypva: .*cut\.bin: byte/)
  })

  test.each([
    ['to standard output', '> $DIR/interrupted', ['']],
    ['to a file', '-o $DIR/kept > /dev/null', [`hypva: interrupted; ${dir}/kept is unchanged`, '']],
  ])('an interrupt clears it: %s', (_, where, want) => {
    writeFileSync(join(dir, 'kept'), 'old')
    const { shown, status } = inTerminal(`hypva translate $BIG -l $LAYOUT --jobs 1 ${where}`, {
      env: { INTERRUPT: '1' },
    })
    expect(status).toBe(128 + 2)
    expect(shown).toMatch(/\d+%/)
    expect(shown).not.toContain('100%')
    expect(screenOf(shown)).toEqual(want)
    expect(readFileSync(join(dir, 'kept'), 'utf8')).toBe('old')
  })

  test('a package without its dependencies has it too', () => {
    const alone = join(dir, 'package')
    mkdirSync(alone)
    cpSync(join(ROOT, 'dist'), join(alone, 'dist'), { recursive: true })
    cpSync(join(ROOT, 'package.json'), join(alone, 'package.json'))
    const { shown, status } = inTerminal('hypva translate $BIG -l $LAYOUT > $DIR/alone', {
      main: join(alone, 'dist/cli/main.cjs'),
    })
    expect(status).toBe(0)
    expect(shown).toMatch(/\d+%/)
    expect(statSync(join(dir, 'alone')).size).toBeGreaterThan(9 << 20)
  })

  test.each([
    ['standard output is a terminal', 'hypva translate $BIG -l $LAYOUT -o $DIR/out'],
    ['standard output is a terminal, of a summary', 'hypva summary $BIG -l $LAYOUT -o $DIR/out'],
    ['the input is a pipe', 'cat $BIG | hypva translate -l $LAYOUT > $DIR/out'],
    ['one input is a pipe', 'cat $BIG | hypva translate $BIG - -l $LAYOUT > $DIR/out'],
    ['the terminal has no cursor', 'export TERM=dumb; hypva translate $BIG -l $LAYOUT > $DIR/out'],
  ])('does not show when %s', (_, command) => {
    expect(inTerminal(command)).toEqual({ shown: '', status: 0 })
  })

  /** A display that records, and its clock. */
  function recorder(terminals: number[]) {
    const shown: string[] = []
    let now = 5
    return {
      shown,
      pass: (milliseconds: number) => {
        now += milliseconds
      },
      isTerminal: (fd: number) => terminals.includes(fd),
      now: () => now,
      show: (text: string) => shown.push(text),
      clear: () => shown.push('cleared'),
    }
  }

  test('begins after a second, and moves ten times a second at most', () => {
    const size = statSync(BIG).size
    const display = recorder([2])
    const progress = openProgress([BIG], display)
    for (let i = 0; i < 99; i++) {
      progress.add(size / 100)
      if (i < 49) expect(display.shown).toEqual([])
      display.pass(20)
    }
    // 1.02 s to 1.98 s.
    expect(display.shown.length).toBe(10)
    expect(display.shown.at(-1)).toMatch(/ 9\d%, 8 of 9 MiB, 1 s left$/)
    progress.stop()
    progress.stop()
    expect(display.shown.slice(10)).toEqual(['cleared'])
  })

  test('is gone before the last piece is written, which may block', () => {
    const display = recorder([2])
    const before = process.listenerCount('SIGINT')
    const progress = openProgress([BIG], display)
    display.pass(2000)
    progress.add(100)
    expect(process.listenerCount('SIGINT')).toBe(before + 1)
    progress.add(statSync(BIG).size - 100)
    expect(display.shown.at(-1)).toBe('cleared')
    expect(process.listenerCount('SIGINT')).toBe(before)
  })

  test('says no share of what it does not know the whole of', () => {
    const display = recorder([2])
    const progress = openProgress([BIG], display)
    progress.forgetTotal()
    display.pass(2000)
    progress.add(20 << 20)
    progress.stop()
    expect(display.shown).toEqual(['20 MiB', 'cleared'])
  })

  test.each([[[]], [[1]], [[1, 2]]])('is nothing when the terminals are %j', (terminals) => {
    const display = recorder(terminals)
    const progress = openProgress([BIG], display)
    display.pass(2000)
    progress.add(100)
    progress.stop()
    expect(display.shown).toEqual([])
  })
})

describe('who sits before a terminal is told what is waited for', () => {
  test.each([
    ['translate -l $LAYOUT', 'addresses'],
    ['summary -l $LAYOUT', 'addresses'],
    ['decode', 'a log'],
  ])('%s', (command, what) => {
    const { shown } = inTerminal(`hypva ${command} > /dev/null`, { input: '\x04' })
    expect(shown.split('\r\n')[0]).toBe(
      `hypva: reading ${what} from standard input (Ctrl-D ends it; --help shows more)`,
    )
  })

  test('and nobody else', () => {
    expect(hypva(['translate', '-l', LAYOUT]).err).toBe('')
    expect(inTerminal('hypva translate $BIG -l $LAYOUT > /dev/null').shown).not.toContain('reading')
    expect(inTerminal('hypva translate -l $LAYOUT < /dev/null').shown).toBe('')
    expect(inTerminal('hypva translate -l /none').shown).not.toContain('reading')
  })
})

describe('control characters', () => {
  // All of them but NUL, which no argument can have, tab and line end.
  const CONTROLS = Array.from({ length: 0xa0 }, (_, i) => i).filter(
    (i) => (i < 0x20 || i >= 0x7f) && i !== 0 && i !== 9 && i !== 10,
  )
  const WICKED = `${String.fromCharCode(...CONTROLS)}\x1b]0;title\x07\x1b[2J\x9b31m`
  /** What a terminal might obey. */
  const raw = (text: string) => [...text].filter((c) => c !== '\n' && c !== '\t' && /[\p{Cc}]/u.test(c))

  test('become visible, line ends and tabs stay', () => {
    expect(CONTROLS).toHaveLength(29 + 33)
    expect(visible('a\0b\x1b]0;x\x07\t\n\r\x7f\x80\x9bm\u00a0é–')).toBe(
      'a\\x00b\\x1b]0;x\\x07\t\n\\x0d\\x7f\\x80\\x9bm\u00a0é–',
    )
    expect(raw(visible(WICKED))).toEqual([])
  })

  test('in JSON are escapes of JSON', () => {
    const value = { [`key${WICKED}`]: `text${WICKED}\0`, big: 0x12n }
    const json = toJson(value)
    expect(raw(json)).toEqual([])
    expect(JSON.parse(json)).toEqual({ ...value, big: '0x12' })
  })

  // Of a line that a log's reader takes for one, and that is still the line it looks for.
  const IN_LINE = '\x1b]0;title\x07\x7f\x9b31m'
  const LOG = `kvm [40]: nVHE hyp BUG at: arch/arm64/inc${IN_LINE}lude/x.h:483!
kvm [40]: nVHE call trace:
kvm [40]:  [<ffffffc0082124b4>] __kvm_nvhe_hyp${IN_LINE}_panic+0xa4/0xd0
kvm [40]:  [<ffffffc00821442c>] __kvm_nvhe_handle_trap+0x90/0xe0
kvm [40]: ---[ end nVHE call trace ]---
kvm [40]: Hyp Offset: 0xffffff5207e00000
Kernel Offset: 0x1b23000000 from 0xffffffc008000000
Kernel panic - not syncing: HYP panic:
PS:a00003c9 PC:0000006e0041110c ESR:00000000f2000800
FAR:0000000000000008 HPFAR:00000000000a0000 PAR:0000000000000000
VCPU:0000000000000000
`
  const WICKED_FILE = join(dir, `log${WICKED.replaceAll('/', '')}.txt`)
  writeFileSync(WICKED_FILE, Buffer.from(LOG, 'latin1'))

  const MACHINE = ['-m', join(ROOT, 'samples/exec-6.1.machine.json')]
  test.each([
    ['decode', ['decode', WICKED_FILE], 0],
    ['decode --json', ['decode', WICKED_FILE, '--json'], 0],
    ['layout recover', ['layout', 'recover', WICKED_FILE], 0],
    ['layout recover --json', ['layout', 'recover', WICKED_FILE, '--json'], 0],
    ['the name of a file that is missing', ['translate', `none${WICKED}`, '-l', LAYOUT], 2],
    ['a command', [`command${WICKED}`], 2],
    ['an option', ['translate', '-l', LAYOUT, `--option${WICKED}`], 2],
    ['the value of an option', ['translate', '--from', `from${WICKED}`, '-l', LAYOUT], 2],
    ['an address', ['explain', `0x${WICKED}`, '-l', LAYOUT], 2],
    ['what is no layout', ['layout', 'show', '-l', WICKED_FILE], 2],
    ['machine flags', ['layout', 'compute', ...MACHINE, '--kernel', `6.${WICKED}`], 2],
    ['check', ['check', ...MACHINE, '--kernel', `6.${WICKED}`], 2],
    ['what nobody can write to', ['translate', '-l', LAYOUT, '-o', `none/${WICKED}`], 2],
  ] as [string, string[], number][])('of %s never reach a terminal', (_, args, code) => {
    const result = hypva(args)
    const said = result.out.toString() + result.err
    expect(result.code).toBe(code)
    expect(raw(said)).toEqual([])
    // They were there to be made visible.
    if (args.includes('--json')) expect(() => JSON.parse(result.out.toString())).not.toThrow()
    expect(said).toMatch(/\\x1b|\\u001b/)
    if (code === 2) expect(result.err.trim().split('\n')).toHaveLength(1)
  })

  test.each([
    ['the name of a file that is missing', ['translate', 'none\nhypva: forged', '-l', LAYOUT]],
    ['a command', ['command\nhypva: forged']],
    ['an option', ['translate', '-l', LAYOUT, '--option\nhypva: forged']],
    ['the value of an option', ['translate', '--from', 'from\nhypva: forged', '-l', LAYOUT]],
    ['what nobody can write to', ['translate', '-l', LAYOUT, '-o', 'none/\nhypva: forged']],
    ['one that ends in a line end', ['translate', 'none\nhypva: forged\n', '-l', LAYOUT]],
  ])('a line end in %s forges no line', (_, args) => {
    const { err, code } = hypva(args)
    expect(code).toBe(2)
    expect(err).toMatch(/^hypva: [^\n]*\\x0ahypva: forged[^\n]*\n$/)
  })

  test('a line end in the name of evidence forges no line, in the report or on stderr', () => {
    const file = join(dir, 'log\ntagVal             0xbad\n')
    writeFileSync(file, 'tag_lsb = 31, tag_val = 0xdc\n')
    const { out, err, code } = hypva(['layout', 'recover', file, WICKED_FILE])
    expect(code).toBe(0)
    const shown = file.replaceAll('\n', '\\x0a')
    expect(out.toString().split('\n')).toContain(`${shown}: output of a debugger`)
    expect(out.toString()).toContain(`(${shown}, line 1)`)
    expect(`${out}${err}`).not.toMatch(/^tagVal +0xbad/m)
    writeFileSync(file, 'nothing of the kind\n')
    expect(hypva(['layout', 'recover', file]).err).toBe(`hypva: ${shown}: hypva recognises no evidence in it\n`)
  })

  test('a suggestion of what was meant stays on the line', () => {
    const { err } = hypva(['translate', '-l', LAYOUT, '--forma', 'text'])
    expect(err).toBe("hypva: unknown option '--forma' (Did you mean --format?) (--help shows how)\n")
  })

  test('in a field name of a layout', () => {
    const bad = join(dir, 'bad.json')
    writeFileSync(bad, JSON.stringify({ format: 'hypva-layout/1', tagLsb: 31, tagVal: '0x1', [`x${IN_LINE}`]: 1 }))
    const { err, code } = hypva(['layout', 'show', '-l', bad])
    expect([code, raw(err)]).toEqual([2, []])
    expect(err).toMatch(/x\\u001b\]0;title\\u0007\\x7f\\x9b31m/)
  })

  test('in translated text stay', () => {
    const input = Buffer.from(
      `a coloured log: ${IN_LINE} ffff000000ee7abc ${IN_LINE}, and so on\n`.repeat(20),
      'latin1',
    )
    const { out, code } = hypva(['translate', '-l', LAYOUT, '--from', 'phys', '--to', 'phys'], { input })
    expect(code).toBe(0)
    expect(out.equals(input)).toBe(true)
  })
})
