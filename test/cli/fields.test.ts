import { Command, type Option } from 'commander'
import { describe, expect, test } from 'vitest'
import { givenLayout, layoutFieldOptions, machineOptions, readMachine } from '../../src/cli/machine.js'
import { FIELDS, type FieldName } from '../../src/layout/fields.js'
import { hypva } from './hypva.ts'

const MACHINE = [
  ['--kernel', '6.12', '--page-size', '4k', '--va-bits', '48', '--dram', '0x40e00000-0x80000000'],
  ['--idmap', '0x4114b000'],
].flat()
const flagOf = (name: string) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** What a command makes of flags: the fields they set, or the message. */
function parse(options: readonly Option[], args: string[]): Record<string, unknown> {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} })
  for (const option of options) command.addOption(option)
  return command.parse(args, { from: 'user' }).opts()
}

/** `compute` and `check` share their flags; the layout's are those of `layout recover`. */
const COMMANDS = {
  machine: {
    options: machineOptions,
    given: (args: string[]) => readMachine(parse(machineOptions(), [...MACHINE, ...args])),
  },
  layout: {
    options: layoutFieldOptions,
    given: (args: string[]) => givenLayout(parse(layoutFieldOptions(), args)),
  },
} as const

const NAMES = Object.keys(FIELDS) as FieldName[]
const ROWS = (['machine', 'layout'] as const).flatMap((what) =>
  NAMES.filter((name) => FIELDS[name][what] && FIELDS[name].help).map((name) => [what, name] as const),
)
const rowsOf = (...types: string[]) => ROWS.filter(([, name]) => types.includes(FIELDS[name].kind.type))

describe('a flag for each field', () => {
  test.each(ROWS)('%s: %s', (what, name) => {
    const { kind } = FIELDS[name]
    const long = kind.type === 'boolean' ? flagOf(name).replace('--', '--no-') : flagOf(name)
    expect(COMMANDS[what].options().filter((option) => option.long === long)).toHaveLength(1)
  })

  test.each([
    ['machine', ['layout', 'compute']],
    ['machine', ['check']],
    ['layout', ['layout', 'recover']],
  ] as const)('the help of %s %j has them all', (what, command) => {
    const help = hypva([...command, '--help']).out.toString()
    const rows = ROWS.filter(([of]) => of === what)
    for (const [, name] of rows)
      expect(help).toMatch(new RegExp(`^  ${flagOf(name).replace('--', '--(no-)?')}[ \n]`, 'm'))
  })
})

describe('64-bit values are hexadecimal in every flag', () => {
  // The value below is the beginning of DRAM and a multiple of 2 MiB: no check of a machine refuses it in these fields.
  const free = new Set(['idmap', 'physOffset', 'random', 'kimageVoffset', 'kaslrOffset', 'tagVal'])
  const words = rowsOf('word').filter(([what, name]) => what === 'layout' || free.has(name))

  test('there are some', () => expect(words.length).toBeGreaterThan(10))

  test.each(words)('%s: %s', (what, name) => {
    const { given } = COMMANDS[what]
    const value = (text: string) => (given([flagOf(name), text]) as Record<string, unknown>)[name]
    expect(value('0x40e00000')).toBe(0x40e00000n)
    expect(value('0X40E00000')).toBe(0x40e00000n)
    expect(value('40e00000')).toBe(0x40e00000n)
    expect(value('0000000040e00000')).toBe(0x40e00000n)
    for (const [text, message] of REFUSED) expect(() => value(text)).toThrow(message)
  })

  test.each(rowsOf('range', 'ranges'))('%s: %s', (what, name) => {
    const { options } = COMMANDS[what]
    const value = (text: string) => [parse(options(), [flagOf(name), text])[name]].flat()
    expect(value('0x40000000-0xc0000000')).toEqual([{ start: 0x40000000n, end: 0xc0000000n }])
    expect(value('0040000000-c0000000')).toEqual([{ start: 0x40000000n, end: 0xc0000000n }])
    expect(value('0-0x10000000000000000')).toEqual([{ start: 0n, end: 2n ** 64n }])
    for (const [text, message] of REFUSED) {
      expect(() => value(`${text}-0xc0000000`)).toThrow(message)
      if (!text.startsWith('0x1')) expect(() => value(`0x40000000-${text}`)).toThrow(message)
    }
    for (const text of ['0x1000', '0x1000-', '-0x1000', '0x1-0x2-0x3']) {
      expect(() => parse(options(), [`${flagOf(name)}=${text}`])).toThrow('Expected START-END')
    }
  })

  test('a single digit is the same in both readings', () => {
    for (let digit = 0; digit < 10; digit++) {
      expect(parse(layoutFieldOptions(), ['--tag-val', String(digit)]).tagVal).toBe(BigInt(digit))
    }
  })
})

/** What no flag takes, and a part of the message. */
const REFUSED: readonly (readonly [string, string])[] = [
  ['40000000', '"40000000" may be hexadecimal or decimal: write 0x40000000 or, for the decimal number, 0x2625a00.'],
  ['10', 'write 0x10 or, for the decimal number, 0xa.'],
  ['18446744073709551615', 'decimal: write 0xffffffffffffffff.'],
  ['18446744073709551617', '"18446744073709551617" needs more than 64 bits.'],
  ['0x10000000000000000', 'needs more than 64 bits'],
  ['nonsense', 'Expected a value like 0xffff000040000000, got "nonsense".'],
  ['0x', 'Expected a value like'],
  ['1_000', 'Expected a value like'],
  [' 0x1', 'Expected a value like'],
  ['', 'Expected'],
]

describe('end to end', () => {
  test.each([
    [['layout', 'compute', ...MACHINE.slice(0, -1), '40000000'], 'idmap'],
    [['check', ...MACHINE.slice(0, -1), '40000000'], 'idmap'],
    [['layout', 'recover', '-', '--idmap', '40000000'], 'idmap'],
    [['explain', '40000000', '-l', 'samples/exec-6.1.layout.json'], '"40000000"'],
  ])('%j is refused in one line', (args, what) => {
    const { code, out, err } = hypva(args)
    expect([code, out.length]).toEqual([2, 0])
    expect(err).toContain('"40000000" may be hexadecimal or decimal: write 0x40000000 or')
    expect(err).toContain(what)
    expect(err.trimEnd().split('\n')).toHaveLength(1)
  })

  test('explain takes addresses as logs print them', () => {
    const from = (address: string) =>
      JSON.parse(hypva(['explain', address, '--json', '-l', 'samples/exec-6.1.layout.json']).out.toString())[0].address
    expect(from('0000000040000000')).toBe('0x40000000')
    expect(from('ffff000000ee7abc')).toBe('0xffff000000ee7abc')
  })

  test('--prefer and flags: a recovered layout takes what a person gives', () => {
    const { out } = hypva(['layout', 'recover', '-', '--json', '--tag-lsb', '31', '--tag-val', '1f'], { input: 'x\n' })
    expect(JSON.parse(out.toString()).layout).toMatchObject({ tagLsb: 31, tagVal: '0x1f' })
  })
})
