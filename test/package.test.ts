import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ABI, WASM_BASE64 } from '../src/engine/wasm.generated.ts'

const ROOT = join(import.meta.dirname, '..')
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
}

describe('the embedded engine', () => {
  const wasm = Buffer.from(WASM_BASE64, 'base64')

  test('are what a fresh build of assembly/ gives', () => {
    const dir = mkdtempSync(join(tmpdir(), 'hypva-asc-'))
    try {
      const fresh = join(dir, 'fresh.wasm')
      const asc = join(ROOT, 'node_modules/assemblyscript/bin/asc.js')
      execFileSync(
        process.execPath,
        [
          asc,
          '--config',
          'asconfig.json',
          '--target',
          'release',
          '--outFile',
          fresh,
          '--textFile',
          join(dir, 'fresh.wat'),
        ],
        { cwd: ROOT },
      )
      expect(readFileSync(fresh).equals(wasm)).toBe(true)
    } finally {
      rmSync(dir, { recursive: true })
    }
    expect(readFileSync(join(ROOT, 'dist/kernel.wasm')).equals(wasm)).toBe(true)
  })

  test('import nothing, and export the ABI and nothing else', () => {
    const module = new WebAssembly.Module(wasm)
    expect(WebAssembly.Module.imports(module)).toEqual([])
    const declared = readFileSync(join(ROOT, 'src/engine/engine.ts'), 'utf8')
    const [, body] = /interface EngineExports \{([^}]*)\}/.exec(declared)!
    const names = [...body!.matchAll(/^ {2}(?:readonly )?(\w+)[(:]/gm)].map(([, name]) => name)
    const exported = WebAssembly.Module.exports(module)
    const functions = exported.filter(({ kind }) => kind !== 'global').map(({ name }) => name)
    expect(functions.sort()).toEqual(names.sort())
    // Each constant, with the value that TypeScript goes by.
    const { exports } = new WebAssembly.Instance(module)
    const globals = exported.filter(({ kind }) => kind === 'global').map(({ name }) => name)
    const numberAt = (name: string) => (exports[name] as WebAssembly.Global).value >>> 0
    expect(Object.fromEntries(globals.map((name) => [name, numberAt(name)]))).toEqual({ ...ABI })
    expect(globals.length).toBeGreaterThan(20)
  })

  test('share their sizes and addresses with TypeScript, which types none of them again', () => {
    // The structures as assembly/memory.ts describes them: three u64, 0x and sixteen digits, those and a line feed, four u32.
    expect(ABI).toMatchObject({ SEGMENT_BYTES: 24, LONGEST_TOKEN: 18, LINE_BYTES: 17, HIT_BYTES: 16 })
    const typed = filesBelow(join(ROOT, 'src'))
      .filter((file) => /^src\/(engine|translate)\//.test(file) && !file.endsWith('.generated.ts'))
      .flatMap((file) =>
        [
          ...readFileSync(join(ROOT, file), 'utf8')
            .replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
            .matchAll(/^.*(?<!\*\* |<< )\b(?:24|128|18|17|0xffff_ffff|0x7fff_ffff)\b.*$/gm),
        ].map(([line]) => `${file}: ${line.trim()}`),
      )
    expect(typed).toEqual([])
  })
})

describe('the package', () => {
  test('says what it is', () => {
    expect(manifest).toMatchObject({
      name: 'hypva',
      type: 'module',
      sideEffects: false,
      license: 'MIT',
      engines: { node: '>=20' },
      bin: { hypva: 'dist/cli/main.cjs' },
    })
    expect(Object.keys(manifest.exports['.'])).toEqual(['types', 'default'])
    expect(readFileSync(join(ROOT, 'LICENSE'), 'utf8')).toContain('MIT License')
  })

  test('ships what its exports name, and no sources, tests or machine paths', () => {
    const listed = JSON.parse(
      execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
        cwd: ROOT,
        stdio: ['ignore', 'pipe', 'ignore'],
      }).toString(),
    )
    const files: string[] = listed[0].files.map((f: { path: string }) => f.path)
    const named = [
      manifest.bin.hypva,
      manifest.exports['.'].types,
      manifest.exports['.'].default,
      manifest.exports['./kernel.wasm'],
    ]
    for (const path of named.map((p: string) => p.replace('./', ''))) expect(files).toContain(path)
    expect(
      files.filter(
        (path) => !/^(dist|assembly|samples|docs)\/|^((README|CHANGELOG)\.md|LICENSE|package\.json)$/.test(path),
      ),
    ).toEqual([])
  })

  test('needs only what it declares, at versions that run on its oldest Node', () => {
    const imported = new Set<string>()
    for (const file of filesBelow(join(ROOT, 'src'))) {
      const code = readFileSync(join(ROOT, file), 'utf8')
      for (const [, , name] of code.matchAll(/(^(?:import|export|\})[^'\n]* from |\bimport\()'([^.'][^']*)'/gm)) {
        if (!name!.startsWith('node:')) imported.add(name!)
      }
    }
    expect([...imported].sort()).toEqual(Object.keys(manifest.dependencies).sort())
    for (const name of [...Object.keys(manifest.dependencies), ...Object.keys(manifest.devDependencies)]) {
      const { engines } = JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8'))
      const ranges: string = engines?.node ?? '>=20'
      const fits = ranges.split('||').some((range) => Number(/\d+/.exec(range)?.[0] ?? 0) <= 20)
      expect(fits, `${name} wants Node ${ranges}`).toBe(true)
    }
    const lock = readFileSync(join(ROOT, 'package-lock.json'), 'utf8')
    expect(lock).not.toMatch(/"resolved": "http/)
    // A platform's package that the registry lacks makes `npm ci` fail on every platform.
    const { packages } = JSON.parse(lock)
    for (const [where, { optionalDependencies = {} }] of Object.entries<{ optionalDependencies?: object }>(packages)) {
      for (const name of Object.keys(optionalDependencies)) {
        const found = packages[`node_modules/${name}`] ?? packages[`${where}/node_modules/${name}`]
        expect(found, `${where} names ${name}`).toBeDefined()
      }
    }
  })

  test('has in the command line all that it runs', () => {
    const files = filesBelow(join(ROOT, 'dist/cli')).filter((file) => file.endsWith('.cjs'))
    expect(files.length).toBeGreaterThan(5)
    const loaded = files.flatMap((file) =>
      [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\b(?:require|import)\((['"])([^'"]+)\1\)/g)].map(
        ([, , name]) => name!,
      ),
    )
    expect(loaded.length).toBeGreaterThan(10)
    expect(loaded.filter((name) => !isBuiltin(name) && !name.startsWith('.'))).toEqual([])
  })

  test('keeps node: modules inside the command line', () => {
    const outside = filesBelow(join(ROOT, 'src')).filter((file) => !file.startsWith('src/cli/'))
    expect(outside.length).toBeGreaterThan(20)
    expect(outside.filter((file) => /from 'node:|import\('node:/.test(readFileSync(join(ROOT, file), 'utf8')))).toEqual(
      [],
    )
  })
})
