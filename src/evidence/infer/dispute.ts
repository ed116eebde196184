import type { HypvaError } from '../../errors.js'
import { LAYOUT_FIELDS } from '../../layout/fields.js'
import { IMPOSSIBLE, type Impossibility } from '../../layout/impossible.js'
import { checkLayout } from '../../layout/json.js'
import type { HypLayout } from '../../layout/types.js'
import { lowMask } from '../../u64.js'
import { type Conflict, type Fact, type Note, provenanceOf, type Quantity, type Tag } from '../facts.js'
import { type FieldProvenance, fieldsOf, MASK_AND_TAG } from './assemble.js'
import type { Conclusions } from './conclude.js'
import type { TagSolution } from './tag.js'

/** What the evidence disagrees on. */
interface Disputes {
  /** Quantities that are not known for that reason. */
  readonly fields: Set<string>
  readonly conflicts: Conflict[]
  /** Evidence that gave way to stronger evidence. */
  readonly notes: Note[]
}

/** Collects what the evidence disagrees on, and what it agrees on though no machine is like that. */
export function disputesOf(conclusions: Conclusions, solution: TagSolution, facts: readonly Fact[]): Disputes {
  const found = [...conclusions.conflicts, ...solution.conflicts]
  // A conflict about one of the tag's two parts is one about the tag in place, too: it is reported once.
  const partOfTag = found.some(({ field }) => field === 'tagVal' || field === 'tagLsb')
  const conflicts = partOfTag ? found.filter(({ field }) => field !== 'tag') : found
  const disputes = { fields: new Set(conflicts.map(({ field }) => field)), conflicts, notes: [] }
  disputeVhe(conclusions, facts, disputes)
  const { fields } = disputes
  if (fields.has('tagLsb') || fields.has('tagVal')) for (const field of MASK_AND_TAG) fields.add(field)
  disputeImpossible(conclusions, disputes)
  return disputes
}

/**
 * A host with VHE has no tag: memory that shows one is not of the boot whose log says VHE. The stronger evidence is believed.
 */
function disputeVhe({ settled }: Conclusions, facts: readonly Fact[], { fields, conflicts, notes }: Disputes): void {
  const mode = settled.get('mode')
  if (mode?.fact.value !== 'vhe') return
  const tags = facts.filter(({ field, priority }) => ['tagLsb', 'tagVal', 'tag'].includes(field) && priority >= 0)
  if (tags.length === 0) return
  const strongest = Math.max(...tags.map(({ priority }) => priority))
  if (strongest < mode.fact.priority) {
    for (const file of new Set(tags.map((tag) => tag.file))) {
      notes.push(overruled('the tag', tags.find((tag) => tag.file === file)!, `mode vhe of ${mode.fact.file}`))
    }
    return
  }
  fields.add('mode')
  if (strongest > mode.fact.priority) {
    const { file } = tags.find(({ priority }) => priority === strongest)!
    notes.push(overruled('mode', mode.fact, `the tag of ${file}`))
    return
  }
  conflicts.push({
    field: 'mode',
    sides: [
      { value: 'vhe', provenance: mode.provenance },
      { value: 'one with a tag: nvhe, hvhe or protected', provenance: tags.map(provenanceOf) },
    ],
  })
}

/**
 * What the evidence agrees on and yet no machine has. The stronger evidence is believed; where all is equally strong, that is a
 * conflict, and none of the fields is known.
 */
function disputeImpossible(conclusions: Conclusions, { fields: disputed, conflicts, notes }: Disputes): void {
  const { settled } = conclusions
  const priorityOf = (field: Quantity) => settled.get(field)!.fact.priority
  for (const rule of IMPOSSIBLE) {
    const found = rule(fieldsOf(conclusions, disputed).layout)
    if (found === undefined) continue
    const fields = [found.field, ...found.against].sort((a, b) => priorityOf(a) - priorityOf(b))
    const weakest = found.alone ? found.field : fields[0]!
    const strongest = fields.at(-1)!
    const wrong = found.alone ? [weakest] : fields.filter((field) => priorityOf(field) === priorityOf(weakest))
    for (const field of wrong) disputed.add(field)
    // Guesses give way, or cancel out, without a word.
    if (priorityOf(weakest) < 0) continue
    if (priorityOf(weakest) === priorityOf(strongest)) {
      conflicts.push(conflictOf(found, settled))
      continue
    }
    const by = `${strongest} of ${settled.get(strongest)!.fact.file}`
    notes.push(...wrong.map((field) => overruled(field, settled.get(field)!.fact, by)))
  }
  // A tag says nothing without its mask.
  if (settled.has('tagLsb') && fieldsOf(conclusions, disputed).layout.tagLsb === undefined) {
    for (const field of MASK_AND_TAG) disputed.add(field)
  }
}

function conflictOf({ field, value, against, wanted }: Impossibility, settled: Conclusions['settled']): Conflict {
  const others = against.flatMap((other) => settled.get(other)!.provenance)
  return {
    field,
    sides: [
      { value, provenance: settled.get(field)!.provenance },
      { value: wanted, provenance: others },
    ],
  }
}

function overruled(what: string, { file, where, rule }: Fact, by: string): Note {
  return { file, text: `${what} of ${where} (${rule}) is overruled by ${by}` }
}

/** Notes about facts that gave way to preferred or given ones. */
export function overruledNotes({ settled }: Conclusions): Note[] {
  return [...settled].flatMap(([field, { fact, overruled: weaker }]) =>
    fact.priority <= 0 ? [] : weaker.map((other) => overruled(field, other, fact.file)),
  )
}

/** The layouts with each of several tags, without those that contradict what else is known. */
export function candidatesOf(known: Partial<HypLayout>, tags: readonly Tag[]): HypLayout[] {
  return tags.flatMap(({ tagLsb, tagVal }) => {
    const layout: HypLayout = { ...known, tagLsb, tagVal, vaMask: lowMask(tagLsb) }
    return contradictionIn(layout) === undefined ? [ordered(layout)] : []
  })
}

function ordered(layout: HypLayout): HypLayout {
  return Object.fromEntries(
    LAYOUT_FIELDS.flatMap((field) => (layout[field] === undefined ? [] : [[field, layout[field]]])),
  )
}

/** The conflict, if any, that the layout's own checks find between the fields of a layout that can translate. */
export function checkTogether(layout: Partial<HypLayout>, provenance: FieldProvenance): Conflict[] {
  if (layout.tagLsb === undefined || (layout.tagVal ?? layout.tag) === undefined) return []
  const error = contradictionIn(layout)
  if (error === undefined) return []
  const { message, field = 'layout', against = [] } = error
  const involved = LAYOUT_FIELDS.filter((other) => other === field || against.includes(other))
  const from = involved.flatMap((other) =>
    (provenance[other] ?? []).map((known) => ({ ...known, rule: `${other}: ${known.rule}` })),
  )
  return [{ field, sides: [{ value: message, provenance: from }] }]
}

/** What the layout's own checks say against it. */
function contradictionIn(layout: HypLayout): HypvaError | undefined {
  try {
    checkLayout(layout)
    return undefined
  } catch (error) {
    return error as HypvaError
  }
}
