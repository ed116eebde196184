import type { Range } from '../u64.js'

/**
 * How the hypervisor shares the machine with its host. `nvhe`: host at EL1, hypervisor at EL2. `hvhe`: the same on a VHE
 * machine (EL2 uses the VHE register layout, the host stays at EL1). `protected`: nVHE or hVHE under pKVM, where EL2 does
 * not trust the host. `vhe`: the host itself runs at EL2 and kern_hyp_va is the identity.
 */
export type Mode = 'nvhe' | 'hvhe' | 'protected' | 'vhe'

export const MODES: readonly Mode[] = ['nvhe', 'hvhe', 'protected', 'vhe']

/**
 * A generation of the layout algorithm, named by the first mainline version that has it (docs/kernel-facts.md, 1). Vendor
 * kernels backport: RHEL's "4.18" is of generation 5.6. So the generation can always be named instead of a version.
 */
export type Generation = '3.11' | '4.8' | '4.17' | '5.4' | '5.6' | '5.9' | '5.11' | '5.12' | '5.15' | '7.0'

/** Bytes a page: CONFIG_ARM64_4K_PAGES, _16K_PAGES, _64K_PAGES. */
export type PageSize = 4096 | 16384 | 65536

/**
 * A layout that was proposed in March 2021 and never merged (docs/kernel-facts.md, 5). The other layouts of that thread are
 * what kernels do: they need no name beside their generation.
 */
export type Proposal = 'low-window-48' | 'low-window-48-as-coded' | 'low-window-47' | 'overlap-top-window'

export const PROPOSALS: readonly Proposal[] = [
  'low-window-48',
  'low-window-48-as-coded',
  'low-window-47',
  'overlap-top-window',
]

/** What an EL2 address space is. Absent fields are not known; what they make possible is refused with their name. */
export interface HypLayout {
  readonly generation?: Generation
  /** The proposal that changes what the generation does; absent for every kernel there has been. */
  readonly proposal?: Proposal
  /** Absent means nvhe. */
  readonly mode?: Mode
  /** Bytes: 4096, 16384 or 65536. */
  readonly pageSize?: PageSize
  /** CONFIG_ARM64_VA_BITS, the build-time width of kernel addresses. */
  readonly vaBits?: number
  /** vabits_actual, the width in use (48 or 47 for a 52-bit build on smaller hardware). */
  readonly vaBitsActual?: number
  /** V of docs/kernel-facts.md, 1: how many bits of hyp VA the layout algorithm uses. */
  readonly hypVaBits?: number
  /** Bits kept from the kernel address; va_mask = 2^tagLsb - 1. Present in every mode but vhe. */
  readonly tagLsb?: number
  /** The tag, shifted right by tagLsb, as the kernel holds it. Present in every mode but vhe, unless `tag` is. */
  readonly tagVal?: bigint
  /**
   * The tag in place, for a layout that adds a constant which shares bits with va_mask (the low windows add 2^48 to an offset
   * of 52 bits); instead of tagVal. What the sum carries beyond hypVaBits has no hyp VA, so that field is needed as well.
   */
  readonly tag?: bigint
  /** 2^tagLsb - 1. */
  readonly vaMask?: bigint
  /** PAGE_OFFSET: where the linear map of physical address physOffset begins. */
  readonly pageOffset?: bigint
  /** PHYS_OFFSET, memstart_addr, modulo 2^64 (it may be negative). */
  readonly physOffset?: bigint
  /** memblock's banks of DRAM: physical, half-open, ascending, not touching. */
  readonly dram?: readonly Range[]
  /** Physical (and hyp virtual) address of the idmap page. */
  readonly idmap?: bigint
  /** Run-time virtual range of the kernel image, [_text, _end). */
  readonly image?: Range
  /** image VA - physical address, modulo 2^64. */
  readonly kimageVoffset?: bigint
  /** Run-time image VA - link-time VA. */
  readonly kaslrOffset?: bigint
  /** Physical - hyp VA in the hyp linear region, modulo 2^64. */
  readonly hypPhysvirtOffset?: bigint
}

/** The facts from which a kernel computes its layout at boot. */
export interface Machine {
  /** A kernel version ("6.12", "6.1.0-56-arm64"); either this or `generation`. */
  readonly kernel?: string
  readonly generation?: Generation
  /** Absent means nvhe. */
  readonly mode?: Mode
  readonly pageSize: PageSize
  readonly vaBits: number
  /** Absent means vaBits. */
  readonly vaBitsActual?: number
  /** CONFIG_RANDOMIZE_BASE; absent means true. It matters from generation 5.9 on. */
  readonly randomizeBase?: boolean
  readonly dram: readonly Range[]
  readonly idmap: bigint
  /** Absent: the kernel's own rule, without linear-map KASLR. */
  readonly physOffset?: bigint
  readonly image?: Range
  readonly kimageVoffset?: bigint
  readonly kaslrOffset?: bigint
  /** The raw 64-bit random word the kernel drew. */
  readonly random?: bigint
  /** The tag a boot was seen to have; checked against what the rules allow. */
  readonly tagVal?: bigint
}
