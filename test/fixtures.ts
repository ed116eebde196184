import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

/** A fixture's bytes; one that is kept compressed is named with its .gz. */
export function fixture(name: string): Buffer {
  const bytes = readFileSync(join(import.meta.dirname, 'fixtures', name))
  return name.endsWith('.gz') ? gunzipSync(bytes) : bytes
}

/** A real boot, as the fixtures' README describes it; 64-bit values are hex strings. */
export interface Boot {
  name: string
  kernel_version: string
  page_size: 4096 | 16384 | 65536
  config_va_bits: number
  vabits_actual: number
  hyp_va_bits_used: number
  dram: { start: string; end: string }[]
  idmap_addr: string
  memstart_addr: string
  kimage_voffset: string
  page_offset: string
  text_va: string
  end_va: string
  mode: 'nvhe' | 'protected'
  randomize_base: boolean
  observed: { tag_lsb: number; tag_val: string; va_mask: string; hyp_physvirt_offset: string; tag: string }
  pairs: { symbol: string; kernel_va: string; linear_va: string; phys: string; hyp_va: string; el2_mapped: boolean }[]
  el2_mappings: { va: string; pa: string; size: string; kind: 'linear' | 'idmap' | 'private' }[]
}

export const boots: readonly Boot[] = JSON.parse(fixture('boots.json.gz').toString())

export function boot(name: string): Boot {
  const found = boots.find((b) => b.name === name)
  if (found === undefined) throw new Error(`no boot ${name}`)
  return found
}

/** Machine JSON of a boot. */
export function machineJson(b: Boot): string {
  return JSON.stringify({
    format: 'hypva-machine/1',
    kernel: b.kernel_version,
    mode: b.mode,
    pageSize: b.page_size,
    vaBits: b.config_va_bits,
    vaBitsActual: b.vabits_actual,
    randomizeBase: b.randomize_base,
    dram: b.dram,
    idmap: b.idmap_addr,
    physOffset: b.memstart_addr,
    image: { start: b.text_va, end: b.end_va },
    kimageVoffset: b.kimage_voffset,
    tagVal: b.observed.tag_val,
  })
}
