import * as v from 'valibot'
import { HypvaError, type HypvaErrorCode, HypvaRangeError, HypvaTypeError } from '../errors.js'
import { describe, formatU64, lowMask, type Range } from '../u64.js'
import { hypVaBitsOf, pageOffsetOf, physBitsOf, VA_BITS, vaBitsActualChoices } from './address-space.js'
import type { FieldName } from './fields.js'
import { generationOf, rulesOf } from './generations.js'
import { dramNotPhysical, IMPOSSIBLE, idmapNotAligned } from './impossible.js'
import { layoutSchema, machineSchema, U64, type WordForm } from './schema.js'
import { physvirtOffsetOf } from './spaces.js'
import type { HypLayout, Machine, PageSize } from './types.js'

/** A layout out of a value whose 64-bit fields have the given form. Fields that are undefined are dropped. */
export function layoutOf(value: unknown, form: WordForm): HypLayout {
  const layout = shaped<HypLayout>(layoutSchema(form), value, 'layout', 'HYPVA_LAYOUT')
  checkLayoutFields(layout)
  return layout
}

/** A machine out of a value whose 64-bit fields have the given form. */
export function machineOf(value: unknown, form: WordForm): Machine {
  const machine = shaped<Machine>(machineSchema(form), value, 'machine', 'HYPVA_MACHINE')
  checkMachineFields(machine)
  return machine
}

function shaped<T extends object>(schema: v.GenericSchema, value: unknown, what: string, code: HypvaErrorCode): T {
  // Valibot takes an array for an object without fields.
  if (Array.isArray(value)) throw new HypvaError(code, `${what}: expected an object, got ${describe(value)}`)
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (!result.success) throw shapeError(result.issues[0], what, code)
  const { format: _, ...fields } = result.output as Record<string, unknown>
  return Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== undefined)) as T
}

function shapeError(issue: v.BaseIssue<unknown>, what: string, code: HypvaErrorCode): Error {
  const path = pathOf(what, issue.path)
  const about = issue.path === undefined ? {} : { field: String(issue.path[0].key) }
  if (issue.expected === U64) {
    const message = `${path}: ${issue.message}`
    if (typeof issue.input !== 'bigint') return new HypvaTypeError('HYPVA_U64_TYPE', message)
    return new HypvaRangeError('HYPVA_U64_RANGE', message)
  }
  const missing = issue.type === 'strict_object' && issue.path !== undefined && issue.input === undefined
  if (missing) return new HypvaError(code, `${path}: missing`, about)
  if (issue.expected === 'never') return new HypvaError(code, `${path}: unknown field`, about)
  const got = issue.type === 'strict_object' ? `expected an object, got ${describe(issue.input)}` : issue.message
  return new HypvaError(code, `${path}: ${got}`, about)
}

/** `layout.dram[1].end` */
function pathOf(what: string, path: readonly v.IssuePathItem[] | undefined): string {
  return (path ?? []).reduce((text, { key }) => {
    if (typeof key === 'number') return `${text}[${key}]`
    const name = String(key)
    return /^\w{1,40}$/.test(name) ? `${text}.${name}` : `${text}[${describe(name)}]`
  }, what)
}

/** An error in a field of a layout or a machine. */
interface Finding {
  readonly field: FieldName
  /** Where in the field: `dram[1].end`; absent for the field as a whole. */
  readonly path?: string
  /** The fields that it does not fit. */
  readonly against?: readonly FieldName[]
  readonly text: string
}

type Fail = (finding: Finding) => never

const failLayout: Fail = (finding) => fail('layout', 'HYPVA_LAYOUT', finding)

const failMachine: Fail = (finding) => fail('machine', 'HYPVA_MACHINE', finding)

function fail(what: string, code: HypvaErrorCode, { field, path = field, against = [], text }: Finding): never {
  throw new HypvaError(code, `${what}.${path}: ${text}`, { field, against })
}

function checkMachineFields(machine: Machine): void {
  if (machine.generation === undefined) {
    if (machine.kernel === undefined)
      failMachine({ field: 'kernel', text: 'missing (a kernel version, or "generation" instead)' })
    generationOf(machine.kernel)
  }
  checkPlaces(machine, failMachine)
  checkWidths(machine, failMachine)
  checkPhysical(machine)
  checkPossible(machine)
}

/** A kernel computes a broken layout on an unlucky machine; but a description of a machine that cannot exist is wrong. */
function checkPossible(machine: Machine): void {
  const { kernel, randomizeBase: _, random: __, vaBitsActual = machine.vaBits, ...fields } = machine
  const generation = machine.generation ?? generationOf(kernel!)
  for (const rule of IMPOSSIBLE) {
    const found = rule({ ...fields, vaBitsActual, generation })
    if (found !== undefined) failMachine(found)
  }
}

function checkLayoutFields(layout: HypLayout): void {
  checkPlaces(layout, failLayout)
  checkSizes(layout)
  checkWidths(layout, failLayout)
  checkDerivedWidths(layout)
  if (layout.mode === 'vhe') {
    checkNoTag(layout)
  } else {
    checkTag(layout)
    checkProposal(layout)
    checkPhysvirtOffset(layout)
  }
}

/** All addresses fit into the kernel's page tables. */
function checkPhysical({ dram, idmap, pageSize, vaBits }: Machine): void {
  const bits = physBitsOf(pageSize, vaBits)
  const against = ['pageSize', 'vaBits'] as const
  const beyond = `is beyond the ${bits} bits of physical address that a kernel with ${pageSize} byte pages and vaBits ${vaBits} has`
  dram.forEach(({ end }, i) => {
    if (end > 1n << BigInt(bits)) {
      failMachine({ field: 'dram', path: `dram[${i}].end`, against, text: `${formatU64(end)} ${beyond}` })
    }
  })
  if (idmap >> BigInt(bits) !== 0n) failMachine({ field: 'idmap', against, text: `${formatU64(idmap)} ${beyond}` })
}

/** No kernel has more than 52 bits of address, virtual or physical. */
const MOST_IMAGE = 1n << 52n

/** Bounds banks and image, so that no sum of sizes comes near 2^64. */
function checkSizes(layout: HypLayout): void {
  const found = dramNotPhysical(layout)
  if (found !== undefined) failLayout(found)
  const { image } = layout
  if (image !== undefined && image.end - image.start > MOST_IMAGE) {
    const text = `${formatU64(image.start)} to ${formatU64(image.end)} is more than 2^52 bytes`
    failLayout({ field: 'image', text })
  }
}

/** Ranges are not empty, banks ascend, the idmap page is a page. */
function checkPlaces(fields: Pick<HypLayout, 'dram' | 'image' | 'idmap' | 'pageSize'>, fail: Fail): void {
  const { dram, image } = fields
  if (dram?.length === 0) fail({ field: 'dram', text: 'expected at least one bank, or no field' })
  dram?.forEach((bank, i) => {
    checkNotEmpty(bank, 'dram', `dram[${i}].end`, fail)
    const before = dram[i - 1]
    if (before !== undefined && bank.start < before.end) {
      const order = `banks must ascend and not overlap, but dram[${i - 1}] ends at ${formatU64(before.end)}`
      fail({ field: 'dram', path: `dram[${i}].start`, text: `${formatU64(bank.start)}: ${order}` })
    }
  })
  if (image !== undefined) checkNotEmpty(image, 'image', 'image.end', fail)
  const unaligned = idmapNotAligned(fields)
  if (unaligned !== undefined) fail(unaligned)
}

function checkNotEmpty({ start, end }: Range, field: 'dram' | 'image', path: string, fail: Fail): void {
  if (start >= end) {
    const text = `${formatU64(end)} is not above the start, ${formatU64(start)} (ranges are half-open)`
    fail({ field, path, text })
  }
}

function checkWidths(fields: Pick<Machine, 'generation' | 'vaBitsActual'> & Partial<Machine>, fail: Fail): void {
  const { pageSize, vaBits, vaBitsActual } = fields
  const generation = fields.generation ?? (fields.kernel === undefined ? undefined : generationOf(fields.kernel))
  if (vaBits === undefined) return
  if (pageSize !== undefined && !VA_BITS[pageSize].includes(vaBits)) {
    const text = `pages of ${pageSize} bytes go with ${VA_BITS[pageSize].join(', ')} bits, got ${vaBits}`
    fail({ field: 'vaBits', against: ['pageSize'], text })
  }
  if (vaBitsActual === undefined) return
  const choices = actualChoices(pageSize, vaBits)
  if (!choices.includes(vaBitsActual)) {
    const text = `a build with vaBits ${vaBits} runs with ${choices.join(' or ')} bits, got ${vaBitsActual}`
    fail({ field: 'vaBitsActual', against: ['vaBits'], text })
  }
  if (vaBitsActual !== vaBits && generation !== undefined && rulesOf(generation).linearMap === 'top') {
    const text = `before 5.4 a kernel uses all of its ${vaBits} bits, got ${vaBitsActual}`
    fail({ field: 'vaBitsActual', against: ['generation', 'vaBits'], text })
  }
}

function actualChoices(pageSize: PageSize | undefined, vaBits: number): readonly number[] {
  return vaBitsActualChoices(pageSize ?? 16384, vaBits)
}

function checkNoTag(layout: HypLayout): void {
  for (const field of ['proposal', 'tagLsb', 'tagVal', 'tag', 'vaMask', 'hypPhysvirtOffset'] as const) {
    if (layout[field] === undefined) continue
    failLayout({ field, against: ['mode'], text: 'mode vhe has none, kern_hyp_va is the identity' })
  }
}

function checkTag({ tagLsb, tagVal, tag: given, vaMask, hypVaBits }: HypLayout): void {
  const missing = 'missing (only mode vhe has none)'
  if (tagLsb === undefined) failLayout({ field: 'tagLsb', text: missing })
  if (tagVal === undefined && given === undefined) failLayout({ field: 'tagVal', text: missing })
  if (tagVal !== undefined && given !== undefined) {
    failLayout({ field: 'tag', against: ['tagVal'], text: 'expected either tagVal or tag, got both' })
  }
  if (given !== undefined && hypVaBits === undefined) {
    const text = 'missing: a layout with tag needs it, since EL2 maps no address above these bits'
    failLayout({ field: 'hypVaBits', against: ['tag'], text })
  }
  if (tagVal !== undefined && tagVal >> BigInt(64 - tagLsb) !== 0n) {
    const text = `${formatU64(tagVal)} does not fit into the ${64 - tagLsb} bits above tagLsb ${tagLsb}`
    failLayout({ field: 'tagVal', against: ['tagLsb'], text })
  }
  if (vaMask !== undefined && vaMask !== lowMask(tagLsb)) {
    const text = `expected ${formatU64(lowMask(tagLsb))} (2^tagLsb - 1), got ${formatU64(vaMask)}`
    failLayout({ field: 'vaMask', against: ['tagLsb'], text })
  }
  const tag = given ?? tagVal! << BigInt(tagLsb)
  if (hypVaBits !== undefined && tag >> BigInt(hypVaBits) !== 0n) {
    const beyond = `reaches beyond hypVaBits ${hypVaBits}`
    if (given !== undefined) failLayout({ field: 'tag', against: ['hypVaBits'], text: `${formatU64(given)} ${beyond}` })
    const text = `${formatU64(tagVal!)} above tagLsb ${tagLsb} ${beyond}`
    failLayout({ field: 'tagVal', against: ['tagLsb', 'hypVaBits'], text })
  }
}

/** Bits of the windows that two proposals keep for the idmap and the private range, below linear memory. */
export const LOW_WINDOW_BITS = { 'low-window-48': 48, 'low-window-47': 47 } as const

/** A proposal decides the transformation: the fields that the layout has as well must agree. */
function checkProposal({ proposal, hypVaBits, tagLsb, tagVal, tag }: HypLayout): void {
  if (proposal === undefined) return
  const fail: (field: keyof HypLayout, text: string) => never = (field, text) =>
    failLayout({ field, against: ['proposal'], text })
  if (hypVaBits === undefined) fail('hypVaBits', `missing (proposal ${proposal} is about all of them)`)
  if (proposal === 'low-window-48-as-coded') {
    if (tagVal === undefined) fail('tagVal', `missing (proposal ${proposal} has no tag in place)`)
    const region = tagLsb! <= 48 ? 1n << BigInt(48 - tagLsb!) : 0n
    if ((tagVal & region) !== region) {
      fail('tagVal', `expected bit ${48 - tagLsb!} set (proposal ${proposal}), got ${formatU64(tagVal)}`)
    }
    return
  }
  if (tagLsb !== hypVaBits) fail('tagLsb', `expected hypVaBits, ${hypVaBits} (proposal ${proposal}), got ${tagLsb}`)
  if (proposal === 'overlap-top-window') {
    if (tagVal !== 0n) fail('tagVal', `expected 0x0 (proposal ${proposal} adds nothing), got ${tagVal}`)
    return
  }
  const window = 1n << BigInt(LOW_WINDOW_BITS[proposal])
  if (tag !== window) {
    const got = tag === undefined ? 'none' : formatU64(tag)
    fail('tag', `expected ${formatU64(window)} (proposal ${proposal}), got ${got}`)
  }
}

/** Generation and widths decide hypVaBits and pageOffset: where the layout has them as well, they must agree. */
function checkDerivedWidths({ generation, vaBits, vaBitsActual, hypVaBits, pageOffset }: HypLayout): void {
  if (generation === undefined || vaBits === undefined || vaBitsActual === undefined) return
  const against = ['generation', 'vaBits', 'vaBitsActual'] as const
  const from = `(generation ${generation}, vaBits ${vaBits}, vaBitsActual ${vaBitsActual})`
  const bits = hypVaBitsOf(generation, vaBits, vaBitsActual)
  if (hypVaBits !== undefined && hypVaBits !== bits) {
    failLayout({ field: 'hypVaBits', against, text: `expected ${bits} ${from}, got ${hypVaBits}` })
  }
  const offset = pageOffsetOf(generation, vaBits, vaBitsActual)
  if (pageOffset !== undefined && pageOffset !== offset) {
    const text = `expected ${formatU64(offset)} ${from}, got ${formatU64(pageOffset)}`
    failLayout({ field: 'pageOffset', against, text })
  }
}

/** Tag and linear map decide hypPhysvirtOffset: where the layout has it as well, it must agree. */
function checkPhysvirtOffset(layout: HypLayout): void {
  const { hypPhysvirtOffset } = layout
  const derived = physvirtOffsetOf(layout)
  if (hypPhysvirtOffset === undefined || derived === undefined || hypPhysvirtOffset === derived) return
  const from = '(from pageOffset, physOffset, dram, tagLsb and tagVal)'
  failLayout({
    field: 'hypPhysvirtOffset',
    against: ['pageOffset', 'physOffset', 'dram', 'tagLsb', 'tagVal'],
    text: `expected ${formatU64(derived)} ${from}, got ${formatU64(hypPhysvirtOffset)}`,
  })
}
