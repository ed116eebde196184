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

/** What is settled about a quantity. */
interface Settled {
  readonly fact: Fact
  /** Everything that says so. */
  readonly provenance: readonly Provenance[]
  /** Whether a layout says so. */
  readonly ofLayout: boolean
  /** Facts of lower priority that say otherwise. */
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

/** Draws every conclusion the rules allow. Nothing is concluded from a quantity that evidence disagrees on. */
export function conclude(facts: readonly Fact[]): Conclusions {
  let conclusions = settle(facts)
  let before = ''
  let last: Fact[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const disputed = new Set<string>(conclusions.conflicts.map(({ field }) => field))
    // A derived fact that contradicts other evidence stays, though nothing more is concluded from either.
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
  const inputs: Settled[] = []
  for (const quantity of rule.from) {
    const input = settled.get(quantity)
    if (input === undefined) return undefined
    inputs.push(input)
  }
  for (const quantity of rule.also ?? []) {
    const input = settled.get(quantity)
    if (input !== undefined) inputs.push(input)
  }
  // A quantity cannot support itself.
  const ancestors = new Set<Quantity>(inputs.flatMap(({ fact }) => [fact.field, ...(fact.ancestors ?? [])]))
  if (ancestors.has(rule.to)) return undefined
  const value = rule.value(values as Quantities)
  if (value === undefined) return undefined
  const least = Math.min(...inputs.map(({ fact }) => fact.priority))
  return {
    field: rule.to,
    value: value as Fact['value'],
    ...joined(
      inputs.map(({ fact }) => fact),
      rule.text,
    ),
    priority: rule.weak ? Math.min(least, -1) : least,
    ancestors,
  }
}

/** Provenance of what follows from several facts: every place they rest on, by file. */
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
    const sides = sidesOf(all.filter(({ priority }) => priority === top))
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
    const agreeing = all.filter((other) => same(other, fact))
    settled.set(field, {
      fact,
      provenance: agreeing.map(provenanceOf),
      ofLayout: agreeing.some((other) => other.ofLayout === true),
      overruled: all.filter((other) => !same(other, fact) && other.priority >= 0),
    })
    values[field] = fact.value
  }
  return { settled, conflicts, values: values as Values }
}

function sidesOf(facts: readonly Fact[]): Fact[][] {
  return [...groupBy(facts, meaningOf).values()]
}

/** Whether two facts of one field agree. */
function same(a: Fact, b: Fact): boolean {
  return meaningOf(a) === meaningOf(b)
}

const MEANINGS = new WeakMap<Fact, string>()

/** What facts of one field that agree have in common. Lists of DRAM agree when they end at the same addresses: each has its own way with holes. */
function meaningOf(fact: Fact): string {
  let meaning = MEANINGS.get(fact)
  if (meaning === undefined) {
    const ranges = fact.field === 'dram' ? (fact.value as readonly Range[]) : undefined
    meaning = valueText(ranges === undefined ? fact.value : [ranges[0]?.start, ranges.at(-1)?.end])
    MEANINGS.set(fact, meaning)
  }
  return meaning
}

/** Map.groupBy, which Node 20 does not have. */
export function groupBy<T, K>(items: readonly T[], key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const name = key(item)
    const group = groups.get(name)
    if (group === undefined) groups.set(name, [item])
    else group.push(item)
  }
  return groups
}
