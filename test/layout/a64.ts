/** `NOP` */
export const NOP = 0xd503201f

/**
 * An oracle that shares nothing with src: runs straight-line A64 code (AND immediate, EXTR, ADD immediate, NOP; 64-bit forms)
 * on register values, decoding by the bit fields of the Arm ARM.
 */
export function runA64(words: readonly number[], registers: bigint[]): void {
  for (const word of words) step(BigInt(word), registers)
}

function step(word: bigint, registers: bigint[]): void {
  const bits = (high: number, low: number) => (word >> BigInt(low)) % 2n ** BigInt(high - low + 1)
  const rd = Number(bits(4, 0))
  const rn = Number(bits(9, 5))
  if (word === BigInt(NOP)) return
  if (rd === 31 || rn === 31) throw new Error('register 31')
  const source = registers[rn]!
  const modulus = 2n ** 64n
  if (bits(31, 22) === 0b1001001001n) {
    // AND (immediate), 64-bit, N = 1: a run of imms + 1 ones in an element of 64 bits, rotated right by immr.
    const ones = bits(15, 10) + 1n
    if (ones === 64n) throw new Error('reserved immediate')
    registers[rd] = rotateRight(2n ** ones - 1n, bits(21, 16)) & source
  } else if (bits(31, 21) === 0b10010011110n) {
    // EXTR Xd, Xn, Xm, #lsb: 64 bits of Xn:Xm from lsb.
    const pair = source * modulus + registers[Number(bits(20, 16))]!
    registers[rd] = (pair / 2n ** bits(15, 10)) % modulus
  } else if (bits(31, 23) === 0b100100010n) {
    // ADD (immediate), 64-bit, imm12 shifted left by 12 where bit 22 is set.
    const immediate = bits(21, 10) * (bits(22, 22) === 1n ? 4096n : 1n)
    registers[rd] = (source + immediate) % modulus
  } else {
    throw new Error(`unknown instruction ${word.toString(16)}`)
  }
}

function rotateRight(value: bigint, amount: bigint): bigint {
  const pair = value * 2n ** 64n + value
  return (pair / 2n ** amount) % 2n ** 64n
}
