import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '..')
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/architecture.md', 'docs/kernel-facts.md']

/** All files below a folder that hold code or text. */
const below = (folder: string) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|cts|mjs|md)$/.test(file))
    .map((file) => join(folder, file))

/** Paths in backquotes below the folders of this repository, and files at its root. */
const namedPaths = (text: string) => [
  ...new Set(
    [...text.matchAll(/`((?:assembly|bench|docs|scripts|src|test|samples)(?:\/[\w./-]+)?|[\w-]+\.json)`/g)].map(
      ([, path]) => path!,
    ),
  ),
]

describe('docs/architecture.md', () => {
  const page = read('docs/architecture.md')
  const paths = namedPaths(page)
  test('names files that exist', () => {
    expect(paths.length).toBeGreaterThan(40)
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })

  test('names tests that exist', () => {
    const named = [...page.matchAll(/\btest\/[\w./-]+\.test\.ts\b/g)].map(([path]) => path)
    expect(named.length).toBeGreaterThan(3)
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })

  test('names functions that a file named in the same paragraph declares', () => {
    const missing: string[] = []
    for (const paragraph of page.split(/\n\n|\n- /)) {
      const sources = namedPaths(paragraph).filter((path) => path.endsWith('.ts') && existsSync(join(ROOT, path)))
      const code = sources.map(read).join('\n')
      for (const [, name] of paragraph.matchAll(/`(\w+)\(\)`/g)) {
        if (name !== 'addNAME' && !new RegExp(`\\b${name}\\(`).test(code)) missing.push(name!)
      }
    }
    expect(missing).toEqual([])
  })

  test('names scripts that package.json has', () => {
    const { scripts } = JSON.parse(read('package.json'))
    for (const file of ['docs/architecture.md', 'CONTRIBUTING.md']) {
      for (const [, script] of read(file).matchAll(/npm run ([\w:]+)/g)) expect(scripts).toHaveProperty(script!)
    }
  })
})

describe('docs/kernel-facts.md', () => {
  const sections = [...read('docs/kernel-facts.md').matchAll(/^## (\d+)\. /gm)].map(([, number]) => Number(number))

  test('has the sections that code, tests and README cite', () => {
    expect(sections).toEqual([1, 2, 3, 4, 5, 6, 7])
    const cited = ['src', 'assembly', 'test', 'bench', 'scripts']
      .flatMap(below)
      .concat('README.md')
      .flatMap((file) => {
        const cites = [
          ...read(file).matchAll(/(?:KERNEL-FACTS|docs\/kernel-facts\.md),? (?:sections? )?((?:\d+(?:, | and )?)+)/g),
        ]
        return cites.flatMap(([, numbers]) => numbers!.match(/\d+/g)!.map((number) => [file, Number(number)] as const))
      })
    expect(cited.length).toBeGreaterThan(20)
    expect(cited.filter(([, number]) => !sections.includes(number))).toEqual([])
  })

  test('gives the vectors of the patched instructions that the tests decode', () => {
    expect(read('docs/kernel-facts.md')).toContain('92408000 93c08400 91009000 91000000 93c07c00')
  })
})

test.each(PAGES)('%s links to files that exist', (page) => {
  const targets = [...read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, target]) => target!)
  expect(targets.filter((target) => !existsSync(join(ROOT, dirname(page), target)))).toEqual([])
})
