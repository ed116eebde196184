import { groupBy } from '../../group-by.js'
import type { Range } from '../../u64.js'
import {
  type Conflict,
  type Fact,
  type Place,
  type Provenance,
  provenanceOf,
  type Quantities,
  type Quantity,
  type Values,
  valueText,
} from '../facts.js'
import { RULES, type Rule } from './rules.js'

/** The value of a quantity, and how it is known. */
interface Settled {
  readonly fact: Fact
  /** All evidence for it. */
  readonly provenance: readonly Provenance[]
  /** A layout file is among the evidence. */
  readonly ofLayout: boolean
  /** Facts of lower priority with another value. */
  readonly overruled: readonly Fact[]
}

export interface Conclusions {
  readonly settled: ReadonlyMap<Quantity, Settled>
  readonly conflicts: readonly Conflict[]
  /** Values of all settled quantities. */
  readonly values: Values
}

/** More rounds than the longest chain of rules. */
const ROUNDS = 16

/** Draws every conclusion that the rules allow, but none from a quantity on which the evidence disagrees. */
export function conclude(facts: readonly Fact[]): Conclusions {
  let conclusions = settle(facts)
  let before = ''
  let last: Fact[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const disputed = new Set<string>(conclusions.conflicts.map(({ field }) => field))
    // A derived fact that contradicts other evidence stays as one side of the conflict.
    const standing = last.filter(({ field }) => disputed.has(field))
    const derived = [
      ...standing,
      ...RULES.flatMap((rule) => (disputed.has(rule.to) ? [] : (apply(rule, conclusions) ?? []))),
    ]
    last = derived
    conclusions = settle([...facts, ...derived])
    const now = derived.map(({ field, value, priority }) => `${field} ${valueText(value)} ${priority}`).join('\n')
    if (now === before) break
    before = now
  }
  return conclusions
}

function apply(rule: Rule, { settled, values }: Conclusions): Fact | undefined {
  if (!rule.from.every((quantity) => settled.has(quantity))) return undefined
  const inputs = [...rule.from, ...(rule.also ?? [])].flatMap((quantity) => settled.get(quantity)?.fact ?? [])
  const ancestors = ancestorsOf(inputs)
  // A quantity cannot support itself.
  if (ancestors.has(rule.to)) return undefined
  const value = rule.value(values as Quantities)
  if (value === undefined) return undefined
  const least = Math.min(...inputs.map(({ priority }) => priority))
  const priority = rule.weak ? Math.min(least, -1) : least
  return { field: rule.to, value: value as Fact['value'], ...joined(inputs, rule.text), priority, ancestors }
}

/** The fields of some facts, and every quantity that these rest on. */
export function ancestorsOf(facts: readonly Fact[]): Set<Quantity> {
  return new Set(facts.flatMap(({ field, ancestors }) => [field, ...(ancestors ?? [])]))
}

/** The provenance of a conclusion from several facts: every place they rest on, by file. */
export function joined(
  facts: readonly (Place & { readonly roots?: readonly Place[] })[],
  rule: string,
): Provenance & { readonly roots: readonly Place[] } {
  const roots: Place[] = []
  for (const { file, where, roots: own } of facts) {
    for (const root of own ?? [{ file, where }]) {
      if (!roots.some((known) => known.file === root.file && known.where === root.where)) roots.push(root)
    }
  }
  const files = groupBy(roots, ({ file }) => file)
  const places = [...files].map(([file, own]) => {
    const where = own.map(({ where }) => where).join('; ')
    return files.size > 1 ? `${file}: ${where}` : where
  })
  return { file: [...files.keys()].join(', '), where: places.join(', '), rule, roots }
}

function settle(facts: readonly Fact[]): Conclusions {
  const settled = new Map<Quantity, Settled>()
  const conflicts: Conflict[] = []
  const values: Record<string, unknown> = {}
  const byField = groupBy(facts, ({ field }) => field)
  for (const [field, all] of byField) {
    const top = all.reduce((most, { priority }) => Math.max(most, priority), Number.NEGATIVE_INFINITY)
    const strongest = all.filter(({ priority }) => priority === top)
    const sides = [...groupBy(strongest, meaningOf).values()]
    if (sides.length > 1) {
      // Guesses that disagree cancel out.
      if (top < 0) continue
      conflicts.push({
        field,
        sides: sides.map((side) => ({ value: side[0]!.value, provenance: side.map(provenanceOf) })),
      })
      continue
    }
    const fact = sides[0]![0]!
    const agrees = (other: Fact) => meaningOf(other) === meaningOf(fact)
    const agreeing = all.filter(agrees)
    settled.set(field, {
      fact,
      provenance: agreeing.map(provenanceOf),
      ofLayout: agreeing.some((other) => other.ofLayout === true),
      overruled: all.filter((other) => !agrees(other) && other.priority >= 0),
    })
    values[field] = fact.value
  }
  return { settled, conflicts, values: values as Values }
}

const MEANINGS = new WeakMap<Fact, string>()

/** Text that is equal for facts of one field that agree. Lists of DRAM agree if they start and end at the same addresses: sources differ in how they list holes. */
function meaningOf(fact: Fact): string {
  let meaning = MEANINGS.get(fact)
  if (meaning === undefined) {
    const ranges = fact.field === 'dram' ? (fact.value as readonly Range[]) : undefined
    meaning = valueText(ranges === undefined ? fact.value : [ranges[0]?.start, ranges.at(-1)?.end])
    MEANINGS.set(fact, meaning)
  }
  return meaning
}
