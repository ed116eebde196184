import { HypvaError } from '../errors.js'
import { describe } from '../u64.js'
import type { Generation } from './types.js'

/** The rules of one generation of kernels, as data: docs/kernel-facts.md, 1 and 3. */
interface GenerationRules {
  /**
   * How mask and tag are chosen. `mask`: all of the kernel's VA bits, no tag. `high-or-low`: one of two masks, no tag.
   * `tag-or-mask`: mask and tag, but a mask alone when DRAM leaves no bit between it and the region bit. `tag`: always both.
   */
  readonly formula: 'mask' | 'high-or-low' | 'tag-or-mask' | 'tag'
  /** V, the hyp VA bits: the build-time VA_BITS, vabits_actual, or vabits_actual but at least 48. */
  readonly width: 'build' | 'actual' | 'actual-or-48'
  /** Whether free tag bits are random: depending on nothing, or on CONFIG_RANDOMIZE_BASE. */
  readonly random: 'never' | 'always' | 'randomize-base'
  /** Which half of the kernel's addresses is the linear map. */
  readonly linearMap: 'top' | 'bottom'
  /** What PAGE_END is computed from; `none` while the linear map reaches the end of the address space. */
  readonly pageEnd: 'none' | 'vabits-actual' | 'va-bits-min'
  /** A 52-bit build on smaller hardware lowers memstart_addr (since 5.11) instead of moving the linear map. */
  readonly biasedPhysOffset: boolean
  /** 52 bits in use and a host below EL2: the linear region is capped at 2^51 bytes (88053ec8cb1b). */
  readonly cap51: boolean
  /** KIMAGE_VADDR - PAGE_END in bytes, where the generation alone decides it: modules live below the image. */
  readonly kimageGap?: bigint | undefined
}

const MIB = 1n << 20n

/** The rules of Linux 3.11, and what each later generation changes. */
const CHANGES: Readonly<Record<Generation, Partial<GenerationRules>>> = {
  '3.11': {
    formula: 'mask',
    width: 'build',
    random: 'never',
    linearMap: 'top',
    pageEnd: 'none',
    biasedPhysOffset: false,
    cap51: false,
  },
  '4.8': { formula: 'high-or-low' },
  '4.17': { formula: 'tag-or-mask', random: 'always' },
  '5.4': { width: 'actual', linearMap: 'bottom', pageEnd: 'vabits-actual' },
  '5.6': { formula: 'tag' },
  '5.9': { random: 'randomize-base' },
  '5.11': { pageEnd: 'va-bits-min', biasedPhysOffset: true, kimageGap: 256n * MIB },
  // hyp_physvirt_offset exists from here on.
  '5.12': {},
  // 5.15 to 6.19 had gaps of 256 MiB, 128 MiB and 2 GiB: the generation does not decide which.
  '5.15': { cap51: true, kimageGap: undefined },
  '7.0': { width: 'actual-or-48', kimageGap: 2048n * MIB },
}

const RULES = new Map<Generation, GenerationRules>()
let rules = {} as GenerationRules
for (const generation of Object.keys(CHANGES) as Generation[]) {
  rules = { ...rules, ...CHANGES[generation] }
  RULES.set(generation, rules)
}

/**
 * Every generation, oldest first.
 * @example
 * GENERATIONS.includes('5.15') // true
 */
export const GENERATIONS: readonly Generation[] = [...RULES.keys()]

/** The rules of `generation`. */
export function rulesOf(generation: Generation): GenerationRules {
  return RULES.get(generation)!
}

/** The version before 7.0, the only generation that begins a series. */
const BEFORE_7_0 = '6.19'

/** The mainline versions that a generation covers: "5.6 to 5.8", "5.11", "7.0 and later". */
export function algorithmRange(generation: Generation): string {
  const next = GENERATIONS[GENERATIONS.indexOf(generation) + 1]
  if (next === undefined) return `${generation} and later`
  const last = lastBefore(next)
  return last === generation ? last : `${generation} to ${last}`
}

/** The version before the first of a generation: 5.8 for 5.9. */
function lastBefore(generation: Generation): string {
  const [major, minor] = generation.split('.').map(Number)
  return minor === 0 ? BEFORE_7_0 : `${major}.${minor! - 1}`
}

/** Major times 10000 plus minor of a kernel version: 60012 for 6.12; 0 for what is not a version. */
export function versionNumber(kernelVersion: string): number {
  const [, major = 0, minor = 0] = /^v?(\d+)\.(\d+)/.exec(kernelVersion) ?? []
  return Number(major) * 10_000 + Number(minor)
}

/** Whether `generation` is `first` or a later one. */
export function isSince(generation: Generation, first: Generation): boolean {
  return GENERATIONS.indexOf(generation) >= GENERATIONS.indexOf(first)
}

/**
 * The generation of a mainline kernel version. The rest of a release string ("-56-arm64", "+deb13", "-rc3") is accepted and
 * says nothing; a vendor that backports the layout must be named by generation instead, and RHEL's 4.18, which is known to
 * (docs/kernel-facts.md, 1), is refused.
 * @param kernelVersion "6.12", "6.1.0-56-arm64", "v5.10", "7.3.4+deb13"
 * @throws HypvaError `HYPVA_KERNEL_VERSION`
 * @example
 * generationOf('6.1.0-56-arm64') // '5.15'
 * generationOf('six') // throws HYPVA_KERNEL_VERSION
 */
export function generationOf(kernelVersion: string): Generation {
  const valid = /^v?\d{1,4}\.\d{1,4}(?:\.\d+)*(?:[-+~_][\w.+~-]*|\.el\d[\w.+~-]*)?$/.test(kernelVersion)
  if (!valid) {
    throw new HypvaError(
      'HYPVA_KERNEL_VERSION',
      `kernel: expected a version like 6.12 or 6.1.0-56-arm64, got ${describe(kernelVersion)}`,
      { field: 'kernel' },
    )
  }
  const version = versionNumber(kernelVersion)
  if (version === 40_018 && /[.]el8/.test(kernelVersion)) {
    throw new HypvaError(
      'HYPVA_KERNEL_VERSION',
      `kernel: ${describe(kernelVersion)} is RHEL's, whose 4.18 carries the layout of a later mainline kernel; give the generation (5.6) instead`,
      { field: 'kernel' },
    )
  }
  const generation = GENERATIONS.findLast((name) => version >= versionNumber(name))
  if (generation !== undefined) return generation
  throw new HypvaError(
    'HYPVA_KERNEL_VERSION',
    `kernel: ${describe(kernelVersion)} is older than 3.11, the first with KVM on arm64`,
    { field: 'kernel' },
  )
}
