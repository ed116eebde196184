import { HypvaError } from '../errors.js'
import { computeLayout } from '../layout/compute.js'
import { checkMachine } from '../layout/json.js'
import type { Machine } from '../layout/types.js'
import { formatU64 } from '../u64.js'
import { LAYOUT_NAMES, type LayoutName, namedLayout, REAL, summaryOf } from './layouts.js'
import { type Restriction, restrictionsFor } from './restrictions.js'
import { type Verdict, verdictOf } from './verdict.js'

/** A layout's verdict with what would make it sound. */
export interface ProposalVerdict extends Verdict {
  /** What the layout is, one line. */
  readonly summary: string
  /** Each of them alone makes it sound; empty for a sound one, and where nothing does. */
  readonly restrictions: readonly Restriction[]
}

/**
 * What every layout of the March 2021 thread does to a machine (KERNEL-FACTS section 5): where idmap, private range and
 * linear memory lie, what is mapped, what collides, what the kernel notices, what would help. `kernel`, the first, is the
 * layout of the machine's own kernel.
 *
 * Random tag bits are the machine's (`random`, `tagVal`), or zero.
 * @param names the layouts wanted; all of them when absent
 * @throws HypvaError `HYPVA_MACHINE` for a bad description; the idmap page must lie in DRAM here, since what is asked is
 *   what else lies there
 */
export function checkProposals(machine: Machine, names: readonly LayoutName[] = LAYOUT_NAMES): ProposalVerdict[] {
  checkPlacedMachine(machine)
  return names.map((name) => {
    const verdict = verdictOf(machine, namedLayout(machine, name))
    return { ...verdict, summary: summaryOf(name), restrictions: restrictionsFor(machine, verdict, REAL) }
  })
}

/** A machine whose idmap page lies in DRAM, and whose tag is one that its kernel can have. */
export function checkPlacedMachine(machine: Machine): void {
  checkMachine(machine)
  const { idmap, pageSize, dram, random, tagVal } = machine
  const end = idmap + BigInt(pageSize)
  if (!dram.some((bank) => bank.start <= idmap && end <= bank.end)) {
    const banks = dram.map((bank) => `${formatU64(bank.start)}–${formatU64(bank.end - 1n)}`).join(', ')
    throw new HypvaError('HYPVA_MACHINE', `machine.idmap: the page at ${formatU64(idmap)} is outside DRAM (${banks})`)
  }
  computeLayout(tagVal === undefined && random === undefined ? { ...machine, random: 0n } : machine)
}
