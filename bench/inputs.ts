import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

/** A range and the delta to add to its addresses. */
export interface Range {
  start: bigint
  end: bigint
  delta: bigint
}

interface TextInput {
  readonly name: string
  readonly bytes: Buffer
  /** The direction that the text is rewritten in. */
  readonly ranges: readonly Range[]
}

const IMAGE = { start: 0xffffad4306200000n, end: 0xffffad4308210000n }
const LINEAR = { start: 0xffff6f3700000000n, end: 0xffff6f3780000000n }
const HYP = { start: 0x89b380000000n, end: 0x89b400000000n }

/**
 * Text of the shapes that traces have, and of those that hurt. Addresses are mapped onto themselves, so that text
 * rewritten in place is the same input again; `growing` is the exception, whose twelve digits become sixteen.
 */
export function textInputs(root: string): TextInput[] {
  const real = (name: string) => gunzipSync(readFileSync(join(root, 'test/fixtures/traces', name)))
  const stay = (...ranges: { start: bigint; end: bigint }[]): Range[] => ranges.map((r) => ({ ...r, delta: 0n }))
  const kernel = stay(LINEAR, IMAGE)
  const ftrace = stay(
    { start: 0xffff0d0cc0000000n, end: 0xffff0d0d40000000n },
    { start: 0xffffcbf1a8600000n, end: 0xffffcbf1aa610000n },
  )
  const lines = (line: (random: () => number) => string) => {
    const random = generator()
    let text = ''
    while (text.length < SIZE) text += line(random)
    return Buffer.from(text.slice(0, SIZE))
  }
  const garbage = generator()
  const image = (random: () => number) => (IMAGE.start + BigInt(random() % 0x2000000)).toString(16)
  const hyp = (random: () => number) => (HYP.start + BigInt(random() % 0x7fffffff)).toString(16)
  const words = 'vcpu mutex_unlock kvm_arch_vcpu_ioctl_run irq deadbeef the cafe_babe 0x24 19.273'.split(' ')
  const prose = (random: () => number, n: number) =>
    Array.from({ length: n }, () => words[random() % words.length]).join(' ')
  return [
    { name: 'ftrace (two addresses in 130 bytes)', bytes: real('ftrace-6.1.function.txt.gz'), ranges: ftrace },
    { name: 'QEMU exec log, real', bytes: real('exec-6.1-kaslr.log.gz'), ranges: kernel },
    { name: 'sparse (one in 2 KB)', bytes: lines((r) => `${prose(r, 250)} ${image(r)}\n`), ranges: kernel },
    { name: 'no address', bytes: lines((r) => `${prose(r, 12)}\n`), ranges: kernel },
    { name: 'all addresses, bare', bytes: lines((r) => `${image(r)}\n`), ranges: kernel },
    { name: 'all addresses, 0x', bytes: lines((r) => `0x${image(r)} `), ranges: kernel },
    { name: 'all addresses, upper-case', bytes: lines((r) => `${image(r).toUpperCase()}\n`), ranges: kernel },
    { name: 'CRLF', bytes: lines((r) => `pc ${image(r)} lr ${image(r)} ${prose(r, 3)}\r\n`), ranges: kernel },
    {
      name: 'half of them translate, at random',
      bytes: lines((r) => `${random2(r) ? image(r) : `ffffbd43${image(r).slice(8)}`} `),
      ranges: kernel,
    },
    {
      name: 'short tokens (0x…)',
      bytes: lines((r) => `0x${(r() % 0x10000).toString(16)} 0x${hyp(r)} `),
      ranges: stay(HYP),
    },
    {
      name: 'growing (12 to 16 digits)',
      bytes: lines((r) => `0x${hyp(r)} `),
      ranges: [{ ...HYP, delta: LINEAR.start - HYP.start }],
    },
    { name: 'one endless hex line', bytes: Buffer.alloc(SIZE, '0123456789abcdef'), ranges: kernel },
    {
      name: 'binary garbage',
      bytes: Buffer.from(Uint8Array.from({ length: SIZE }, () => garbage() & 255)),
      ranges: kernel,
    },
  ]
}

const SIZE = 1 << 20

const random2 = (random: () => number) => (random() >> 7) & 1

/** The same numbers in every run. */
function generator(): () => number {
  let state = 0x2545f491
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}
