import { groupBy } from '../../group-by.js'
import { isSince } from '../../layout/generations.js'
import { fls64, formatU64, lowMask, wrap64 } from '../../u64.js'
import {
  type Conflict,
  type Fact,
  FactList,
  type HypAddress,
  type Pair,
  type Provenance,
  provenanceOf,
  type Quantity,
  type Tag,
  type Values,
} from '../facts.js'
import { kernelKind, vaBitsOfLinear } from '../kernel-address.js'
import { ancestorsOf, type Conclusions, joined } from './conclude.js'
import { lsbOfMemory } from './rules.js'

/** No host of KVM has less than 32 MiB of memory, so a tag begins no lower. */
const LEAST_LSB = 25

/** Evidence that determines the tag once tag_lsb is known. */
interface Constraint extends Provenance, Pick<Fact, 'roots' | 'priority'> {
  readonly ancestors: ReadonlySet<Quantity>
  /** Its bits from tag_lsb up are those of the tag. */
  readonly hyp: bigint
  /** tag_lsb is at most its lowest set bit: below tag_lsb, hyp and linear addresses have the same bits. */
  readonly differ: bigint
}

/** The tag, tag_val << tag_lsb, if tag_lsb is `lsb`; undefined if the constraint rules that out. */
function tagOf({ hyp, differ }: Constraint, lsb: number): bigint | undefined {
  return (differ & lowMask(lsb)) === 0n ? hyp & ~lowMask(lsb) : undefined
}

/** Whether two constraints allow the same tag with tag_lsb = `lsb`. */
function agree(one: Constraint, other: Constraint, lsb: number): boolean {
  return ((one.differ | other.differ) & lowMask(lsb)) === 0n && (one.hyp ^ other.hyp) >> BigInt(lsb) === 0n
}

/** Most entries of a list that a report shows. */
const MOST_SHOWN = 64

/** The first entries of a list; the last one says how many more there are. */
function shown(list: readonly Provenance[]): Provenance[] {
  const kept = list.slice(0, MOST_SHOWN).map(provenanceOf)
  const more = list.length - kept.length
  if (more > 0) kept.push({ ...kept.pop()!, where: `${list[MOST_SHOWN - 1]!.where} and ${more} more` })
  return kept
}

/** The tag by other evidence than patched code. */
export interface TagSolution {
  /** Tags that fit all of it, by ascending tag_lsb; empty if there is no such evidence. */
  readonly fits: readonly Tag[]
  /** The facts that follow when exactly one tag fits. */
  readonly facts: readonly Fact[]
  readonly conflicts: readonly Conflict[]
  /** Evidence that would decide between several tags. */
  readonly hint: string | undefined
}

export const NO_TAG: TagSolution = { fits: [], facts: [], conflicts: [], hint: undefined }

/** Adds the tag, tag_val << tag_lsb, for each tag_val whose tag_lsb is known: widths depend on it. */
export function withTag(facts: readonly Fact[]): Fact[] {
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

/** Facts that pairs give beyond the tag: offsets between address spaces. */
export function factsOfPairs(pairs: readonly Pair[], { values }: Conclusions): Fact[] {
  const facts = new FactList()
  const byImage: ReadonlySet<Quantity> = new Set(['kimageVoffset'])
  const byLinearMap: ReadonlySet<Quantity> = new Set(['linearShift'])
  for (const pair of pairs) {
    const { kernel, hyp, file, where, priority } = pair
    if (kernel === undefined) continue
    const kind = kindOf(kernel, values)
    const add = (fact: Pick<Fact, 'field' | 'value' | 'rule' | 'ancestors'>) =>
      facts.add({ ...fact, file, where, priority })
    const field = 'hypPhysvirtOffset'
    if (kind === 'image' && values.kimageVoffset !== undefined) {
      const value = wrap64(kernel - values.kimageVoffset - hyp)
      add({ field, value, rule: 'image address - kimage_voffset - hyp address', ancestors: byImage })
    }
    if (kind === 'linear' && values.linearShift !== undefined) {
      const value = wrap64(kernel - values.linearShift - hyp)
      add({ field, value, rule: 'physical address by the linear map - hyp address', ancestors: byLinearMap })
    }
    if (kind === 'linear' && (values.generation === undefined || isSince(values.generation, '5.4'))) {
      const value = vaBitsOfLinear(kernel)
      const rule = 'a linear address with this many significant bits'
      if (value !== undefined) add({ field: 'vaBitsActual', value, rule, ancestors: NOTHING })
    }
  }
  return facts.kept
}

function kindOf(kernel: bigint, { image, vaBitsMin }: Values): 'linear' | 'image' | 'either' {
  if (image !== undefined && kernel >= image.start && kernel < image.end) return 'image'
  return kernelKind(kernel, vaBitsMin)
}

/**
 * Solves for tag_lsb and the tag. For each possible tag_lsb, the high bits of a hyp address are the tag; a physical address minus
 * hyp_physvirt_offset is such an address. tag_lsb follows from the ends of DRAM by the kernel's own rule. Without DRAM, it can be no
 * higher than the lowest bit in which a hyp address and its linear address differ.
 */
export function solveTag(
  conclusions: Conclusions,
  pairs: readonly Pair[],
  addresses: readonly HypAddress[],
): TagSolution {
  const { values } = conclusions
  const constraints = [
    ...pairs.map((pair) => ofPair(pair, values)),
    ...addresses.map((address): Constraint => ({ ...address, ancestors: NOTHING, differ: 0n })),
    ...ofPhysvirtOffset(conclusions),
    ...ofTag(conclusions),
  ]
  const [first] = constraints
  const byMemory = lsbRule(conclusions)
  const settledLsb = conclusions.settled.get('tagLsb')?.fact.value as number | undefined
  const settledTag = conclusions.settled.get('tagVal')?.fact.value as bigint | undefined
  if (settledLsb !== undefined && settledTag !== undefined) {
    const known = { tagLsb: settledLsb, tagVal: settledTag }
    return { ...NO_TAG, conflicts: crossCheck(conclusions, known, constraints, byMemory) }
  }
  // If the evidence disagrees about the tag, more evidence cannot settle it.
  if (conclusions.conflicts.some(({ field }) => field === 'tagLsb' || field === 'tagVal')) return NO_TAG
  if (first === undefined) return byMemory === undefined ? NO_TAG : { ...NO_TAG, facts: [byMemory] }
  const lsbs =
    settledLsb !== undefined ? [settledLsb] : byMemory !== undefined ? [byMemory.value] : range(LEAST_LSB, 63)
  const fits: Tag[] = []
  const together = allOf(constraints)
  for (const lsb of lsbs) {
    const tag = tagOf(first, lsb)
    if (tag === undefined || !agree(first, together, lsb)) continue
    if (allowed(lsb, tag, values, settledLsb !== undefined)) fits.push({ tagLsb: lsb, tagVal: tag >> BigInt(lsb) })
  }
  const [only] = fits
  if (only === undefined) return { ...NO_TAG, conflicts: [contradiction(constraints, byMemory, lsbs, values)] }
  if (fits.length > 1) return { ...NO_TAG, fits, hint: decide(fits, pairs) }
  const independent = constraints.filter(
    (constraint, i) => i === 0 || constraint.file !== first.file || constraint.rule !== first.rule,
  )
  const facts: Fact[] = independent.slice(0, MOST_SHOWN).map(({ file, where, rule, priority, ancestors, roots }) => ({
    field: 'tagVal',
    value: only.tagVal,
    file,
    where,
    rule: `tag of ${rule}`,
    priority,
    ...(roots === undefined ? {} : { roots }),
    ancestors: new Set([...ancestors, 'tagLsb' as const]),
  }))
  if (settledLsb === undefined) {
    facts.push(
      byMemory !== undefined
        ? byMemory
        : { ...facts[0]!, field: 'tagLsb', value: only.tagLsb, rule: `the only tag_lsb that fits ${first.rule}` },
    )
  }
  return { ...NO_TAG, fits, facts }
}

/** tag_lsb by the kernel's rule, from the ends of DRAM. Only their difference counts, so -PHYS_OFFSET is enough if PAGE_OFFSET is unknown. */
function lsbRule({ settled, values }: Conclusions): Fact<'tagLsb'> | undefined {
  const dram = settled.get('dram')
  const shift = settled.get('linearShift') ?? settled.get('physOffset')
  if (dram === undefined || shift === undefined || values.dram?.length === 0) return undefined
  // DRAM that follows from the tag cannot confirm the tag.
  const ancestors = ancestorsOf([dram.fact, shift.fact])
  if (ancestors.has('tagLsb')) return undefined
  return {
    field: 'tagLsb',
    value: lsbOfMemory(values.dram!, values.linearShift ?? wrap64(-values.physOffset!)),
    ...joined([dram.fact, shift.fact], 'fls of the linear addresses of the first and last byte of DRAM'),
    priority: Math.min(dram.fact.priority, shift.fact.priority),
    ancestors,
  }
}

const NOTHING: ReadonlySet<Quantity> = new Set()

function ofPair(pair: Pair, values: Values): Constraint {
  const { kernel, hyp } = pair
  const linear = kernel !== undefined && kindOf(kernel, values) === 'linear'
  const { file, where, rule, priority } = pair
  return { file, where, rule, priority, ancestors: NOTHING, hyp, differ: linear ? kernel ^ hyp : 0n }
}

/** Combines all constraints into one that agrees with the first exactly if all of them do: it collects every bit in which one differs. */
function allOf(constraints: readonly Constraint[]): Constraint {
  const first = constraints[0]!
  let above = 0n
  let below = 0n
  for (const { hyp, differ } of constraints) {
    above |= hyp ^ first.hyp
    below |= differ
  }
  return { ...first, hyp: first.hyp ^ above, differ: below }
}

/** hyp(pa) = pa - hyp_physvirt_offset for an address in DRAM; below tag_lsb it equals linear(pa). */
function ofPhysvirtOffset({ settled, values }: Conclusions): Constraint[] {
  const offset = settled.get('hypPhysvirtOffset')
  const shift = settled.get('linearShift') ?? settled.get('physOffset')
  const place = settled.get('dram') ?? settled.get('codePhys') ?? settled.get('kimageVoffset')
  const physical =
    values.dram?.[0]?.start ??
    values.codePhys ??
    (values.kimageVoffset !== undefined && values.stext !== undefined
      ? wrap64(values.stext - values.kimageVoffset)
      : undefined)
  if (offset === undefined || shift === undefined || place === undefined || physical === undefined) return []
  const facts = [offset.fact, shift.fact, place.fact]
  const ancestors = ancestorsOf(facts)
  if (ancestors.has('tagVal')) return []
  const linear = wrap64(physical + (values.linearShift ?? wrap64(-values.physOffset!)))
  const hyp = wrap64(physical - values.hypPhysvirtOffset!)
  return [
    {
      ...joined(facts, 'hyp_physvirt_offset and the linear map'),
      priority: Math.min(...facts.map(({ priority }) => priority)),
      ancestors,
      hyp,
      differ: hyp ^ linear,
    },
  ]
}

function ofTag({ settled, values }: Conclusions): Constraint[] {
  const known = settled.get('tag')
  if (known === undefined) return []
  return [{ ...known.fact, ancestors: ancestorsOf([known.fact]), hyp: values.tag!, differ: values.tag! }]
}

/** Whether a kernel could have chosen this tag. `told`: the evidence itself gives tag_lsb. */
function allowed(lsb: number, tag: bigint, values: Values, told: boolean): boolean {
  const { generation, vaBitsActual, idmap } = values
  // With 52 hyp VA bits, bit 51 of the tag is set, because no idmap reaches it. If it is clear, at most 48 bits are in use.
  const bits = values.hypVaBits ?? (fls64(tag) > 48 ? 52 : 48)
  if (fls64(tag) > bits) return false
  // Patched code has room for 24 bits of tag_val.
  if (tag >> BigInt(lsb) >= 1n << 24n) return false
  if (told) return true
  // Linear addresses differ only in the lower half of the kernel's address space, and the region bit lies above the mask.
  if (lsb > bits - 1 || (vaBitsActual !== undefined && lsb > vaBitsActual - 1)) return false
  const tagged = generation === undefined || isSince(generation, '5.6')
  if (tagged && idmap !== undefined && values.hypVaBits !== undefined) {
    const region = BigInt(values.hypVaBits - 1)
    return ((tag ^ idmap) >> region) % 2n === 1n
  }
  return true
}

/** Checks a known tag against all other evidence. */
function crossCheck(
  conclusions: Conclusions,
  known: Tag,
  constraints: readonly Constraint[],
  byMemory: Fact<'tagLsb'> | undefined,
): Conflict[] {
  const conflicts: Conflict[] = []
  const own = conclusions.settled.get('tagVal')!
  const tag = known.tagVal << BigInt(known.tagLsb)
  const against = constraints.filter(
    (constraint) => constraint.priority >= own.fact.priority && tagOf(constraint, known.tagLsb) !== tag,
  )
  if (against.length > 0) {
    const sides = groupBy(against, (constraint) => tagOf(constraint, known.tagLsb))
    conflicts.push({
      field: 'tagVal',
      sides: [
        { value: known.tagVal, provenance: own.provenance },
        ...[...sides].slice(0, MOST_SHOWN).map(([other, group]) => ({
          value: other === undefined ? `none with tag_lsb ${known.tagLsb}` : other >> BigInt(known.tagLsb),
          provenance: shown(group),
        })),
        ...(sides.size > MOST_SHOWN ? [{ value: `${sides.size - MOST_SHOWN} other tags`, provenance: [] }] : []),
      ],
    })
  }
  const lsb = conclusions.settled.get('tagLsb')!
  if (byMemory !== undefined && byMemory.value > known.tagLsb && byMemory.priority >= lsb.fact.priority) {
    conflicts.push({
      field: 'tagLsb',
      sides: [
        { value: known.tagLsb, provenance: lsb.provenance },
        { value: byMemory.value, provenance: [provenanceOf(byMemory)] },
      ],
    })
  }
  return conflicts
}

/** The conflict if no tag fits: two pieces of evidence that exclude each other, or else all of it. */
function contradiction(
  constraints: readonly Constraint[],
  byMemory: Fact<'tagLsb'> | undefined,
  lsbs: readonly number[],
  values: Values,
): Conflict {
  const first = constraints[0]!
  const possible = lsbs.filter((lsb) => {
    const tag = tagOf(first, lsb)
    return tag !== undefined && allowed(lsb, tag, values, false)
  })
  const value = (constraint: Constraint) => {
    const tag = tagOf(constraint, lsbs[0]!)
    return lsbs.length > 1 || tag === undefined ? 'no common tag' : tag >> BigInt(lsbs[0]!)
  }
  const other = constraints.find((constraint) => !possible.some((lsb) => agree(first, constraint, lsb)))
  const culprits = other === undefined || other === first ? narrowing(constraints, possible) : [first, other]
  const sides = culprits.map((constraint) => ({
    value: value(constraint) as unknown,
    provenance: [provenanceOf(constraint)],
  }))
  if (byMemory !== undefined) sides.push({ value: `tag_lsb ${byMemory.value}`, provenance: [provenanceOf(byMemory)] })
  return { field: 'tagVal', sides }
}

/** All constraints; of very many, only those that exclude a tag_lsb that the ones before them allow. */
function narrowing(constraints: readonly Constraint[], possible: readonly number[]): readonly Constraint[] {
  if (constraints.length <= MOST_SHOWN) return constraints
  const first = constraints[0]!
  let left = possible
  return constraints.filter((constraint, i) => {
    const before = left.length
    if (before > 0) left = left.filter((lsb) => agree(first, constraint, lsb))
    return i === 0 || left.length < before
  })
}

/** Names evidence that would decide between the tags that fit. */
function decide(fits: readonly Tag[], pairs: readonly Pair[]): string {
  const low = fits[0]!.tagLsb
  const high = fits.at(-1)!.tagLsb
  const linear = pairs.find(({ kernel }) => kernel !== undefined && kernelKind(kernel, undefined) === 'linear')?.kernel
  const bit = high - 1
  const example =
    linear === undefined
      ? 'of the first and the last byte of DRAM (linear addresses; /proc/iomem has the physical ones)'
      : `of a linear address that differs from these in bit ${bit}, such as ${formatU64(linear ^ (1n << BigInt(bit)))} if memory is there,`
  return (
    `tag_lsb is ${low} to ${high}: a pair ${example} decides, as hyp addresses keep the bits below tag_lsb and no others; ` +
    'so do /proc/iomem with PHYS_OFFSET (the ends of DRAM give tag_lsb), or one page of patched kernel text'
  )
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}
