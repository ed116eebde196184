import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import type { Machine, PageSize } from '../../src/layout/types.js'

/** One entry of boots.json.gz, the fields used here; 64-bit values are hex strings. */
export interface Boot {
  readonly name: string
  readonly kernel_version: string
  readonly page_size: PageSize
  readonly config_va_bits: number
  readonly vabits_actual: number
  readonly hyp_va_bits_used: number
  readonly cmdline: string
  readonly mode: 'nvhe' | 'protected'
  readonly randomize_base: boolean
  readonly dram: readonly { readonly start: string; readonly end: string }[]
  readonly idmap_addr: string
  readonly memstart_addr: string
  readonly page_offset: string
  readonly kimage_voffset: string
  readonly phys_to_virt_dram_start: string
  readonly high_memory: string
  readonly text_va: string
  readonly end_va: string
  readonly other_vars: Readonly<Record<string, string>>
  readonly observed: {
    readonly tag_lsb: number
    readonly tag_val: string
    readonly va_mask: string
    readonly tag: string
    readonly hyp_physvirt_offset: string
  }
  readonly patched_sequence: PatchedCode & { readonly other_examples: readonly PatchedCode[] }
  readonly pairs: readonly {
    readonly symbol: string
    readonly kernel_va: string
    readonly linear_va: string
    readonly phys: string
    readonly hyp_va: string
  }[]
  readonly el2_mappings: readonly {
    readonly va: string
    readonly pa: string
    readonly size: string
    readonly kind: 'linear' | 'idmap' | 'private'
  }[]
}

interface PatchedCode {
  readonly words: readonly string[]
  readonly reg: string
}

const file = new URL('../fixtures/boots.json.gz', import.meta.url)

/** Every real boot of the fixture. */
export const boots: readonly Boot[] = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8'))

/** The facts of a boot, without PHYS_OFFSET and without anything about its tag. */
export function factsOf(boot: Boot): Machine {
  return {
    kernel: boot.kernel_version,
    mode: boot.mode,
    pageSize: boot.page_size,
    vaBits: boot.config_va_bits,
    vaBitsActual: boot.vabits_actual,
    randomizeBase: boot.randomize_base,
    dram: boot.dram.map(({ start, end }) => ({ start: BigInt(start), end: BigInt(end) })),
    idmap: BigInt(boot.idmap_addr),
    image: { start: BigInt(boot.text_va), end: BigInt(boot.end_va) },
    kimageVoffset: BigInt(boot.kimage_voffset),
  }
}
