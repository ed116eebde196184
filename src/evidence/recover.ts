import { HOW_TO_LEARN } from '../layout/fields.js'
import { IMPOSSIBLE, type Impossibility } from '../layout/impossible.js'
import { checkLayout, LAYOUT_FIELDS } from '../layout/json.js'
import type { HypLayout, Machine } from '../layout/types.js'
import type { ByteSource } from '../source.js'
import { lowMask } from '../u64.js'
import { type Fact, type Findings, LAYOUT_FILE, type Note, type Provenance, type Quantity, type Tag } from './facts.js'
import { type Conclusions, type Conflict, conclude, type Values } from './infer/rules.js'
import { factsOfPairs, NO_TAG, solveTag } from './infer/tag.js'
import type { EvidenceKind } from './kinds.js'
import { readEvidence } from './read.js'

export interface RecoverOptions {
  /** Names of sources to believe where others disagree. */
  readonly prefer?: readonly string[]
  /** Fields that a person says, over all evidence. */
  readonly given?: Partial<HypLayout>
  /** Scan all of a core, not only until its text has settled the tag. */
  readonly exhaustive?: boolean
}

/** What the evidence amounts to. */
export interface Recovery extends RecoveredFields {
  /** What each file turned out to be. */
  readonly files: readonly { readonly file: string; readonly kinds: readonly EvidenceKind[] }[]
}

/** What follows from all that the evidence says. */
export interface RecoveredFields {
  /** Every field that is known; without tagLsb and tagVal it is no layout to translate with yet. */
  readonly layout: Partial<HypLayout>
  /** How each field of `layout` is known. */
  readonly provenance: Readonly<Partial<Record<keyof HypLayout, readonly Provenance[]>>>
  readonly conflicts: readonly Conflict[]
  /** Fields that are not known, with what would tell them. */
  readonly unknown: Readonly<Partial<Record<keyof HypLayout, string>>>
  /** All layouts that fit, when several do. */
  readonly candidates: readonly HypLayout[]
  readonly notes: readonly Note[]
  /** uname -r, when known. */
  readonly release: string | undefined
}

/**
 * Recovers a layout from evidence: raw memory, ELF cores, logs and panics, /proc/iomem, vmcoreinfo, symbol tables, known
 * pairs, a debugger's output, layouts. The content of each tells what it is.
 * @example recoverLayout([bytesSource('panic.txt', text), bytesSource('text.bin', bytes)]).layout.tagVal
 * @throws whatever a source throws when its first bytes cannot be read
 */
export function recoverLayout(evidence: readonly ByteSource[], options: RecoverOptions = {}): Recovery {
  const { prefer = [], given, exhaustive = false } = options
  const read = readEvidence(evidence, new Set(prefer), exhaustive)
  const files = read.map(({ source, kinds }) => ({ file: source.name, kinds }))
  return {
    ...recoverFromFindings(
      read.map(({ findings }) => findings),
      given,
    ),
    files,
  }
}

/** Recovers a layout from what has been read of the evidence, one entry a file. */
export function recoverFromFindings(files: readonly Findings[], given: Partial<HypLayout> = {}): RecoveredFields {
  const facts = files.flatMap(({ facts }) => facts)
  for (const field of LAYOUT_FIELDS) {
    const value = given[field]
    if (value === undefined) continue
    facts.push({ field, value, file: 'command line', where: field, rule: 'given', priority: 2 } as Fact)
  }
  const pairs = files.flatMap(({ pairs }) => pairs)
  const addresses = files.flatMap(({ hypAddresses }) => hypAddresses)
  const rivals = files.flatMap(({ rivals }) => rivals)
  const notes = files.flatMap(({ notes }) => notes)

  let conclusions = conclude(withTag(facts))
  // Pairs give offsets once the image or the linear map is known, which give more; the tag then settles widths.
  conclusions = conclude(withTag([...facts, ...factsOfPairs(pairs, conclusions)]))
  const all = [...facts, ...factsOfPairs(pairs, conclusions)]
  const solution = addsTag(conclusions) ? NO_TAG : solveTag(conclusions, pairs, addresses)
  if (solution.facts.length > 0) conclusions = conclude(withTag([...all, ...solution.facts]))
  else conclusions = conclude(withTag(all))
  // The tag in place is shown by its two parts.
  const conflicts: Conflict[] = [...conclusions.conflicts, ...solution.conflicts].filter(
    ({ field }, _, all) =>
      field !== 'tag' || !all.some((other) => other.field === 'tagVal' || other.field === 'tagLsb'),
  )
  const vhe = vheAgainstTag(conclusions, facts, notes)
  if (typeof vhe === 'object') conflicts.push(vhe)
  const disputed = new Set(conflicts.map(({ field }) => field))
  if (vhe === 'wrong') disputed.add('mode')
  // Mask and tag stand or fall together.
  if (disputed.has('tagLsb') || disputed.has('tagVal')) for (const field of MASK_AND_TAG) disputed.add(field)
  conflicts.push(...impossibilities(conclusions, disputed, notes))
  const { layout, provenance } = assemble(conclusions, disputed)
  const tags = rivals.length > 0 && disputed.has('tagVal') ? rivals : solution.fits.length > 1 ? solution.fits : []
  const candidates = tags.flatMap((tag) => candidate(layout, tag) ?? [])
  if (conflicts.length === 0 && layout.tagLsb !== undefined && (layout.tagVal ?? layout.tag) !== undefined) {
    const wrong = contradiction(layout)
    if (wrong !== undefined) {
      const { field, sides } = wrong
      conflicts.push({ field, sides: sides.map(({ value }) => ({ value, provenance: involved(value, provenance) })) })
    }
  }
  for (const [field, { fact, overruled }] of conclusions.settled) {
    for (const other of overruled) {
      if (fact.priority <= 0) continue
      notes.push({ file: other.file, text: `${field} of ${other.where} (${other.rule}) is overruled by ${fact.file}` })
    }
  }
  return {
    layout,
    provenance,
    conflicts,
    unknown: unknownOf(layout, disputed, solution.hint),
    candidates,
    notes,
    release: conclusions.values.release,
  }
}

/** The fields that a machine and a layout have in common. */
const MACHINE_FIELDS = [
  ...(['generation', 'mode', 'pageSize', 'vaBits', 'vaBitsActual', 'dram', 'idmap', 'physOffset'] as const),
  ...(['image', 'kimageVoffset', 'kaslrOffset', 'tagVal'] as const),
]

/** The machine that a recovered layout describes, and the fields it still lacks. */
export function machineOf({ layout }: Recovery): { machine: Partial<Machine>; missing: (keyof Machine)[] } {
  const machine = Object.fromEntries(
    MACHINE_FIELDS.flatMap((field) => (layout[field] === undefined ? [] : [[field, layout[field]]])),
  ) as Partial<Machine>
  const required = ['generation', 'pageSize', 'vaBits', 'dram', 'idmap'] as const
  const missing = required.filter((field) => machine[field] === undefined)
  return { machine, missing }
}

/** The tag in place is a quantity of its own, on which widths depend. */
function withTag(facts: readonly Fact[]): Fact[] {
  const tags: Fact[] = []
  const lsbs = facts.filter((fact): fact is Fact<'tagLsb'> => fact.field === 'tagLsb')
  for (const fact of facts) {
    if (fact.field !== 'tagVal') continue
    const lsb = lsbs.find(({ file }) => file === fact.file) ?? lsbs[0]
    if (lsb === undefined || lsbs.some(({ value, priority }) => value !== lsb.value && priority >= lsb.priority))
      continue
    const ancestors = new Set([
      ...(fact.ancestors ?? []),
      ...(lsb.ancestors ?? []),
      'tagVal' as const,
      'tagLsb' as const,
    ])
    tags.push({ ...fact, field: 'tag', value: (fact.value as bigint) << BigInt(lsb.value), ancestors })
  }
  return [...facts, ...tags]
}

/**
 * A host with VHE has no tag: memory that shows one is not of the boot whose log says VHE. The conflict, or `wrong` when the tag's
 * evidence is the stronger; where VHE's is, a note.
 */
function vheAgainstTag(
  { settled }: Conclusions,
  facts: readonly Fact[],
  notes: Note[],
): Conflict | 'wrong' | undefined {
  const mode = settled.get('mode')
  if (mode?.fact.value !== 'vhe') return undefined
  const tags = facts.filter(({ field, priority }) => ['tagLsb', 'tagVal', 'tag'].includes(field) && priority >= 0)
  if (tags.length === 0) return undefined
  const strongest = Math.max(...tags.map(({ priority }) => priority))
  if (strongest < mode.fact.priority) {
    for (const file of new Set(tags.map((tag) => tag.file))) {
      const { where, rule } = tags.find((tag) => tag.file === file)!
      notes.push({ file, text: `the tag of ${where} (${rule}) is overruled by mode vhe of ${mode.fact.file}` })
    }
    return undefined
  }
  if (strongest > mode.fact.priority) {
    const { file, where, rule } = mode.fact
    const by = tags.find(({ priority }) => priority === strongest)!.file
    notes.push({ file, text: `mode of ${where} (${rule}) is overruled by the tag of ${by}` })
    return 'wrong'
  }
  const provenance = tags.map(({ file, where, rule }) => ({ file, where, rule }))
  return {
    field: 'mode',
    sides: [
      { value: 'vhe', provenance: mode.provenance },
      { value: 'one with a tag: nvhe, hvhe or protected', provenance },
    ],
  }
}

/**
 * What the evidence agrees on and yet no machine has. The stronger evidence is believed; where all is as strong, that is a
 * conflict, and none of the fields is known. Adds to `disputed` the fields that are not.
 */
function impossibilities(conclusions: Conclusions, disputed: Set<string>, notes: Note[]): Conflict[] {
  const { settled } = conclusions
  const priorityOf = (field: Quantity) => settled.get(field)!.fact.priority
  const conflicts: Conflict[] = []
  for (const rule of IMPOSSIBLE) {
    const found = rule(assemble(conclusions, disputed).layout)
    if (found === undefined) continue
    const fields = [found.field, ...found.against].sort((a, b) => priorityOf(a) - priorityOf(b))
    const weakest = found.alone ? found.field : fields[0]!
    const strongest = fields.at(-1)!
    const wrong = found.alone ? [weakest] : fields.filter((field) => priorityOf(field) === priorityOf(weakest))
    for (const field of wrong) disputed.add(field)
    // Guesses give way, or cancel out, without a word.
    if (priorityOf(weakest) < 0) continue
    if (priorityOf(weakest) === priorityOf(strongest)) conflicts.push(conflictOf(found, settled))
    else notes.push(...wrong.map((field) => overruledBy(field, strongest, settled)))
  }
  // A tag says nothing without its mask.
  if (settled.has('tagLsb') && assemble(conclusions, disputed).layout.tagLsb === undefined) {
    for (const field of MASK_AND_TAG) disputed.add(field)
  }
  return conflicts
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

function overruledBy(field: Quantity, by: Quantity, settled: Conclusions['settled']): Note {
  const { file, where, rule } = settled.get(field)!.fact
  return { file, text: `${field} of ${where} (${rule}) is overruled by ${by} of ${settled.get(by)!.fact.file}` }
}

const MASK_AND_TAG = ['tagLsb', 'tagVal', 'tag', 'vaMask']
const TAG = [...MASK_AND_TAG, 'hypPhysvirtOffset']

function assemble(
  { values, settled }: Conclusions,
  disputed: ReadonlySet<string>,
): Pick<Recovery, 'layout' | 'provenance'> {
  const layout: Record<string, unknown> = {}
  const provenance: Record<string, readonly Provenance[]> = {}
  const withoutTag = values.mode === 'vhe' && !disputed.has('mode')
  for (const field of LAYOUT_FIELDS) {
    const known = settled.get(field)
    if (known === undefined || disputed.has(field)) continue
    // What rests on something disputed is not known either.
    if ([...(known.fact.ancestors ?? [])].some((ancestor) => disputed.has(ancestor))) continue
    if (withoutTag && TAG.includes(field)) continue
    if (field === 'tag' && (layout.tagVal !== undefined || !saysTag(known.provenance))) continue
    layout[field] = (values as Values)[field]
    provenance[field] = known.provenance
  }
  return { layout, provenance }
}

/** A layout has a `tag` only where it is no tag_val in its place, and that only a layout says. */
function saysTag(provenance: readonly Provenance[]): boolean {
  return provenance.some(({ rule }) => rule === LAYOUT_FILE)
}

/** Whether the tag is one that a proposal adds to the linear offset, and so none that tag_lsb and tag_val make. */
function addsTag({ settled, values }: Conclusions): boolean {
  const known = settled.get('tag')
  if (known === undefined || values.tagLsb === undefined) return false
  return saysTag(known.provenance) && (values.tag! & lowMask(values.tagLsb)) !== 0n
}

/** A layout with one of several tags; undefined when it contradicts what else is known. */
function candidate(known: Partial<HypLayout>, { tagLsb, tagVal }: Tag): HypLayout | undefined {
  const layout = { ...known, tagLsb, tagVal, vaMask: lowMask(tagLsb) }
  return contradiction(layout) === undefined ? ordered(layout) : undefined
}

function ordered(layout: HypLayout): HypLayout {
  return Object.fromEntries(
    LAYOUT_FIELDS.flatMap((field) => (layout[field] === undefined ? [] : [[field, layout[field]]])),
  )
}

/** What makes a complete layout impossible: its own checks, which relate fields to each other. */
function contradiction(layout: HypLayout): Conflict | undefined {
  try {
    checkLayout(layout)
    return undefined
  } catch (error) {
    const message = (error as Error).message
    const field = /^layout\.(\w+)/.exec(message)?.[1] ?? 'layout'
    return { field, sides: [{ value: message, provenance: [] }] }
  }
}

/** Where the fields come from that a check's message names. */
function involved(message: unknown, provenance: Recovery['provenance']): Provenance[] {
  const named = LAYOUT_FIELDS.filter((field) => new RegExp(`\\b${field}\\b`).test(String(message)))
  return named.flatMap((field) => provenance[field]?.map((from) => ({ ...from, rule: `${field}: ${from.rule}` })) ?? [])
}

function unknownOf(
  layout: Partial<HypLayout>,
  disputed: ReadonlySet<string>,
  hint: string | undefined,
): Recovery['unknown'] {
  const unknown: Record<string, string> = {}
  for (const field of LAYOUT_FIELDS) {
    if (layout[field] !== undefined) continue
    if (layout.mode === 'vhe' && TAG.includes(field)) continue
    // The kernel's layouts have neither.
    if (field === 'proposal' || field === 'tag') continue
    if (field === 'tagVal' && layout.tag !== undefined) continue
    if (disputed.has(field)) unknown[field] = 'the evidence disagrees: --prefer FILE, or say it'
    else if (field === 'vaMask') unknown[field] = 'it follows from tagLsb'
    else if (hint !== undefined && (field === 'tagLsb' || field === 'tagVal')) unknown[field] = hint
    else unknown[field] = HOW_TO_LEARN[field] ?? ''
  }
  return unknown
}
