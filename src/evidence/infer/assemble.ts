import { FIELDS, LAYOUT_FIELDS } from '../../layout/fields.js'
import type { HypLayout } from '../../layout/types.js'
import { lowMask } from '../../u64.js'
import type { Provenance, Values } from '../facts.js'
import type { Conclusions } from './conclude.js'

/** The mask and the tag: each says nothing without the other. */
export const MASK_AND_TAG = ['tagLsb', 'tagVal', 'tag', 'vaMask'] as const
/** The fields that a layout with VHE does not have. */
const TAG: readonly (keyof HypLayout)[] = [...MASK_AND_TAG, 'hypPhysvirtOffset']

/** How each field of a layout is known. */
export type FieldProvenance = Readonly<Partial<Record<keyof HypLayout, readonly Provenance[]>>>

/** The fields that are known: settled, not disputed, and resting on nothing disputed. */
export function fieldsOf(
  { values, settled }: Conclusions,
  disputed: ReadonlySet<string>,
): { readonly layout: Partial<HypLayout>; readonly provenance: FieldProvenance } {
  const layout: Record<string, unknown> = {}
  const provenance: Record<string, readonly Provenance[]> = {}
  const withoutTag = values.mode === 'vhe' && !disputed.has('mode')
  for (const field of LAYOUT_FIELDS) {
    const known = settled.get(field)
    if (known === undefined || disputed.has(field)) continue
    if ([...(known.fact.ancestors ?? [])].some((ancestor) => disputed.has(ancestor))) continue
    if (withoutTag && TAG.includes(field)) continue
    // The field `tag` is for a layout whose tag is no tag_val in its place. Only a layout can say that.
    if (field === 'tag' && (layout.tagVal !== undefined || !known.ofLayout)) continue
    layout[field] = (values as Values)[field]
    provenance[field] = known.provenance
  }
  return { layout, provenance }
}

/** Whether the tag is one that a proposal adds to the linear offset, and so none that tag_lsb and tag_val make. */
export function addsTag({ settled, values }: Conclusions): boolean {
  if (values.tagLsb === undefined || settled.get('tag')?.ofLayout !== true) return false
  return (values.tag! & lowMask(values.tagLsb)) !== 0n
}

/**
 * The fields that a layout lacks, each with what would tell it, and those of them that the evidence disagrees on.
 * @param hint what would tell the tag
 */
export function unknownOf(
  layout: Partial<HypLayout>,
  inDispute: ReadonlySet<string>,
  hint: string | undefined,
): { readonly unknown: Readonly<Partial<Record<keyof HypLayout, string>>>; readonly disputed: (keyof HypLayout)[] } {
  const unknown: Partial<Record<keyof HypLayout, string>> = {}
  const disputed: (keyof HypLayout)[] = []
  for (const field of LAYOUT_FIELDS) {
    if (layout[field] !== undefined) continue
    if (layout.mode === 'vhe' && TAG.includes(field)) continue
    // The kernel's own layouts have neither.
    if (field === 'proposal' || field === 'tag') continue
    if (field === 'tagVal' && layout.tag !== undefined) continue
    if (inDispute.has(field)) {
      disputed.push(field)
      unknown[field] = 'the evidence disagrees'
    } else if (field === 'vaMask') unknown[field] = 'it follows from tagLsb'
    else if (hint !== undefined && (field === 'tagLsb' || field === 'tagVal')) unknown[field] = hint
    else unknown[field] = FIELDS[field].learn
  }
  return { unknown, disputed }
}
