import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { hypva, MAIN, ROOT } from './cli/hypva.ts'

const README = readFileSync(join(ROOT, 'README.md'), 'utf8')

/** Code blocks of a language, with the line each begins at. */
function blocks(language: string): { line: number; code: string }[] {
  return [...README.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, found]) => found === language)
    .map(({ index, 2: code }) => ({ line: README.slice(0, index).split('\n').length, code: code! }))
}

// A place with the samples, and with hypva on the PATH.
const dir = mkdtempSync(join(tmpdir(), 'hypva-readme-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
cpSync(join(ROOT, 'samples'), join(dir, 'samples'), { recursive: true })
mkdirSync(join(dir, 'bin'))
symlinkSync(MAIN, join(dir, 'bin/hypva'))
mkdirSync(join(dir, 'node_modules'))
symlinkSync(ROOT, join(dir, 'node_modules/hypva'))
const env = { ...process.env, PATH: `${join(dir, 'bin')}${delimiter}${process.env.PATH}`, LC_ALL: 'C.UTF-8' }

const shell = (command: string) => spawnSync('bash', ['-c', `${command}`], { cwd: dir, env, encoding: 'utf8' })

describe('README', () => {
  test.each(blocks('console'))('the console of line $line prints what it says', ({ code }) => {
    const sessions = code.split(/^\$ /m).slice(1)
    expect(sessions.length).toBeGreaterThan(0)
    for (const session of sessions) {
      const command = /^(?:.*\\\n)*.*\n/.exec(session)![0]
      const { stdout, stderr } = shell(command)
      expect(stderr + stdout).toBe(session.slice(command.length))
    }
  })

  test.each(blocks('js'))('the program of line $line prints what its comments say', ({ code }) => {
    writeFileSync(join(dir, 'example.mjs'), code)
    const { stdout, stderr } = shell('node example.mjs')
    const said = [...code.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, comment]) => comment)
    expect(said.length).toBe([...code.matchAll(/console\.log/g)].length)
    expect(stderr).toBe('')
    expect(stdout.trimEnd().split('\n')).toEqual(said)
  })

  test('has no code that is not run, but for the two commands that the tests themselves are', () => {
    const fences = [...README.matchAll(/^```(.*)$/gm)].map(([, language]) => language)
    const languages = fences.filter((_, i) => i % 2 === 0)
    expect(languages.filter((language) => language !== 'console' && language !== 'js')).toEqual(['sh'])
    expect(
      blocks('sh')[0]!
        .code.split('\n')
        .map((line) => line.split('#')[0]!.trim()),
    ).toEqual(['npm ci && npm start', 'npm ci && npm test', ''])
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    expect(scripts.start).toContain('scripts/start.mjs')
    expect(readFileSync(join(ROOT, '.ci/run'), 'utf8')).toContain('npm ci && npm test')
  })

  test('what npm start shows', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'scripts/start.mjs')], { encoding: 'utf8' })
    expect(status).toBe(0)
    expect(stdout).toContain('before:\n  ...to EL2 PC 0x89b380ef1c00 PSTATE 0x3c9\n')
    expect(stdout).toContain('after:\n  ...to EL2 PC 0xffffad4306ef1c00 PSTATE 0x3c9\n')
    expect(stdout).toMatch(/addresses: 16 translated/)
  })
})

describe('help', () => {
  const commands = [
    [],
    ['translate'],
    ['summary'],
    ['explain'],
    ['decode'],
    ['check'],
    ['layout', 'compute'],
    ['layout', 'show'],
    ['layout', 'recover'],
  ]

  test.each(commands.map((c) => [c.join(' '), c] as const))(
    'hypva %s --help opens with examples that work when pasted',
    (_, command) => {
      const { out, code } = hypva([...command, '--help'])
      expect(code).toBe(0)
      const [, examples] = /^Examples:\n(.*?)\n\nUsage: hypva/s.exec(out.toString())!
      const place = mkdtempSync(join(dir, 'paste-'))
      const { status, stderr } = spawnSync('bash', ['-e', '-o', 'pipefail', '-c', `${examples}\n`], {
        cwd: place,
        env,
        encoding: 'utf8',
      })
      expect(stderr.replace(/^hypva: (note|warning): .*\n|^addresses: .*\n/gm, '')).toBe('')
      expect(status).toBe(0)
    },
  )
})
