import { describe, expect, test } from 'vitest'
import { recoverLayout } from '../../src/evidence/recover.ts'
import type { HypLayout } from '../../src/layout/types.ts'
import { bytesSource } from '../../src/source.ts'
import { type Boot, boots } from '../layout/boots.ts'

const M64 = (1n << 64n) - 1n
const hex = (value: bigint, width = 0) => value.toString(16).padStart(width, '0')

/** The text a host of this boot would print, put together from what was observed of it; KIMAGE_VADDR is what the version has. */
function panicOf(boot: Boot): string {
  const text = BigInt(boot.text_va)
  const kimageVoffset = BigInt(boot.kimage_voffset)
  const physvirt = BigInt(boot.observed.hyp_physvirt_offset)
  const pageEnd = (1n << 64n) - (1n << BigInt(minBits(boot) - 1))
  const linkBase = pageEnd + (boot.kernel_version.startsWith('6.1.') ? 0x8000000n : 0x80000000n)
  const kaslr = (text - linkBase) & M64
  const hypOffset = (physvirt + kimageVoffset - kaslr) & M64
  const pair = boot.pairs.find(({ symbol }) => symbol === '__kvm_nvhe_hyp_panic')!
  const pc = BigInt(pair.hyp_va) + 4n
  const link = (BigInt(pair.kernel_va) + 4n - kaslr) & M64
  return [
    `[    9.857423] kvm [118]: nVHE hyp panic at: [<${hex(link, 16)}>] __kvm_nvhe_hyp_panic+0x4/0xf0!`,
    `[    9.861936] kvm [118]: Hyp Offset: 0x${hex(hypOffset)}`,
    '[    9.862213] Kernel panic - not syncing: HYP panic:',
    `[    9.862213] PS:800003c9 PC:${hex(pc, 16)} ESR:0000000097810004`,
    '[    9.862213] FAR:ffff4e0ec3375418 HPFAR:00000000000a0000 PAR:0000000000000000',
    '[    9.862213] VCPU:0000000000000000',
    `[    9.862509] CPU: 1 PID: 118 Comm: kvmtest Not tainted ${boot.kernel_version} #1 Debian`,
    kaslr === 0n
      ? '[    9.872998] Kernel Offset: disabled'
      : `[    9.872998] Kernel Offset: 0x${hex(kaslr)} from 0x${hex(linkBase)}`,
    `[    9.873104] PHYS_OFFSET: 0x${hex(BigInt(boot.memstart_addr))}`,
  ].join('\n')
}

function minBits(boot: Boot): number {
  return boot.config_va_bits !== 52 ? boot.config_va_bits : boot.page_size === 16384 ? 47 : 48
}

function iomemOf(boot: Boot): string {
  const voffset = BigInt(boot.kimage_voffset)
  const code = (BigInt(boot.text_va) - voffset) & M64
  const end = (BigInt(boot.end_va) - voffset) & M64
  const line = (start: bigint, stop: bigint, name: string) => `${hex(start, 8)}-${hex(stop - 1n, 8)} : ${name}`
  return boot.dram
    .flatMap((bank) => {
      const start = BigInt(bank.start)
      const lines = [line(start, BigInt(bank.end), 'System RAM')]
      // 6.1 starts Kernel code at _stext, later kernels at _text.
      const from = boot.kernel_version.startsWith('6.1.') ? code + 0x10000n : code
      if (start <= code && code < BigInt(bank.end)) {
        lines.push(`  ${line(from, code + 0x200000n, 'Kernel code')}`, `  ${line(end - 0x10000n, end, 'Kernel data')}`)
      }
      return lines
    })
    .join('\n')
}

function kallsymsOf(boot: Boot): string {
  const stext = `${hex(BigInt(boot.text_va) + 0x10000n, 16)} T _stext`
  const idmap = `${hex((BigInt(boot.idmap_addr) + BigInt(boot.kimage_voffset)) & M64, 16)} T __hyp_idmap_text_start`
  return [stext, idmap, ...boot.pairs.map(({ symbol, kernel_va }) => `${hex(BigInt(kernel_va), 16)} t ${symbol}`)].join(
    '\n',
  )
}

/** The observed layout, field by field. */
function truthOf(boot: Boot): Record<string, unknown> {
  const { observed } = boot
  return {
    tagLsb: observed.tag_lsb,
    tagVal: BigInt(observed.tag_val),
    vaMask: BigInt(observed.va_mask),
    vaBits: boot.config_va_bits,
    vaBitsActual: boot.vabits_actual,
    hypVaBits: boot.hyp_va_bits_used,
    pageSize: boot.page_size,
    pageOffset: BigInt(boot.page_offset),
    physOffset: BigInt(boot.memstart_addr),
    dram: boot.dram.map(({ start, end }) => ({ start: BigInt(start), end: BigInt(end) })),
    idmap: BigInt(boot.idmap_addr),
    image: { start: BigInt(boot.text_va), end: BigInt(boot.end_va) },
    kimageVoffset: BigInt(boot.kimage_voffset),
    hypPhysvirtOffset: BigInt(observed.hyp_physvirt_offset),
  }
}

/** Every field that was recovered is the observed one. */
function expectTrue(layout: Partial<HypLayout>, boot: Boot): void {
  const truth = truthOf(boot)
  for (const [field, value] of Object.entries(layout))
    if (field in truth) expect([field, value]).toEqual([field, truth[field]])
}

const has = (candidates: readonly HypLayout[], boot: Boot) =>
  candidates.some(({ tagLsb, tagVal }) => tagLsb === boot.observed.tag_lsb && tagVal === BigInt(boot.observed.tag_val))

describe.each(boots.map((boot) => [boot.name, boot] as const))('boot %s', (_, boot) => {
  test('panic, iomem and kallsyms give the whole layout', () => {
    const recovery = recoverLayout([
      bytesSource('panic.txt', panicOf(boot)),
      bytesSource('iomem.txt', iomemOf(boot)),
      bytesSource('kallsyms.txt', kallsymsOf(boot)),
    ])
    expect(recovery.conflicts).toEqual([])
    expectTrue(recovery.layout, boot)
    for (const field of Object.keys(truthOf(boot)))
      if (field !== 'pageSize') expect(recovery.layout).toHaveProperty(field)
  })

  test.each(['kernel_va', 'linear_va'] as const)(
    'three pairs (%s) leave the observed tag among those that fit',
    (space) => {
      const some = [boot.pairs[3]!, boot.pairs[7]!, boot.pairs.at(-1)!]
      const text = some.map((pair) => `${pair[space]} ${pair.hyp_va} ${pair.symbol}`).join('\n')
      const { candidates, layout, conflicts, unknown } = recoverLayout([bytesSource('pairs', text)])
      expect(conflicts).toEqual([])
      expectTrue(layout, boot)
      if (layout.tagLsb === undefined) {
        expect(has(candidates, boot)).toBe(true)
        expect(unknown.tagLsb).toMatch(/decides/)
      }
    },
  )

  test('one page of patched text gives mask and tag', () => {
    const page = new Uint8Array(4096)
    const view = new DataView(page.buffer)
    const code = [boot.patched_sequence, ...boot.patched_sequence.other_examples]
    code.forEach(({ words }, i) => {
      words.forEach((word, j) => {
        view.setUint32(100 * (i + 1) + 4 * j, Number(word), true)
      })
    })
    const { layout, provenance, conflicts } = recoverLayout([bytesSource('text.bin', page)])
    expect(conflicts).toEqual([])
    expectTrue(layout, boot)
    expect(layout.tagVal).toBe(BigInt(boot.observed.tag_val))
    expect(provenance.tagVal![0]!.where).toMatch(/^offset 0x64\b/)
  })
})
