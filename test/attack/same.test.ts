import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FileFindings } from '../../src/evidence/facts.ts'
import { LogReader } from '../../src/evidence/kinds/log.ts'
import { PairReader } from '../../src/evidence/kinds/pairs.ts'

// What the readers were as regular expressions: short lines show that they still take the same.
const RELEASE = /\bCPU: \d+ .*?(?:Not tainted|Tainted: [^#]*?) (\d+\.\d+\.?\d*\S*) #\d/
const HEX = '(?:0[xX])?([0-9a-fA-F]{8,16})'
const WORDS = '(?:kern(?:el)?|hyp(?:ervisor)?|linear|image|el1|el2|vaddr|va|addr(?:ess)?|to|is|maps|at|and)'
const FILLER = String.raw`(?:[^0-9A-Za-z_]|\b${WORDS}\b)*`
const NAME = String.raw`[\[<(]*([A-Za-z_][\w.$]*)(?:\+0x([0-9a-f]+)(?:/0x[0-9a-f]+)?)?[\])>]*`
const TWO = new RegExp(`^${FILLER}${HEX}(?![0-9A-Za-z_])${FILLER}${HEX}(?:[^0-9A-Za-z_+]+${NAME})?[^0-9A-Za-z_]*$`, 'i')
const NAMED = new RegExp(String.raw`^\s*0[xX]?([0-9a-fA-F]{7,16})(?:[^0-9A-Za-z_]|\b(?:is|at)\b)+${NAME}\s*$`)
const NAMED_FIRST = new RegExp(String.raw`^\s*${NAME}(?:[\s,;]|->|=>|\b(?:is|at)\b)+0[xX]([0-9a-fA-F]{10,16})\s*$`)

const lineOf = (...parts: string[]) =>
  fc.array(fc.constantFrom(...parts), { maxLength: 12 }).map((list) => list.join(''))

describe('what a line says is what it said', () => {
  test('the release of a panic', () => {
    let found = 0
    fc.assert(
      fc.property(
        lineOf(
          'CPU: 1 ',
          'CPU: 1 PID: 7 Comm: x Not tainted 6.1',
          'CPU: 1 Tainted: G W 6.1',
          ' 6.12.0 #2',
          'CPU: ',
          'PID: 7 ',
          'Not tainted',
          'Tainted: ',
          'G W ',
          ' ',
          '6.1',
          '.0-13-arm64',
          ' #1',
          '#',
          '1',
          '\t',
        ),
        (line) => {
          const expected = RELEASE.exec(line)?.[1]
          const findings = new FileFindings('f', 0)
          const reader = new LogReader(findings)
          reader.line(line, 1)
          reader.report()
          const release = findings.facts.find(({ field }) => field === 'release')?.value
          if (expected !== undefined) found++
          expect(release).toBe(expected)
        },
      ),
      { numRuns: 30_000, seed: 1 },
    )
    expect(found).toBeGreaterThan(100)
  })

  test('pairs', () => {
    let found = 0
    const parts = [
      '0xffff000000ee7abc',
      'ffff000000ee7abc',
      '0x89b380ee7abc',
      '89b380ee7abc',
      ' ',
      ', ',
      ' -> ',
      'kernel',
      'hyp',
      'is',
      'at',
    ]
    fc.assert(
      fc.property(
        lineOf(...parts, 'tag_val', '_text', '+0x10', '/0x20', '(', ')', '[', '<', '>', ' # x', '.', '1'),
        (line) => {
          const bare = line.replace(/\s+#.*$/, '')
          const two = TWO.exec(bare)
          const after = two === null ? NAMED.exec(bare) : null
          const before = two === null && after === null ? NAMED_FIRST.exec(bare) : null
          const name = after?.[2] ?? before?.[1]
          const hyp = after?.[1] ?? before?.[3]
          const offset = after?.[3] ?? before?.[2] ?? '0'
          // A word with a dot behind it was a symbol's name; none is called that.
          if (/^(?:is|at)[.$]/.test(name ?? '')) return
          const word = name !== undefined && new RegExp(`^${WORDS}$`, 'i').test(name)
          const findings = new FileFindings('f', 0)
          const taken = new PairReader(findings).line(line, 1)
          const [pair] = findings.pairs
          if (two !== null) {
            const values = [BigInt(`0x${two[1]}`), BigInt(`0x${two[2]}`)]
            const kernel = values.find((value) => value >> 52n === 0xfffn)
            const other = values.find((value) => value >> 52n === 0n)
            expect(taken).toBe(kernel !== undefined && other !== undefined)
            if (taken) expect([pair!.kernel, pair!.hyp]).toEqual([kernel, other])
          } else if (name !== undefined && !word && BigInt(`0x${hyp}`) >> 52n === 0n) {
            expect([pair?.symbol, pair?.hyp]).toEqual([
              name,
              BigInt.asUintN(64, BigInt(`0x${hyp}`) - BigInt(`0x${offset}`)),
            ])
          } else expect(taken).toBe(false)
          if (taken) found++
        },
      ),
      { numRuns: 60_000, seed: 1 },
    )
    expect(found).toBeGreaterThan(300)
  })
})
