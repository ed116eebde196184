import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { parseLayout, parseMachine } from '../../src/layout/json.ts'
import { fixture } from '../fixtures.ts'
import { hypva, scratch } from './hypva.ts'

const dir = scratch()
const NAME = 'd61-kaslr'

function put(name: string, data: string | Uint8Array): string {
  const file = join(dir, name)
  writeFileSync(file, data)
  return file
}

const panic = put('panic', fixture(`evidence/${NAME}/panic.txt`))
const iomem = put('iomem', fixture(`evidence/${NAME}/iomem.txt`))
const kallsyms = put('kallsyms', fixture(`evidence/${NAME}/kallsyms.txt.gz`))
const text = put('text', fixture(`evidence/${NAME}/text.bin.gz`))
const other = put('other', fixture('evidence/c4k39/text.bin.gz'))
const recover = (args: string[], input?: string | Uint8Array) =>
  hypva(['layout', 'recover', ...args], input === undefined ? {} : { input })
const json = (args: string[], input?: string | Uint8Array) =>
  JSON.parse(recover(['--json', ...args], input).out.toString())

test('--json: layout, provenance, conflicts, unknown', () => {
  const result = json([panic, iomem, kallsyms])
  expect(Object.keys(result)).toEqual(['layout', 'provenance', 'conflicts', 'unknown'])
  expect(result.layout).toMatchObject({ format: 'hypva-layout/1', tagLsb: 29, tagVal: '0x629b2', idmap: '0x40eed000' })
  expect(result.provenance.physOffset[0]).toEqual({ file: panic, where: 'line 37', rule: 'PHYS_OFFSET of the panic' })
  expect(Object.keys(result.unknown)).toEqual(['mode'])
})

test('the report says how each field is known', () => {
  const { code, out } = recover([text])
  expect(code).toBe(0)
  expect(out.toString()).toMatch(
    /^tagVal +0x629b2\n +patched instruction sequence, \d+ that agree \(.*text, offset 0x/m,
  )
  expect(out.toString()).toMatch(/Not known, and how to learn it\n {2}generation/)
  const { out: fromPanic } = recover([panic, iomem, kallsyms])
  expect(fromPanic.toString()).toMatch(/^generation +5\.15 \(layout algorithm of Linux 5\.15 to 6\.19\)\n {21}/m)
})

test('-o writes a layout that the other commands take', () => {
  const file = join(dir, 'layout.json')
  expect(recover([panic, iomem, kallsyms, '-o', file]).code).toBe(0)
  expect(parseLayout(readFileSync(file, 'utf8')).tagVal).toBe(0x629b2n)
  expect(hypva(['translate', '-l', file], { input: 'ffff4e0ec0eed000\n' }).out.toString()).toBe('0000c53640eed000\n')
  expect(parseLayout(recover([text, '-o', '-']).out.toString())).toMatchObject({ tagLsb: 29 })
})

test('--machine', () => {
  const { code, out } = recover(['--machine', panic, iomem, kallsyms])
  expect(code).toBe(0)
  expect(parseMachine(out.toString())).toMatchObject({ generation: '5.15', idmap: 0x40eed000n, tagVal: 0x629b2n })
  const { code: failed, err } = recover(['--machine', text])
  expect([failed, err]).toEqual([
    1,
    expect.stringMatching(/^hypva: cannot describe the machine: unknown fields: generation \(.*\n$/),
  ])
})

describe('disagreement', () => {
  test('both sides, exit 1, no file', () => {
    const file = put('kept.json', 'old')
    const { code, out, err } = recover([text, other, '-o', file])
    expect(code).toBe(1)
    expect(out.toString()).toMatch(/The evidence disagrees[\s\S]*0x629b2[\s\S]*0xdc/)
    expect(err).toMatch(/kept.json not written: the evidence disagrees on/)
    expect(readFileSync(file, 'utf8')).toBe('old')
    const flags = 'the evidence disagrees: --prefer FILE, or set it with a flag'
    expect(out.toString()).toContain(`tagVal             ${flags}`)
    expect(json([text, other]).unknown.tagVal).toBe(flags)
  })
  test('--prefer, and flags', () => {
    expect(json([text, other, '--prefer', other]).layout.tagVal).toBe('0xdc')
    const given = json([text, other, '--tag-val', '0x5', '--tag-lsb', '33', '--phys-offset', '0x40000000'])
    expect(given.layout).toMatchObject({ tagLsb: 33, tagVal: '0x5', physOffset: '0x40000000' })
    expect(given.conflicts).toEqual([])
    expect(given.provenance.tagVal).toEqual([{ file: 'command line', where: 'tagVal', rule: 'given' }])
  })
})

test('standard input, gzip, candidates', () => {
  const pairs = fixture(`evidence/${NAME}/pairs.txt`).toString().split('\n').slice(0, 3).join('\n')
  const { candidates, unknown } = json(['-'], pairs)
  expect(candidates).toContainEqual(expect.objectContaining({ tagLsb: 29, tagVal: '0x629b2' }))
  expect(unknown.tagLsb).toMatch(/a pair .* decides/)
  expect(json(['-'], gzipSync(readFileSync(text))).layout.tagVal).toBe('0x629b2')
  expect(json([put('text.gz', gzipSync(readFileSync(text)))]).layout.tagVal).toBe('0x629b2')
})

describe('what cannot be read', () => {
  mkdirSync(join(dir, 'folder'))
  const damaged = gzipSync(readFileSync(text))
  damaged.fill(0x55, 100)
  const cases: [string, string[], RegExp, number][] = [
    ['no such file', [join(dir, 'none')], /cannot read .*none: no such file/, 2],
    ['a directory', [join(dir, 'folder')], /is a directory/, 2],
    ['not evidence', [put('letter', 'Dear all\n')], /hypva recognises no evidence in it/, 2],
    ['an empty file', [put('empty', '')], /hypva recognises no evidence in it/, 2],
    ['damaged gzip', [put('damaged.gz', damaged)], /damaged gzip data/, 2],
    ['kdump', [put('kdump', `KDUMP   ${'\0'.repeat(99)}`)], /makedumpfile -E/, 2],
    ['zeros for addresses', [put('zero', '0000000000000000 T _text\n')], /kptr_restrict/, 1],
    ['a stranger preferred', [text, '--prefer', 'x'], /--prefer x: not among the files/, 2],
    ['a bad flag', [text, '--tag-val', 'x'], /--tag-val .*Expected a value/, 2],
    ['a broken layout', [put('broken', '{"format":"hypva-layout/1"}')], /broken.*tagLsb: missing/, 2],
  ]
  test.each(cases)('%s', (_, args, message, status) => {
    const { code, err } = recover(args)
    expect(err).toMatch(message)
    expect(err).not.toMatch(/^ +at /m)
    expect(code).toBe(status)
  })
})

test('an answer that no machine has is a conflict: exit 1, nothing written, and the flag that settles it', () => {
  const wrong = put(
    'wrong',
    fixture(`evidence/${NAME}/panic.txt`)
      .toString()
      .replace(/PHYS_OFFSET: 0x\w+/, 'PHYS_OFFSET: 0x80000000'),
  )
  const file = join(dir, 'impossible.json')
  const { code, out, err } = recover([wrong, iomem, kallsyms, '-o', file])
  expect(code).toBe(1)
  expect(err).toContain(`${file} not written: the evidence disagrees on physOffset`)
  expect(out.toString()).toMatch(
    /^ {2}physOffset\n {4}0x80000000\n {6}PHYS_OFFSET of the panic .*\n {4}must be at most 0x40000000, where DRAM begins\n {6}System RAM/m,
  )
  expect(out.toString()).toContain('a flag such as --phys-offset sets the value yourself')
  expect(() => readFileSync(file)).toThrow()
  expect(recover([wrong, iomem, kallsyms, '--phys-offset', '0xffffb1f180000000', '-o', file]).code).toBe(0)
  expect(parseLayout(readFileSync(file, 'utf8')).physOffset).toBe(0xffffb1f180000000n)
})
