import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { compileFunction } from 'node:vm'
import { gunzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '..')
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const library: Record<string, unknown> = await import(join(ROOT, 'dist/index.js'))

interface Export {
  readonly name: string
  readonly file: string
  /** Whether it is only a type. */
  readonly type: boolean
  /** The text of its docstring, without stars; undefined where there is none. */
  readonly doc: string | undefined
}

/** What src/index.ts exports, each with the docstring above its declaration. */
function publicExports(): Export[] {
  return [...read('src/index.ts').matchAll(/export (type )?\{([^}]*)\} from '(.*)\.js'/g)].flatMap(
    ([, allTypes, names, module]) => {
      const file = join('src', dirname(module!), `${module!.split('/').at(-1)}.ts`)
      const source = read(file)
      return names!
        .split(',')
        .map((name) => name.trim())
        .filter((name) => name !== '')
        .map((written) => {
          const name = written.replace(/^type /, '')
          const declared = new RegExp(
            `(?:/\\*\\*((?:(?!\\*/)[^])*)\\*/\\n)?export (?:abstract |async )?(?:function|class|const|interface|type) ${name}\\b`,
          ).exec(source)
          if (declared === null) throw new Error(`${file} does not declare ${name}`)
          const doc = declared[1]?.replaceAll(/^ *\* ?/gm, '').trim()
          return { name, file, type: allTypes !== undefined || written.startsWith('type '), doc }
        })
    },
  )
}

/** The code of a docstring's examples. */
const examplesOf = (doc = '') => [...doc.matchAll(/@example\n?(.*?)(?=\n@|$)/gs)].map(([, code]) => code!.trim())

// What the examples take as given.
const panicLog = read('samples/recover/panic.txt')
const layoutText = read('samples/exec-6.1.layout.json')
const machineText = read('samples/exec-6.1.machine.json')
const kallsyms = gunzipSync(readFileSync(join(ROOT, 'samples/exec-6.1.kallsyms.gz'))).toString()
const call = (name: string, ...args: unknown[]) => (library[name] as (...args: unknown[]) => unknown)(...args)
const given = {
  layoutText,
  machineText,
  kallsyms,
  panicLog,
  layout: call('parseLayout', layoutText),
  machine: call('parseMachine', machineText),
  machine52: call('parseMachine', read('samples/machines/corner.json')),
  symbols: call('parseSymbols', kallsyms),
}

/**
 * Runs an example. `expression // value` is compared; `expression // throws CODE` must throw it; other lines run as they are.
 * @returns how many comparisons it made
 */
function run(code: string): number {
  let checks = 0
  const check = (value: unknown, expected: unknown) => {
    checks++
    expect(value).toEqual(expected)
  }
  const checkThrows = (body: () => unknown, errorCode: string) => {
    checks++
    expect(body).toThrow(expect.objectContaining({ code: errorCode }))
  }
  const lines = code.split('\n').map((line) => {
    const [, expression, result] = /^(.*\S)\s+\/\/ (.*)$/.exec(line) ?? []
    if (expression === undefined) return line
    const thrown = /^throws (HYPVA_\w+)$/.exec(result!)
    return thrown ? `checkThrows(() => (${expression}), '${thrown[1]}')` : `check((${expression}), (${result}))`
  })
  const scope = { ...library, ...given, check, checkThrows }
  compileFunction(lines.join('\n'), Object.keys(scope))(...Object.values(scope))
  return checks
}

const exported = publicExports()

test('src/index.ts exports exactly what is found here', () => {
  const values = exported.filter(({ type }) => !type).map(({ name }) => name)
  expect(values.sort()).toEqual(Object.keys(library).sort())
})

test.each(exported)('$name ($file) has a docstring', ({ doc }) => {
  expect(doc).toBeTruthy()
})

describe('examples', () => {
  test.each(exported.filter(({ type }) => !type))('of $name ($file) give what they say', ({ doc }) => {
    const examples = examplesOf(doc)
    expect(examples.length).toBeGreaterThan(0)
    for (const example of examples) expect(run(example)).toBeGreaterThan(0)
  })

  test('a wrong value, a missing error and code that fails are noticed', () => {
    expect(run('const one = 1\none + 1 // 2')).toBe(1)
    expect(() => run('1 + 1 // 3')).toThrow()
    expect(() => run('1 + 1 // throws HYPVA_MISS')).toThrow()
    expect(() => run('nothing.here // 1')).toThrow()
  })
})
