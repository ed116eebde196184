import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { attack, literalsOf, type Pattern, sourceFiles } from './patterns.ts'

const files = sourceFiles()
const literals = files.flatMap(({ file, text }) => literalsOf(text, file))

/** Patterns that are put together while the modules load, as the built library does it. */
function constructed(): Pattern[] {
  const script = `
    const found = []
    globalThis.RegExp = new Proxy(RegExp, {
      construct(target, [source, flags]) {
        if (typeof source === 'string') found.push({ source, flags: flags ?? '', where: 'new RegExp' })
        return new target(source, flags)
      },
    })
    await import(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)})
    console.log(JSON.stringify(found))`
  return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }))
}
const made = constructed()

describe('every regular expression takes steps linear in the text', () => {
  test('all are looked at', () => {
    expect(literals.length).toBeGreaterThan(60)
    const calls = files.flatMap(({ file, text }) => [...text.matchAll(/new RegExp\(/g)].map(() => file))
    // One is made of the names of fields, when a message is taken apart.
    expect(made.length).toBe(calls.filter((file) => !file.endsWith('recover.ts')).length)
    const sources = [...literals, ...made].map(({ source }) => source)
    for (const part of ['Hyp Offset: ', 'tag_lsb|tag_val', 'call trace', '^v?\\d{1,4}', 'hash table entries', '^0x']) {
      expect(sources.some((source) => source.includes(part))).toBe(true)
    }
  })

  test.each(
    [...literals, ...made].map((pattern) => [`${pattern.where} /${pattern.source}/${pattern.flags}`, pattern] as const),
  )('%s', (_, pattern) => expect(attack(pattern)).toBeUndefined())
})

describe('the attacks find what is not linear', () => {
  test.each([
    ['a release after any text', /\bCPU: \d+ .*?(?:Not tainted|Tainted: [^#]*?) (\d+\.\d+\.?\d*\S*) #\d/],
    ['a run before its end', /-+\[? ?end (?:of )?(?:Protected )?nVHE (?:HYP |hyp )?call trace/i],
    ['a comment behind blanks', /\s+#.*$/],
    ['digits and then anything', /^4\.18\.\d+.*\.el8/],
    ['NULs at the end', /\0+$/],
    ['nested quantifiers', /^(?:a+)+$/],
    ['marks on both sides of a name', /^[^0-9A-Za-z_+]+[[<(]*([A-Za-z_][\w.$]*)[\])>]*[^0-9A-Za-z_]*$/],
    ['branches that overlap', /^(?:[\w.]|\w\.)*$/],
  ])('%s', (_, { source, flags }) => expect(attack({ source, flags })?.growth).toBeGreaterThan(8))
  test.each([
    ['bounded', /\bHyp Offset: (?:0x)?([0-9a-f]{1,16})\b/],
    ['anchored', /^(\d+)\s*=\s*(.+)$/],
    ['one blank', /\s#/],
  ])('and spare what is: %s', (_, { source, flags }) => expect(attack({ source, flags })).toBeUndefined())
})
