import { decodePatch } from '../layout/patch.js'

/** A word of code, in words where it is simple. */
export interface Instruction {
  /** Absent where the kernel could not read it. */
  readonly word?: number
  /** Assembly text; absent for what is not recognised. */
  readonly text?: string
}

type Render = (word: number) => string

const register = (word: number, at = 0) => (word >>> at) & 31
const x = (n: number) => (n === 31 ? 'xzr' : `x${n}`)
const base = (n: number) => (n === 31 ? 'sp' : `x${n}`)
const imm16 = (word: number) => `#0x${((word >>> 5) & 0xffff).toString(16)}`

/** Mask, value, text. Encodings: DDI 0487, "A64 Base Instruction Descriptions" and "Hint instructions". */
const TABLE: readonly (readonly [number, number, Render])[] = [
  [0xffff0000, 0x00000000, (word) => `udf #${word & 0xffff}`],
  [0xffe0001f, 0xd4200000, (word) => `brk ${imm16(word)}`],
  [0xffe0001f, 0xd4400000, (word) => `hlt ${imm16(word)}`],
  [0xffe0001f, 0xd4000001, (word) => `svc ${imm16(word)}`],
  [0xffe0001f, 0xd4000002, (word) => `hvc ${imm16(word)}`],
  [0xffe0001f, 0xd4000003, (word) => `smc ${imm16(word)}`],
  [0xffffffff, 0xd503201f, () => 'nop'],
  [0xffffffff, 0xd503233f, () => 'paciasp'],
  [0xffffffff, 0xd50323bf, () => 'autiasp'],
  [0xffffffff, 0xd503241f, () => 'bti'],
  [0xffffffff, 0xd503245f, () => 'bti c'],
  [0xffffffff, 0xd503249f, () => 'bti j'],
  [0xffffffff, 0xd50324df, () => 'bti jc'],
  [0xffffffff, 0xd69f03e0, () => 'eret'],
  [0xfffffc1f, 0xd65f0000, (word) => (register(word, 5) === 30 ? 'ret' : `ret ${x(register(word, 5))}`)],
  [0xfffffc1f, 0xd61f0000, (word) => `br ${x(register(word, 5))}`],
  [0xfffffc1f, 0xd63f0000, (word) => `blr ${x(register(word, 5))}`],
  [0xffc00000, 0xf9400000, (word) => `ldr ${x(register(word))}, ${place(word, 8)}`],
  [0xffc00000, 0xf9000000, (word) => `str ${x(register(word))}, ${place(word, 8)}`],
  [0xffc00000, 0xb9400000, (word) => `ldr w${register(word)}, ${place(word, 4)}`],
  [0xffc00000, 0xb9000000, (word) => `str w${register(word)}, ${place(word, 4)}`],
  [0xffc00000, 0xd1000000, subtraction],
  [0xffc00000, 0xd1400000, (word) => `${subtraction(word)}, lsl #12`],
]

function subtraction(word: number): string {
  return `sub ${base(register(word))}, ${base(register(word, 5))}, #0x${unsigned12(word).toString(16)}`
}

/** Whether an instruction is an LDR or STR, of 32 or 64 bits, with an unsigned offset from the stack pointer. */
export function accessesStack(word: number): boolean {
  return (word & 0xbf800000) >>> 0 === 0xb9000000 && register(word, 5) === 31
}

function unsigned12(word: number): number {
  return (word >>> 10) & 0xfff
}

/** The operand of a load or store with an unsigned offset, scaled by the access. */
function place(word: number, scale: number): string {
  const offset = unsigned12(word) * scale
  return offset === 0 ? `[${base(register(word, 5))}]` : `[${base(register(word, 5))}, #0x${offset.toString(16)}]`
}

/** Recognises simple instructions, and kern_hyp_va's patched sequence where all five words of it are there. */
export function recognise(words: readonly (number | undefined)[]): Instruction[] {
  const texts = words.map((word) => {
    if (word === undefined) return undefined
    const [, , render] = TABLE.find(([mask, value]) => (word & mask) >>> 0 === value) ?? []
    return render?.(word)
  })
  for (let at = 0; at + 5 <= words.length; at++) {
    const five = words.slice(at, at + 5)
    if (five.includes(undefined)) continue
    const patch = decodePatch(five as number[])
    if (patch.kind !== 'patched') continue
    texts.fill(`kern_hyp_va: tag_lsb ${patch.tagLsb}, tag_val 0x${patch.tagVal.toString(16)}`, at, at + 5)
  }
  return words.map((word, i) => ({
    ...(word !== undefined && { word }),
    ...(texts[i] !== undefined && { text: texts[i] }),
  }))
}
