import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { HypvaError } from '../../src/errors.js'
import { computeLayout } from '../../src/layout/compute.js'
import { checkLayout, formatLayout, parseLayout, parseMachine } from '../../src/layout/json.js'
import { layoutOf, machineOf } from '../../src/layout/validate.js'
import { boots, factsOf } from './boots.js'

const code = (code: string, message: string) =>
  expect.objectContaining({ code, message: expect.stringContaining(message) })

const validateLayout = (value: unknown) => layoutOf(value, 'hex')
const validateMachine = (value: unknown) => machineOf(value, 'hex')

/** What a check throws; its `field` has to be the one that its message begins with. */
function thrown(check: () => unknown): HypvaError {
  const error = caught(check) as HypvaError
  expect(error).toBeInstanceOf(HypvaError)
  const { message, field, against = [] } = error
  expect(field).toBe(/^(?:layout|machine)[.[]"?([^."[:\]]+)/.exec(message)?.[1]?.replaceAll('\\n', '\n'))
  for (const other of against) expect(other).not.toBe(field)
  return error
}

const TEXT = `{
  "format": "hypva-layout/1",
  "generation": "5.15",
  "mode": "nvhe",
  "pageSize": 4096,
  "vaBits": 48,
  "vaBitsActual": 48,
  "hypVaBits": 48,
  "tagLsb": 35,
  "tagVal": "0x1e83",
  "vaMask": "0x7ffffffff",
  "pageOffset": "0xffff000000000000",
  "physOffset": "0x40000000",
  "dram": [
    {
      "start": "0x40000000",
      "end": "0x640000000"
    }
  ],
  "idmap": "0x4114b000",
  "image": {
    "start": "0xffffa037f3400000",
    "end": "0xffffa037f58f0000"
  },
  "kimageVoffset": "0xffffa037b3200000",
  "kaslrOffset": "0x2037f3400000",
  "hypPhysvirtOffset": "0xffff0be840000000"
}
`

describe('layout text', () => {
  test('there and back', () => {
    const layout = parseLayout(TEXT)
    expect(layout.tagVal).toBe(0x1e83n)
    expect(layout.dram).toEqual([{ start: 0x40000000n, end: 0x640000000n }])
    expect(layout).not.toHaveProperty('format')
    expect(formatLayout(layout)).toBe(TEXT)
    expect(() => checkLayout(layout)).not.toThrow()
  })

  test('fields are written in one order, however they came', () => {
    const reversed = Object.fromEntries(Object.entries(parseLayout(TEXT)).reverse())
    expect(formatLayout(reversed)).toBe(TEXT)
  })

  test('tagLsb and tagVal are enough, and so is mode vhe', () => {
    expect(parseLayout('{"format":"hypva-layout/1","tagLsb":35,"tagVal":"0x1e83"}')).toEqual({
      tagLsb: 35,
      tagVal: 0x1e83n,
    })
    expect(parseLayout('{"format":"hypva-layout/1","mode":"vhe"}')).toEqual({ mode: 'vhe' })
  })

  test.each(boots.map((boot) => [boot.name, boot] as const))('of %s', (_, boot) => {
    const facts = { ...factsOf(boot), physOffset: BigInt(boot.memstart_addr) }
    const layout = computeLayout({ ...facts, tagVal: BigInt(boot.observed.tag_val) })
    expect(parseLayout(formatLayout(layout))).toEqual(layout)
  })

  test('a range may reach 2^64', () => {
    const layout = { tagLsb: 35, tagVal: 1n, image: { start: 0xfffffff000000000n, end: 2n ** 64n } }
    expect(parseLayout(formatLayout(layout))).toEqual(layout)
  })

  test('every mask and tag', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 63 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (tagLsb, bits) => {
        const layout = { tagLsb, tagVal: bits >> BigInt(tagLsb) }
        expect(parseLayout(formatLayout(layout))).toEqual(layout)
      }),
    )
  })
})

/** The layout above as a value, with some fields replaced; undefined removes one. */
const changed = (change: object) => ({ ...JSON.parse(TEXT), ...change })
const bank = (start: string, end: string) => ({ start, end })

describe('layout fields', () => {
  test.each([
    [{ format: undefined }, 'layout.format: expected "hypva-layout/1", got undefined'],
    [{ format: 'hypva-layout/2' }, 'layout.format: expected "hypva-layout/1", got "hypva-layout/2"'],
    [{ tagLSB: 3 }, 'layout.tagLSB: unknown field'],
    [{ tagLsb: undefined }, 'layout.tagLsb: missing'],
    [{ tagVal: undefined }, 'layout.tagVal: missing'],
    [{ tagLsb: 0 }, 'layout.tagLsb: expected an integer from 1 to 63'],
    [{ tagLsb: 64 }, 'layout.tagLsb: expected an integer from 1 to 63'],
    [{ tagLsb: 35.5 }, 'layout.tagLsb: expected an integer from 1 to 63'],
    [{ tagLsb: '35' }, 'layout.tagLsb: expected an integer from 1 to 63, got "35"'],
    [{ tagVal: 0x1e83 }, 'layout.tagVal: expected a hex string like "0x40000000", got the number 7811: quote it'],
    [{ tagVal: '1e83' }, 'layout.tagVal: expected a hex string like "0x40000000", got "1e83"'],
    [{ tagVal: '-0x1' }, 'layout.tagVal: expected a hex string'],
    [{ tagVal: null }, 'layout.tagVal: expected a hex string like "0x40000000", got null'],
    [{ tagVal: '0x20000000' }, 'layout.tagVal: 0x20000000 does not fit into the 29 bits above tagLsb 35'],
    [{ tagVal: '0x2000' }, 'layout.tagVal: 0x2000 above tagLsb 35 reaches beyond hypVaBits 48'],
    [{ physOffset: '0x10000000000000000' }, 'layout.physOffset: "0x10000000000000000" needs more than 64 bits'],
    [{ vaMask: '0xfffffffff' }, 'layout.vaMask: expected 0x7ffffffff'],
    [{ pageSize: 8192 }, 'layout.pageSize: expected 4096, 16384 or 65536, got the number 8192'],
    [{ mode: 'VHE' }, 'layout.mode: expected one of "nvhe", "hvhe", "protected", "vhe", got "VHE"'],
    [{ generation: '6.1' }, 'layout.generation: expected one of "3.11"'],
    [{ vaBits: 42 }, 'layout.vaBits: pages of 4096 bytes go with 39, 48, 52 bits, got 42'],
    [{ vaBitsActual: 39 }, 'layout.vaBitsActual: a build with vaBits 48 runs with 48 bits, got 39'],
    [{ hypVaBits: 47 }, 'layout.hypVaBits: expected 48'],
    [{ pageOffset: '0xffffff8000000000' }, 'layout.pageOffset: expected 0xffff000000000000'],
    [{ hypPhysvirtOffset: '0x0' }, 'layout.hypPhysvirtOffset: expected 0xffff0be840000000'],
    [{ physOffset: '0x0' }, 'layout.hypPhysvirtOffset: expected 0xffff0be800000000'],
    [{ idmap: '0x4114b800' }, 'layout.idmap: 0x4114b800 is not aligned to pages of 4096 bytes'],
    [{ dram: {} }, 'layout.dram: expected an array of ranges {"start", "end"}, got a object'],
    [{ dram: [bank('0x0', '0x0')] }, 'layout.dram[0].end: 0x0 is not above the start'],
    [{ dram: [bank('0x0', '0x2000'), bank('0x1000', '0x3000')] }, 'layout.dram[1].start: 0x1000: banks must ascend'],
    [{ dram: [bank('0x4000', '0x5000'), bank('0x1000', '0x3000')] }, 'layout.dram[1].start'],
    [{ dram: [bank('0x0', '0x2000'), { start: '0x4000' }] }, 'layout.dram[1].end: missing'],
    [{ dram: [bank('0x0', '0x2000'), bank('0x4000', 'x')] }, 'layout.dram[1].end: expected a hex string'],
    [{ dram: [{ ...bank('0x0', '0x2000'), size: 1 }] }, 'layout.dram[0].size: unknown field'],
    [{ dram: ['0x0-0x2000'] }, 'layout.dram[0]: expected an object, got "0x0-0x2000"'],
    [{ image: bank('0x2000', '0x1000') }, 'layout.image.end: 0x1000 is not above the start, 0x2000'],
    [{ mode: 'vhe' }, 'layout.tagLsb: mode vhe has none'],
    [{ 'a\nb': 1 }, 'layout["a\\nb"]: unknown field'],
  ])('%j', (change, message) => {
    expect(thrown(() => validateLayout(changed(change)))).toEqual(code('HYPVA_LAYOUT', message))
  })

  test('an error names the fields that a field was compared with', () => {
    const against = (change: object) => thrown(() => validateLayout(changed(change))).against
    expect(against({ hypVaBits: 47 })).toEqual(['generation', 'vaBits', 'vaBitsActual'])
    expect(against({ vaMask: '0xfffffffff' })).toEqual(['tagLsb'])
    expect(against({ physOffset: '0x0' })).toEqual(['pageOffset', 'physOffset', 'dram', 'tagLsb', 'tagVal'])
    expect(against({ dram: [bank('0x0', '0x0')] })).toEqual([])
  })

  test.each([[null], [5], ['x'], [[]], [undefined]])('no object: %j', (value) => {
    expect(() => validateLayout(value)).toThrow(code('HYPVA_LAYOUT', 'layout: expected an object, got '))
  })

  test('a field that is undefined is absent', () => {
    expect(validateLayout(changed({ idmap: undefined }))).not.toHaveProperty('idmap')
  })

  test('a missing format in JSON text', () => {
    expect(() => parseLayout('{"tagLsb":35,"tagVal":"0x1"}')).toThrow(code('HYPVA_LAYOUT', 'layout.format: missing'))
  })

  test('a field named __proto__ is unknown like any other', () => {
    expect(() => parseLayout('{"format":"hypva-layout/1","tagLsb":35,"tagVal":"0x1","__proto__":{}}')).toThrow(
      code('HYPVA_LAYOUT', 'layout.__proto__: unknown field'),
    )
  })
})

describe('proposals and tags in place', () => {
  const window = { proposal: 'low-window-48', hypVaBits: 52, tagLsb: 52, tag: '0x1000000000000' }
  const coded = { proposal: 'low-window-48-as-coded', hypVaBits: 52, tagLsb: 40, tagVal: '0x100' }
  const overlap = { proposal: 'overlap-top-window', hypVaBits: 52, tagLsb: 52, tagVal: '0x0' }
  const json = (value: object) => ({ format: 'hypva-layout/1', ...value })

  test.each([window, { ...window, proposal: 'low-window-47', tag: '0x800000000000' }, coded, overlap])(
    '%j there and back',
    (value) => {
      const layout = validateLayout(json(value))
      expect(layout.proposal).toBe(value.proposal)
      expect(parseLayout(formatLayout(layout))).toEqual(layout)
      expect(() => checkLayout(layout)).not.toThrow()
    },
  )

  test('a tag in place needs no proposal', () => {
    expect(validateLayout(json({ tagLsb: 40, tag: '0x123', hypVaBits: 48 })).tag).toBe(0x123n)
  })

  test.each([
    [{ ...window, tagVal: '0x0' }, 'layout.tag: expected either tagVal or tag, got both'],
    [{ ...window, tag: undefined }, 'layout.tagVal: missing'],
    [{ tagLsb: 52, tag: '0x1' }, 'layout.hypVaBits: missing: a layout with tag needs it'],
    [{ tagLsb: 40, tag: '0x1000000000000', hypVaBits: 48 }, 'layout.tag: 0x1000000000000 reaches beyond hypVaBits 48'],
    [{ ...window, hypVaBits: undefined, tag: undefined, tagVal: '0x0' }, 'layout.hypVaBits: missing (proposal'],
    [{ ...window, tag: '0x800000000000' }, 'layout.tag: expected 0x1000000000000 (proposal low-window-48)'],
    [
      { ...window, tag: undefined, tagVal: '0x0' },
      'layout.tag: expected 0x1000000000000 (proposal low-window-48), got none',
    ],
    [{ ...window, tagLsb: 51 }, 'layout.tagLsb: expected hypVaBits, 52'],
    [{ ...window, proposal: 'low-window-49' }, 'layout.proposal: expected one of "low-window-48"'],
    [{ ...coded, tagVal: '0x80' }, 'layout.tagVal: expected bit 8 set (proposal low-window-48-as-coded), got 0x80'],
    [{ ...coded, tagVal: undefined, tag: '0x1' }, 'layout.tagVal: missing (proposal low-window-48-as-coded'],
    [{ ...overlap, tagLsb: 51, tagVal: '0x0' }, 'layout.tagLsb: expected hypVaBits, 52'],
    [{ ...overlap, tagVal: undefined, tag: '0x1' }, 'layout.tagVal: expected 0x0'],
    [{ mode: 'vhe', proposal: 'overlap-top-window' }, 'layout.proposal: mode vhe has none'],
    [{ mode: 'vhe', tag: '0x1' }, 'layout.tag: mode vhe has none'],
  ])('%j', (value, message) => {
    expect(thrown(() => validateLayout(json(value)))).toEqual(code('HYPVA_LAYOUT', message))
  })
})

describe('layouts built by a library user', () => {
  const layout = { tagLsb: 35, tagVal: 0x1e83n }

  test('bigints are what is expected', () => {
    expect(() => checkLayout(layout)).not.toThrow()
    expect(() => checkLayout({ ...layout, tagVal: 5 as never })).toThrow(TypeError)
    expect(() => checkLayout({ ...layout, tagVal: '0x5' as never })).toThrow(code('HYPVA_U64_TYPE', 'layout.tagVal'))
    expect(() => checkLayout({ ...layout, idmap: -1n })).toThrow(code('HYPVA_U64_RANGE', 'layout.idmap'))
    expect(() => checkLayout({ ...layout, dram: [{ start: 0n, end: 2n ** 64n + 1n }] })).toThrow(RangeError)
  })

  test('undefined is absent, and unknown fields are refused', () => {
    expect(() => checkLayout({ ...layout, idmap: undefined } as never)).not.toThrow()
    expect(() => checkLayout({ ...layout, tags: 1n } as never)).toThrow(
      code('HYPVA_LAYOUT', 'layout.tags: unknown field'),
    )
  })
})

describe('machine text', () => {
  const machine = {
    format: 'hypva-machine/1',
    kernel: '6.12',
    pageSize: 4096,
    vaBits: 52,
    vaBitsActual: 48,
    randomizeBase: true,
    dram: [bank('0x40000000', '0xc0000000')],
    idmap: '0x4114b000',
    random: '0xFFFFFFFFFFFFFFFF',
  }

  test('as DESIGN has it', () => {
    const { format: _, ...fields } = machine
    expect(parseMachine(JSON.stringify(machine))).toEqual({
      ...fields,
      dram: [{ start: 0x40000000n, end: 0xc0000000n }],
      idmap: 0x4114b000n,
      random: 2n ** 64n - 1n,
    })
  })

  test.each([
    [{ format: 'hypva-layout/1' }, 'machine.format: expected "hypva-machine/1"'],
    [{ kernel: undefined }, 'machine.kernel: missing'],
    [{ pageSize: undefined }, 'machine.pageSize: expected 4096, 16384 or 65536'],
    [{ vaBits: undefined }, 'machine.vaBits: expected an integer'],
    [{ idmap: undefined }, 'machine.idmap'],
    [{ dram: undefined }, 'machine.dram'],
    [{ dram: [] }, 'machine.dram: expected at least one bank'],
    [{ dram: [bank('0x40000000', '0x40000000')] }, 'machine.dram[0].end: 0x40000000 is not above the start'],
    [{ dram: [bank('0x0', '0x2000'), bank('0x1000', '0x3000')] }, 'machine.dram[1].start: 0x1000: banks must ascend'],
    [{ dram: [bank('0x40000000', '0x10000000000001')] }, 'machine.dram[0].end: 0x10000000000001 is beyond the 52 bits'],
    [
      { vaBits: 48, vaBitsActual: 48, dram: [bank('0x0', '0x1000'), bank('0x1000000000000', '0x1000000001000')] },
      'machine.dram[1].end: 0x1000000001000 is beyond the 48 bits of physical address',
    ],
    [{ idmap: '0x10000000000000' }, 'machine.idmap: 0x10000000000000 is beyond the 52 bits'],
    [
      { vaBits: 48, vaBitsActual: 48, idmap: '0x1000000000000' },
      'machine.idmap: 0x1000000000000 is beyond the 48 bits',
    ],
    [{ randomizeBase: 'yes' }, 'machine.randomizeBase: expected true or false, got "yes"'],
    [{ tagLsb: 3 }, 'machine.tagLsb: unknown field'],
    [
      { idmap: 1092923392 },
      'machine.idmap: expected a hex string like "0x40000000", got the number 1092923392: quote it',
    ],
    [{ vaBitsActual: 47 }, 'machine.vaBitsActual: a build with vaBits 52 runs with 52 or 48 bits, got 47'],
  ])('%j', (change, message) => {
    expect(thrown(() => validateMachine({ ...machine, ...change }))).toEqual(code('HYPVA_MACHINE', message))
  })

  test('a kernel version is checked', () => {
    expect(() => validateMachine({ ...machine, kernel: 'linux' })).toThrow(code('HYPVA_KERNEL_VERSION', 'kernel'))
    expect(validateMachine({ ...machine, kernel: 'vendor', generation: '5.6' }).generation).toBe('5.6')
  })
})

describe('text that is no JSON', () => {
  // The engine's words differ from one to the next; where it tells a position, line and column come from that.
  test.each([
    ['{', 'line 1, column 2: '],
    ['{"a" 1}', 'line 1, column 6: '],
    ['{"a": 0x40}', 'line 1, column 8: '],
    ['{"a": [1 2]}', 'line 1, column 10: '],
    ["{'a': 1}", 'line 1, column 2: '],
    ['{"a": 1} x', 'line 1, column 10: '],
    ['[01]', 'line 1, column 3: '],
    ['{\n  "a": 1,\n}', 'line 3, column 1: '],
    ['{\r\n"a": "b\nc"}', 'line 2, column 8: '],
    ['{"a": "b', 'line 1, column 9: '],
    ['', 'end'],
    ['{"a":', 'end'],
    ['[1,', 'end'],
    ['[1,]', ']'],
    ['\r\n\r\n  nope', 'nope'],
    ['{"a": tru}', 'tru'],
    ['\ufeff{}', '\ufeff'],
    ['}', '}'],
    ['\u001b[2J\u009b', '\\u001b[2J\\u009b'],
    ['x\n\u2028y', 'x\\u000a\\u2028y'],
  ])('%j: one line that says where, or the end of the text', (text, where) => {
    expect(() => parseLayout(text)).toThrow(code('HYPVA_LAYOUT', 'layout: not JSON: '))
    expect(() => parseMachine(text)).toThrow(code('HYPVA_MACHINE', 'machine: not JSON: '))
    const { message } = caught(() => parseLayout(text))
    expect(message).toContain(where)
    expect(message).toMatch(/^[^\p{Cc}\u2028\u2029]{20,200}$/u)
    expect(message).not.toContain('at position')
  })

  test.each([
    ['', 1, 1],
    ['{\n  "a": nope\n}', 2, 9],
    ['{"a": \'x\'}', 1, 7],
    ['[1,]', 1, 4],
    ['[1,\n', 2, 1],
    ['}', 1, 1],
    ['\ufeff{}', 1, 1],
  ])('%j: line and column also where the engine tells none', (text, line, column) => {
    const { message } = caught(() => parseLayout(text))
    expect(message).toContain(`layout: not JSON: line ${line}, column ${column}: Unexpected `)
  })

  test('engines that add line and column themselves do not say them twice', () => {
    const parse = vi.spyOn(JSON, 'parse').mockImplementation(() => {
      throw new SyntaxError("Expected ',' or '}' after property value in JSON at position 12 (line 2 column 5)")
    })
    const { message } = caught(() => parseLayout('{"a": 1\n    "b": 2}'))
    parse.mockRestore()
    expect(message).toBe("layout: not JSON: line 2, column 5: Expected ',' or '}' after property value")
  })

  test('is one line wherever it is broken', () => {
    fc.assert(
      fc.property(fc.json(), fc.nat(), (json, cut) => {
        const text = json.slice(0, cut % json.length)
        let bad = false
        try {
          JSON.parse(text)
        } catch {
          bad = true
        }
        fc.pre(bad)
        expect(caught(() => parseLayout(text)).message).toMatch(/^layout: not JSON: [^\p{Cc}\u2028\u2029]+$/u)
      }),
    )
  })

  test('nested deeply', () => {
    expect(() => parseLayout('['.repeat(200_000))).toThrow(code('HYPVA_LAYOUT', 'layout: not JSON: '))
  })
})

function caught(call: () => unknown): Error {
  try {
    call()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing thrown')
}
