import { describe, expect, test } from 'vitest'
import { decodeEsr, decodePar, decodePs, hpfarPage } from '../../src/index.ts'

const fieldsOf = (fields: readonly { name: string; value: bigint }[]) =>
  Object.fromEntries(fields.map(({ name, value }) => [name, Number(value)]))

describe('ESR', () => {
  // What kernels printed of real faults, in the words of arch/arm64/mm/fault.c and traps.c.
  test.each([
    [0x96000004n, 'DABT (current EL)', 'level 0 translation fault', false],
    [0x97c08005n, 'DABT (current EL)', 'level 1 translation fault', false],
    [0x97df8047n, 'DABT (current EL)', 'level 3 translation fault', true],
    [0x9600004fn, 'DABT (current EL)', 'level 3 permission fault', true],
    [0x96000021n, 'DABT (current EL)', 'alignment fault', false],
    [0x93810045n, 'DABT (lower EL)', 'level 1 translation fault', true],
    [0x96000010n, 'DABT (current EL)', 'synchronous external abort', false],
    [0x96000011n, 'DABT (current EL)', 'synchronous tag check fault', false],
    [0x9600002bn, 'DABT (current EL)', 'level -1 translation fault', false],
    [0x96000069n, 'DABT (current EL)', 'level -1 address size fault', true],
    [0x96000017n, 'DABT (current EL)', 'level 3 synchronous external abort on translation table walk', false],
  ])('%s', (value, text, fault, write) => {
    const { exceptionClass, abort } = decodeEsr(value)
    expect(exceptionClass.text).toBe(text)
    expect(abort).toMatchObject({ kind: 'data', text: fault, write })
  })

  test('a data abort, field by field', () => {
    expect(fieldsOf(decodeEsr(0x97df8047n).fields)).toMatchObject({
      EC: 0x25,
      IL: 1,
      ISV: 1,
      SAS: 3,
      SRT: 31,
      SF: 1,
      WnR: 1,
      DFSC: 7,
    })
  })

  test('instruction aborts, traps, BRK', () => {
    expect(decodeEsr(0x86000006n)).toMatchObject({
      exceptionClass: { name: 'IABT_CUR' },
      abort: { kind: 'instruction', current: true, text: 'level 2 translation fault' },
    })
    expect(decodeEsr(0x5a000000n).exceptionClass.name).toBe('HVC64')
    // mrs x3, ID_AA64MMFR0_EL1 = S3_0_C0_C7_0
    const trap = (3n << 20n) | (0n << 17n) | (0n << 14n) | (0n << 10n) | (3n << 5n) | (7n << 1n) | 1n
    const { fields } = decodeEsr((0x18n << 26n) | (1n << 25n) | trap)
    expect(fields.find(({ name }) => name === 'Op0')!.text).toBe('S3_0_C0_C7_0')
    expect(fieldsOf(fields)).toMatchObject({ Rt: 3, Direction: 1 })
    expect(decodeEsr(0xf2000800n).brk!.use).toContain('BUG')
    expect(decodeEsr(0xf2000912n).brk!.use).toBe('KASAN tag check (KASAN_BRK_IMM): write of 4 bytes')
    expect(decodeEsr(0xf2000001n).brk!.use).toContain('__builtin_trap')
    expect(decodeEsr(0xf2001234n).brk!.use).toBe('no use in the kernel')
  })

  test('FnV makes FAR invalid, only for external aborts', () => {
    expect(decodeEsr(0x96000410n).abort!.farValid).toBe(false)
    expect(decodeEsr(0x96000404n).abort!.farValid).toBe(true)
  })

  test('every class and fault status has words', () => {
    for (let ec = 0n; ec < 64n; ec++) expect(decodeEsr(ec << 26n).exceptionClass.text).not.toBe('')
    for (let status = 0n; status < 64n; status++) expect(decodeEsr((0x25n << 26n) | status).abort!.text).not.toBe('')
  })
})

describe('PS', () => {
  test.each([
    [0x800003c9n, 'EL2h', 2, ['N', 'D', 'A', 'I', 'F']],
    [0x204003c9n, 'EL2h', 2, ['C', 'PAN', 'D', 'A', 'I', 'F']],
    [0x60000005n, 'EL1h', 1, ['Z', 'C']],
    [0x80000000n, 'EL0t', 0, ['N']],
    [0x20001008n, 'EL2t', 2, ['C', 'SSBS']],
  ])('%s', (value, mode, el, set) => {
    const status = decodePs(value)
    expect(status).toMatchObject({ mode, el })
    expect(status.fields.slice(1).map(({ name }) => name)).toEqual(set)
  })
  test('AArch32', () => {
    expect(decodePs(0x1d3n)).toMatchObject({ mode: 'AArch32 Supervisor', el: 1 })
    expect(decodePs(0x10n)).toMatchObject({ mode: 'AArch32 User', el: 0 })
  })
})

test('PAR: success, failure, and what no translation left', () => {
  expect(decodePar(0xff0000004114bb80n)).toMatchObject({ failed: false, page: 0x4114b000n })
  expect(decodePar(0x80bn).failed).toBe(true)
  expect(decodePar(0x80bn).fields[1]!.text).toBe('level 1 translation fault')
  expect(decodePar(0x1de7ec7edbadc0den).note).toContain('reset value')
})

test('HPFAR: the page in bits 47:4, neither NS nor reserved bits', () => {
  expect(hpfarPage(0x5f6030n)).toBe(0x5f603000n)
  expect(hpfarPage(0x80000000005f603fn)).toBe(0x5f603000n)
  expect(hpfarPage(0xfff0n << 32n)).toBe(0xfff0n << 40n)
})
