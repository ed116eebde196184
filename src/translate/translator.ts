import { findSegment, type Plan, type Segment } from '../engine/segments.js'
import { HypvaError, HypvaTypeError } from '../errors.js'
import { checkLayout } from '../layout/json.js'
import { SPACES, type Space } from '../layout/spaces.js'
import type { HypLayout } from '../layout/types.js'
import type { SymbolTable } from '../symbols/table.js'
import { assertU64, describe, formatU64, type Range, wrap64 } from '../u64.js'
import { allocateResident, type BatchResult, type ResidentBatch, runBatch } from './batch.js'
import { BinaryRewriter, type ByteOrder } from './binary.js'
import { checkedPlan, sourceSpaces, uncheckedPlan } from './directions.js'
import { gapsOf } from './expected.js'
import { type Explanation, explainAddress, missReason } from './explain.js'
import { createNamer, type NameBatch, type Namer } from './namer.js'
import { NameRewriter, namedRanges } from './names.js'
import { rewriterStream } from './rewriter.js'
import { TextRewriter } from './text-rewriter.js'

/** The direction of a translator, and its handling of addresses that do not translate. */
export interface TranslatorOptions {
  /**
   * What the addresses that go in are. Absent: `kernel` when they become hyp addresses; otherwise kernel and hyp addresses
   * alike, each translated as what it is (kernel addresses are in the upper half of 2^64, hyp addresses below 2^52).
   */
  readonly from?: Space
  /** What comes out. Default `hyp`. */
  readonly to?: Space
  /**
   * Fail at the first miss of a batch or stream instead of leaving it as it was. Addresses before it have been
   * translated already. In text only addresses that ought to translate count: those that lie where the layout expects
   * addresses of the source space (a hole of DRAM, the tag of another boot); other numbers pass.
   */
  readonly strict?: boolean
  /**
   * Apply kern_hyp_va to every address, as the kernel does, whether it makes sense or not: nothing misses. Only from
   * `kernel` or `linear` to `hyp`; the layout needs only tagLsb and tagVal (or mode vhe).
   */
  readonly unchecked?: boolean
  /** Symbols of the kernel, for names: one table, or several that complement each other. */
  readonly symbols?: SymbolTable | readonly SymbolTable[]
  /** Keep the `__kvm_nvhe_` prefix in names instead of marking them `[nVHE]`. */
  readonly rawNames?: boolean
}

/**
 * An address that lies in no segment of a translation. `reason` says where it lies instead.
 * @example
 * createTranslator(layout, { from: 'hyp', to: 'kernel' }).translate(0x1000n) // throws HYPVA_MISS
 */
export class MissError extends HypvaError {
  readonly address: bigint
  readonly reason: string
  constructor(address: bigint, reason: string, where = '') {
    super('HYPVA_MISS', `${formatU64(address)}${where}: ${reason}`)
    this.name = 'MissError'
    this.address = address
    this.reason = reason
  }
}

/** One direction of one layout. Make it once, use it for any number of addresses. */
export class Translator {
  readonly layout: HypLayout
  /** The source space; absent: kernel and hyp addresses alike. */
  readonly from?: Space
  readonly to: Space
  /** The direction as ranges and constants, ascending. Empty when unchecked. */
  readonly segments: readonly Segment[]
  private readonly plan: Plan
  private readonly strict: boolean
  private readonly naming: Pick<TranslatorOptions, 'symbols' | 'rawNames'>
  private madeNamer: Namer | undefined

  /** @internal use createTranslator */
  constructor(
    layout: HypLayout,
    from: Space | undefined,
    to: Space,
    strict: boolean,
    plan: Plan,
    naming: Pick<TranslatorOptions, 'symbols' | 'rawNames'> = {},
  ) {
    this.naming = naming
    this.layout = layout
    if (from !== undefined) this.from = from
    this.to = to
    this.strict = strict
    this.plan = plan
    this.segments = plan.kind === 'checked' ? plan.segments : []
  }

  /**
   * Translates one address.
   * @throws MissError (`HYPVA_MISS`) with the reason when it lies in no segment; HypvaTypeError, HypvaRangeError when it is
   * not a 64-bit bigint
   * @example
   * createTranslator(layout, { from: 'kernel', to: 'hyp' }).translate(0xffffad4306eef000n)
   */
  translate(address: bigint): bigint {
    const result = this.tryTranslate(address)
    if (result === undefined) throw this.miss(address)
    return result
  }

  /** Translates one address; undefined when it lies in no segment. Throws only for a value that is not a 64-bit bigint. */
  tryTranslate(address: bigint): bigint | undefined {
    assertU64(address, 'address')
    const { plan } = this
    if (plan.kind === 'macro') return wrap64((address & plan.mask) + plan.tag)
    const segment = findSegment(plan.segments, address)
    return segment === undefined ? undefined : wrap64(address + segment.delta)
  }

  /** Every step of a translation with its numbers, the address in all spaces, and the reason of a miss. */
  explain(address: bigint): Explanation {
    assertU64(address, 'address')
    return explainAddress(this.layout, this.sourceOf(address), this.to, address, this.plan.kind === 'macro')
  }

  /**
   * Translates an array through cache-sized tiles.
   * @param output at least as long; `input` itself or one that overlaps it is allowed; a new array when absent
   * @throws HypvaTypeError, HypvaRangeError (`HYPVA_ARGUMENT`) for other arrays, one without memory (its buffer transferred
   * or made smaller), or a short output; with `strict`, MissError at the first miss (`output` is then written all the
   * same, misses as they were)
   */
  translateBatch(input: BigUint64Array, output?: BigUint64Array): BatchResult {
    const result = runBatch(this.plan, input, output)
    if (this.strict && result.missed > 0) throw this.batchMiss(result.output[result.firstMiss]!, result.firstMiss)
    return result
  }

  /**
   * A batch in WASM memory of its own: fill `.addresses`, call `.translate()`, read `.addresses`. The fastest tier: no copy.
   * @param length addresses, 0 … about 2^29
   */
  allocate(length: number): ResidentBatch {
    const resident = allocateResident(this.plan, length)
    if (!this.strict) return resident
    return {
      addresses: resident.addresses,
      translate: (count) => {
        const result = resident.translate(count)
        if (result.missed > 0) throw this.batchMiss(resident.addresses[result.firstMiss]!, result.firstMiss)
        return result
      },
    }
  }

  /**
   * A stream of text in any encoding that keeps ASCII bytes: rewrites every address token of the source space, leaves every
   * other byte as it was. What is an address in text: see the README.
   */
  textStream(): TransformStream<Uint8Array, Uint8Array> {
    return rewriterStream(new TextRewriter(this.plan, this.failing(this.segments)), this.onMiss())
  }

  /**
   * A stream of raw 64-bit addresses, little-endian unless said otherwise.
   * A length that is no multiple of 8 is an error (`HYPVA_TRUNCATED`) after the whole addresses have come out.
   */
  binaryStream(order: ByteOrder = 'le'): TransformStream<Uint8Array, Uint8Array> {
    const rewriter = new BinaryRewriter(this.plan, order)
    return rewriterStream(rewriter, this.onMiss())
  }

  /**
   * The name of one address of the source space, as the kernel prints it: `handle_trap+0x8c/0x180 [nVHE]`; undefined when no
   * symbol covers it.
   * @throws HypvaError `HYPVA_SYMBOLS` without symbols, or with those of another kernel or boot; MissingFieldError when the
   *   layout does not tell where the image is
   */
  name(address: bigint): string | undefined {
    return this.namer().name(address)
  }

  /**
   * The symbols of an array of addresses of the source space.
   * @throws as `name`; HypvaTypeError (`HYPVA_ARGUMENT`) for other arrays
   */
  nameBatch(input: BigUint64Array): NameBatch {
    return this.namer().nameBatch(input)
  }

  /** A stream of text that replaces every address of the source space with its name, if it has one. Throws as `name`. */
  nameStream(): TransformStream<Uint8Array, Uint8Array> {
    return rewriterStream(new NameRewriter(this.namer(), this.failing(namedRanges(this.namer()))), this.onMiss())
  }

  /** As `textStream()`, with ` <name>` behind each address that has one. Throws as `name`. */
  annotateStream(): TransformStream<Uint8Array, Uint8Array> {
    const rewriter = new NameRewriter(this.namer(), { annotate: this.plan, ...this.failing(this.segments) })
    return rewriterStream(rewriter, this.onMiss())
  }

  private namer(): Namer {
    const { symbols = [], rawNames = false } = this.naming
    this.madeNamer ??= createNamer(this.layout, symbols, { ...(this.from && { from: this.from }), rawNames })
    return this.madeNamer
  }

  /** With `strict`: what a stream of text fails at. Unchecked, everything translates. */
  private failing(covered: readonly Range[]): { gaps?: readonly Range[] } {
    if (!this.strict || this.plan.kind === 'macro') return {}
    return { gaps: gapsOf(this.layout, sourceSpaces(this.layout, this.from, this.to), covered) }
  }

  private onMiss(): ((offset: number) => HypvaError) | undefined {
    return this.strict ? (offset) => this.streamMiss(offset) : undefined
  }

  private batchMiss(address: bigint, index: number): MissError {
    return this.miss(address, ` (index ${index})`)
  }

  private streamMiss(offset: number): HypvaError {
    const source = this.from ?? 'kernel or hyp'
    return new HypvaError('HYPVA_MISS', `byte ${offset}: an address that is no ${source} address of this layout`)
  }

  private miss(address: bigint, where = ''): MissError {
    return new MissError(address, missReason(this.layout, this.sourceOf(address), this.to, address), where)
  }

  /** The space that an address is taken in: where both are, its half decides. */
  private sourceOf(address: bigint): Space {
    return this.from ?? (address >> 63n === 0n ? 'hyp' : 'kernel')
  }
}

/**
 * A translator for one direction of a layout. Without `from` it takes kernel addresses to hyp addresses, and kernel and hyp
 * addresses alike to any other space; where the layout knows only one of these two directions, the other's addresses miss.
 * @throws MissingFieldError (`HYPVA_MISSING_FIELD`) when the layout lacks a field the direction needs, named with the ways
 * to learn it; HypvaError (`HYPVA_LAYOUT`) for a layout that contradicts itself
 * @example
 * const toPhys = createTranslator(layout, { to: 'phys' })
 * toPhys.translate(0x89b380ef1c00n) // 0x40ef1c00n
 * toPhys.translate(0xffffad4306ef1c00n) // 0x40ef1c00n
 */
export function createTranslator(layout: HypLayout, options: TranslatorOptions = {}): Translator {
  checkLayout(layout)
  if (typeof options !== 'object' || options === null) {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `options: expected an object, got ${describe(options)}`)
  }
  const { to = 'hyp', strict = false, unchecked = false, symbols, rawNames = false } = options
  assertSpace(to, 'to')
  if (options.from !== undefined) assertSpace(options.from, 'from')
  const sources = sourceSpaces(layout, unchecked ? (options.from ?? 'kernel') : options.from, to)
  const from = sources.length === 1 ? sources[0] : undefined
  const plan = unchecked ? uncheckedPlan(layout, from ?? 'kernel', to) : checkedPlan(layout, from, to)
  return new Translator(layout, from, to, strict, plan, { ...(symbols && { symbols }), rawNames })
}

function assertSpace(value: unknown, what: string): asserts value is Space {
  if (!SPACES.includes(value as Space)) {
    throw new HypvaTypeError('HYPVA_ARGUMENT', `${what}: expected one of ${SPACES.join(', ')}, got ${describe(value)}`)
  }
}
