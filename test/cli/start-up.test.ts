import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { MAIN, ROOT, scratch } from './hypva.ts'

const dir = scratch()
const LAYOUT = join(ROOT, 'samples/exec-6.1.layout.json')

// Preloaded into every thread: says at its end which files of ours it has loaded, and how often it compiled a module.
const preload = join(dir, 'preload.cjs')
writeFileSync(
  preload,
  `const { basename, dirname } = require('node:path')
  const { isMainThread } = require('node:worker_threads')
  let compiled = 0
  WebAssembly.Module = new Proxy(WebAssembly.Module, {
    construct(Module, args) {
      compiled++
      return new Module(...args)
    },
  })
  process.on('exit', () => {
    const loaded = Object.keys(require.cache).filter((file) => file !== __filename)
    const ours = loaded.filter((file) => dirname(file).endsWith('dist/cli')).map((file) => basename(file, '.cjs'))
    const others = loaded.filter((file) => file.includes('node_modules'))
    require('node:fs').writeSync(2, JSON.stringify({ isMainThread, compiled, ours, others }) + '\\n')
  })`,
)

interface Loaded {
  isMainThread: boolean
  compiled: number
  ours: string[]
  others: string[]
}

function loadedBy(...args: string[]): Loaded[] {
  const { stderr, status } = spawnSync(process.execPath, ['--require', preload, MAIN, ...args], { encoding: 'utf8' })
  expect(status).toBe(0)
  return stderr
    .trim()
    .split('\n')
    .map((line): Loaded => JSON.parse(line))
}

describe('nothing is loaded that a command does not use', () => {
  test('--version: the command alone', () => {
    expect(loadedBy('--version')).toEqual([{ isMainThread: true, compiled: 0, ours: ['main'], others: [] }])
  })

  const COMMANDS = ['check', 'decode', 'explain', 'layout', 'recover', 'picture', 'jobs', 'job']
  test.each([
    ['translate', ['translate', '/dev/null', '-l', LAYOUT], []],
    ['explain', ['explain', '0x89b380ef1c00', '-l', LAYOUT], ['explain']],
    ['layout show', ['layout', 'show', '-l', LAYOUT], ['layout', 'picture']],
    ['layout compute', ['layout', 'compute', '-m', join(ROOT, 'samples/exec-6.1.machine.json')], ['layout']],
    ['layout recover', ['layout', 'recover', join(ROOT, 'samples/recover/pairs.txt')], ['layout', 'recover']],
  ])('%s', (_, args, commands) => {
    const { ours, others } = loadedBy(...args).at(-1)!
    expect(ours.filter((name) => COMMANDS.includes(name)).sort()).toEqual(commands)
    // What of the dependencies is used comes with the command.
    expect(others).toEqual([])
  })
})

test('the kernels are compiled once, whatever the jobs', () => {
  const text = join(dir, 'text')
  writeFileSync(text, 'pc 0x89b380ef1c00\n'.repeat(400_000))
  const threads = loadedBy('translate', text, '-l', LAYOUT, '--from', 'hyp', '-o', join(dir, 'out'), '--jobs', '3')
  expect(threads.map(({ isMainThread }) => isMainThread).sort()).toEqual([false, false, true])
  expect(threads.map(({ compiled }) => compiled).sort()).toEqual([0, 0, 1])
})
