import { randomisesTag } from '../layout/address-space.js'
import { type Geometry, geometryOf, layoutIn, type TagChoice } from '../layout/compute.js'
import { isSince, rulesOf } from '../layout/generations.js'
import { macroOf } from '../layout/macro.js'
import type { Generation, HypLayout, Machine, Proposal } from '../layout/types.js'
import { LOW_WINDOW_BITS } from '../layout/validate.js'
import { lowMask, wrap64 } from '../u64.js'

/**
 * The layouts of the March 2021 thread (docs/kernel-facts.md, 5), and `kernel`: the layout of the machine's own kernel. Three of
 * them are what mainline did at some time, vhe is the absence of a layout, the others were never merged.
 */
export type LayoutName = 'kernel' | 'half-split' | 'extended-linear' | Proposal | 'cap-51' | 'vhe'

/** What one of these layouts is. */
interface Rule {
  /** One line for people. */
  readonly summary: string
  /** The generation that computes it, or that it changes. */
  generation(own: Generation): Generation
  /** How a proposal chooses its transformation; absent where the generation's own code does. */
  tag?(scale: Scale): TagChoice
}

/** What a small model of the address space changes; `REAL` is the kernel's own scale. */
export interface Scale {
  readonly windowBits: Readonly<Record<keyof typeof LOW_WINDOW_BITS, number>>
  geometryOf(machine: Machine): Geometry
}

export const REAL: Scale = { windowBits: LOW_WINDOW_BITS, geometryOf }

/** In the order of the thread. */
const RULES: Readonly<Record<LayoutName, Rule>> = {
  kernel: { summary: "the layout of this machine's own kernel", generation: (own) => own },
  'half-split': {
    summary: 'linear memory in the half without the idmap; EL1 split 1:1 as well (up to 5.10)',
    generation: () => '5.9',
  },
  'extended-linear': {
    summary: "EL1's linear map extended, EL2's code as before (5.11 to 5.14)",
    generation: () => '5.12',
  },
  'low-window-48': {
    summary: 'idmap and private below 2^48, linear memory above (the patch of 30 March 2021, as its text says)',
    generation: () => '5.12',
    tag: lowWindow('low-window-48'),
  },
  'low-window-48-as-coded': {
    summary: 'the same patch, as its code does it: region bit 48, shifted right by tag_lsb',
    generation: () => '5.12',
    tag: lowWindowAsCoded,
  },
  'low-window-47': {
    summary: 'idmap and private below 2^47, linear memory above',
    generation: () => '5.12',
    tag: lowWindow('low-window-47'),
  },
  'overlap-top-window': {
    summary: 'linear memory from 0, the idmap in its midst, private above it',
    generation: () => '5.12',
    tag: overlapTopWindow,
  },
  'cap-51': {
    summary: 'half-split, with memory beyond 2^51 given up at boot (5.15 to today)',
    generation: (own) => (rulesOf(own).cap51 ? own : '5.15'),
  },
  vhe: { summary: 'the host itself at EL2', generation: (own) => (isSince(own, '5.12') ? own : '5.12') },
}

/**
 * Every name, in the order of the thread.
 * @example
 * LAYOUT_NAMES.includes('cap-51') // true
 */
export const LAYOUT_NAMES: readonly LayoutName[] = Object.keys(RULES) as LayoutName[]

/** One line on a layout. */
export function summaryOf(name: LayoutName): string {
  return RULES[name].summary
}

/** A layout by name on a machine. */
export interface NamedLayout {
  readonly name: LayoutName
  readonly layout: HypLayout
  readonly geometry: Geometry
  /**
   * False where the proposal changes nothing: EL1's linear map takes half of the kernel's addresses, as it does below 52
   * bits, and the layout is the classic one.
   */
  readonly applies: boolean
  /** How many bits of the tag are drawn at random. */
  readonly randomTagBits: number
}

/**
 * A layout of the thread as the machine would have it. Without a random word all random tag bits are zero, which is the draw
 * where low-window-48-as-coded collides most.
 * @param machine a checked one, without a tagVal
 * @throws HypvaError `HYPVA_MACHINE` when the kernel's own memory would not fit
 */
export function namedLayout(machine: Machine, name: LayoutName, scale: Scale = REAL): NamedLayout {
  const rule = RULES[name]
  const own = scale.geometryOf(machine)
  const generation = rule.generation(own.generation)
  const { kernel: _, physOffset: __, ...facts } = machine
  const mode = name === 'vhe' ? 'vhe' : name !== 'kernel' && machine.mode === 'vhe' ? 'nvhe' : (machine.mode ?? 'nvhe')
  const subject: Machine = { ...facts, generation, mode, ...physOffsetFor(machine, own, generation, mode, scale) }
  const geometry = scale.geometryOf(subject)
  const half = 1n << BigInt(geometry.hypVaBits - 1)
  const applies = rule.tag === undefined || geometry.linearSize > half
  const choose = applies ? rule.tag?.(scale) : undefined
  const withDraw = (random: bigint) => layoutIn({ ...subject, random }, geometry, choose)
  const layout = withDraw(machine.random ?? 0n)
  return { name, layout, geometry, applies, randomTagBits: mode === 'vhe' ? 0 : freeBits(withDraw) }
}

/** A given PHYS_OFFSET holds for kernels with the same linear map; others choose their own. */
function physOffsetFor(
  { physOffset, ...machine }: Machine,
  own: Geometry,
  generation: Generation,
  mode: Machine['mode'],
  scale: Scale,
): Pick<Machine, 'physOffset'> {
  if (physOffset === undefined) return {}
  const { kernel: _, ...facts } = machine
  const other = scale.geometryOf({ ...facts, generation, ...(mode && { mode }) })
  if (other.linearSize !== own.linearSize) return {}
  return { physOffset: wrap64(physOffset + own.physOffsetBias - other.physOffsetBias) }
}

/** Bits that differ between the two extreme draws. */
function freeBits(withDraw: (random: bigint) => HypLayout): number {
  const differing = macroOf(withDraw(lowMask(64))).tag ^ macroOf(withDraw(0n)).tag
  return differing.toString(2).replaceAll('0', '').length
}

/** The linear offset, all of its bits, plus a constant. */
function lowWindow(proposal: keyof typeof LOW_WINDOW_BITS) {
  return ({ windowBits }: Scale): TagChoice =>
    (_, { hypVaBits }) => ({ proposal, tagLsb: hypVaBits, tag: 1n << BigInt(windowBits[proposal]) })
}

/** Mask and tag as in the kernel, but the region is always that bit, which tag_lsb may shift out. */
function lowWindowAsCoded({ windowBits }: Scale): TagChoice {
  return (machine, { generation, hypVaBits }, tagLsb) => {
    const region = 1n << BigInt(windowBits['low-window-48'])
    const random = randomisesTag(generation, machine.randomizeBase ?? true)
    const drawn = random ? machine.random! & lowMask(hypVaBits - 1) : 0n
    return { proposal: 'low-window-48-as-coded', tagLsb, tagVal: (region | drawn) >> BigInt(tagLsb) }
  }
}

function overlapTopWindow(): TagChoice {
  return (_, { hypVaBits }) => ({ proposal: 'overlap-top-window', tagLsb: hypVaBits, tagVal: 0n })
}
