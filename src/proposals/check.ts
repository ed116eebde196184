import { computeLayout } from '../layout/compute.js'
import { macroOf } from '../layout/macro.js'
import type { Machine } from '../layout/types.js'
import { machineOf } from '../layout/validate.js'
import { LAYOUT_NAMES, type LayoutName, namedLayout, REAL, summaryOf } from './layouts.js'
import { type Restriction, restrictionsFor } from './restrictions.js'
import { type Verdict, verdictOf } from './verdict.js'

/** A layout's verdict with the restrictions that would make it sound. */
export interface ProposalVerdict extends Verdict {
  /** One line about the layout. */
  readonly summary: string
  /** The tag has random bits that the machine does not give: hypva takes them as 0. */
  readonly randomBitsAssumed: boolean
  /** Each of them alone makes it sound; empty for a sound one, and where nothing does. */
  readonly restrictions: readonly Restriction[]
}

/**
 * The verdict on every layout of the March 2021 thread for a machine (docs/kernel-facts.md, 5): where idmap, private range
 * and linear memory lie, which memory EL2 maps, which mappings collide, whether the kernel notices, which restriction would
 * help. `kernel`, the first, is the layout of the machine's own kernel.
 *
 * Random tag bits are the machine's (`random`, `tagVal`), or zero.
 * @param names the layouts wanted; all of them when absent
 * @throws HypvaError `HYPVA_MACHINE` for a bad description
 * @example
 * checkProposals(machine52, ['low-window-48'])[0].missing // { start: 0xf000000000000n, end: 0xf800000000000n }
 */
export function checkProposals(machine: Machine, names: readonly LayoutName[] = LAYOUT_NAMES): ProposalVerdict[] {
  const subject = placedMachine(machine)
  const drawn = machine.random !== undefined || machine.tagVal !== undefined
  return names.map((name) => {
    const verdict = verdictOf(subject, namedLayout(subject, name))
    const randomBitsAssumed = !drawn && verdict.randomTagBits > 0
    return {
      ...verdict,
      summary: summaryOf(name),
      randomBitsAssumed,
      restrictions: restrictionsFor(subject, verdict, REAL),
    }
  })
}

/**
 * A checked machine, with the draw of its kernel as a random word: its tag_val holds for one tag_lsb only.
 */
export function placedMachine(machine: Machine): Machine {
  machineOf(machine, 'bigint')
  const { tagVal, random = 0n, ...facts } = machine
  // Whether the tag is one that the kernel can have is its own algorithm's to say.
  const own = computeLayout(tagVal === undefined ? { ...facts, random } : machine)
  return { ...facts, random: machine.random ?? (tagVal === undefined ? 0n : macroOf(own).tag) }
}
