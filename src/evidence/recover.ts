import { FIELDS, LAYOUT_FIELDS } from '../layout/fields.js'
import type { HypLayout, Machine } from '../layout/types.js'
import type { ByteSource } from '../source.js'
import { type Conflict, type Fact, FileFindings, type Note, type Provenance, type Tag } from './facts.js'
import { addsTag, fieldsOf, unknownOf } from './infer/assemble.js'
import { conclude } from './infer/conclude.js'
import { candidatesOf, checkTogether, disputesOf, overruledNotes } from './infer/dispute.js'
import { factsOfPairs, NO_TAG, solveTag, withTag } from './infer/tag.js'
import type { EvidenceKind } from './kinds.js'
import { readEvidence } from './read.js'

/** Options of `recoverLayout`. */
export interface RecoverOptions {
  /** Names of sources to believe where others disagree. */
  readonly prefer?: readonly string[]
  /** Fields whose values are known: they override all evidence. */
  readonly given?: Partial<HypLayout>
  /** What reports call the source of the given fields; `given fields` by default. */
  readonly givenBy?: string
  /** Scan all of a core, not only until its text has settled the tag. */
  readonly exhaustive?: boolean
}

/** What hypva recovers from the evidence. */
export interface Recovery extends Omit<RecoveredFields, 'tags'> {
  /** All layouts that fit, when several do. */
  readonly candidates: readonly HypLayout[]
  /** What each file turned out to be. */
  readonly files: readonly { readonly file: string; readonly kinds: readonly EvidenceKind[] }[]
}

/** What follows from all evidence together. */
interface RecoveredFields {
  /** Every field that is known; without tagLsb and tagVal it is no layout to translate with yet. */
  readonly layout: Partial<HypLayout>
  /** How each field of `layout` is known. */
  readonly provenance: Readonly<Partial<Record<keyof HypLayout, readonly Provenance[]>>>
  readonly conflicts: readonly Conflict[]
  /** Fields that are not known, each with what would tell it. */
  readonly unknown: Readonly<Partial<Record<keyof HypLayout, string>>>
  /** Those of the unknown fields on which the evidence disagrees. */
  readonly disputed: readonly (keyof HypLayout)[]
  /** All tags that fit, when several do. */
  readonly tags: readonly Tag[]
  readonly notes: readonly Note[]
  /** uname -r, when known. */
  readonly release: string | undefined
}

/**
 * Recovers a layout from evidence: raw memory, ELF cores, logs and panics, /proc/iomem, vmcoreinfo, symbol tables, known
 * pairs, a debugger's output, layouts. The content of each tells what it is.
 * @throws whatever a source throws when its first bytes cannot be read
 * @example
 * const found = recoverLayout([bytesSource('known.json', layoutText)])
 * found.layout.tagVal // 0x11367n
 */
export function recoverLayout(evidence: readonly ByteSource[], options: RecoverOptions = {}): Recovery {
  const { prefer = [], given = {}, givenBy = 'given fields', exhaustive = false } = options
  const read = readEvidence(evidence, new Set(prefer), exhaustive)
  const files = read.map(({ source, kinds }) => ({ file: source.name, kinds }))
  const ofCaller = new FileFindings(givenBy, 2)
  ofCaller.sayLayout(given, 'given')
  const { tags, ...fields } = recoverFromFindings([...read.map(({ findings }) => findings), ofCaller])
  return { ...fields, candidates: candidatesOf(fields.layout, tags), files }
}

/** Recovers a layout from the findings of each file. */
export function recoverFromFindings(files: readonly FileFindings[]): RecoveredFields {
  const facts = files.flatMap(({ facts }) => facts)
  const rivals = files.flatMap(({ rivals }) => rivals)
  const { conclusions, solution } = solve(facts, files)
  const disputes = disputesOf(conclusions, solution, facts)
  const { layout, provenance } = fieldsOf(conclusions, disputes.fields)
  // A single tag that fits leaves no choice.
  const fits = solution.fits.length > 1 ? solution.fits : []
  const tags = rivals.length > 0 && disputes.fields.has('tagVal') ? rivals : fits
  return {
    layout,
    provenance,
    conflicts: disputes.conflicts.length > 0 ? disputes.conflicts : checkTogether(layout, provenance),
    ...unknownOf(layout, disputes.fields, solution.hint),
    tags,
    notes: [...files.flatMap(({ notes }) => notes), ...disputes.notes, ...overruledNotes(conclusions)],
    release: conclusions.values.release,
  }
}

/** Concludes from the facts, the pairs and the hyp addresses. */
function solve(facts: readonly Fact[], files: readonly FileFindings[]) {
  const pairs = files.flatMap(({ pairs }) => pairs)
  const addresses = files.flatMap(({ hypAddresses }) => hypAddresses)
  // Once the image or the linear map is known, pairs give offsets, and those lead to further conclusions.
  const first = conclude(withTag(facts))
  const second = conclude(withTag([...facts, ...factsOfPairs(pairs, first)]))
  const all = [...facts, ...factsOfPairs(pairs, second)]
  const solution = addsTag(second) ? NO_TAG : solveTag(second, pairs, addresses)
  // The tag settles widths.
  return { conclusions: conclude(withTag([...all, ...solution.facts])), solution }
}

/** The machine that a recovered layout describes, and the fields it still lacks. */
export function machineOf({ layout }: Recovery): { machine: Partial<Machine>; missing: (keyof HypLayout)[] } {
  const common = LAYOUT_FIELDS.filter((field) => FIELDS[field].machine !== undefined)
  const machine = Object.fromEntries(
    common.flatMap((field) => (layout[field] === undefined ? [] : [[field, layout[field]]])),
  )
  // The generation stands for the kernel version, of which a machine needs one.
  const needed = common.filter((field) => field === 'generation' || FIELDS[field].machine === 'required')
  return { machine, missing: needed.filter((field) => layout[field] === undefined) }
}
