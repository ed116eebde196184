/**
 * Every error hypva throws on purpose carries a stable `code` (one of these) and a one-line message that names what was
 * wrong, where, and what to do about it.
 */
export type HypvaErrorCode =
  /** A value of the wrong type where a 64-bit value belongs (a `number`, a string …). Always a `TypeError`. */
  | 'HYPVA_U64_TYPE'
  /** A bigint below 0 or above 2^64 - 1. Always a `RangeError`. */
  | 'HYPVA_U64_RANGE'
  /** An argument of the wrong type or shape (a buffer, a register number, an option). */
  | 'HYPVA_ARGUMENT'
  /** A layout (object or JSON text) with a missing, unknown, malformed or contradictory field; the message names it. */
  | 'HYPVA_LAYOUT'
  /** A machine description (object or JSON text) with such a field. */
  | 'HYPVA_MACHINE'
  /** A kernel version or generation name that is not known. */
  | 'HYPVA_KERNEL_VERSION'
  /** A translation needs a layout field that is absent; `fields` names it, or those of which one would do. */
  | 'HYPVA_MISSING_FIELD'
  /** An address lies in no segment of the translation; `reason` says why. */
  | 'HYPVA_MISS'
  /** Five words that are no patched instruction sequence, or a layout that cannot be encoded as one. */
  | 'HYPVA_PATCH'
  /** What is no symbol table, or one that does not fit the layout or the log; the message says why. */
  | 'HYPVA_SYMBOLS'
  /** Something that would read memory of a running machine which may belong to its hypervisor. */
  | 'HYPVA_LIVE'
  /** A binary stream whose length is not a multiple of 8 bytes. */
  | 'HYPVA_TRUNCATED'

/** What an error about a layout or a machine description is about, as data. */
export interface ErrorField {
  /** The field that is wrong or missing: `dram`, also for an error about one of its banks. */
  readonly field?: string
  /** The other fields that the check compared it with. */
  readonly against?: readonly string[]
}

/**
 * An error of hypva's own; `code` is stable, the message is for people.
 * @example
 * createTranslator({ tagLsb: 31, tagVal: 0x11367n }, { to: 'phys' }) // throws HYPVA_MISSING_FIELD
 */
export class HypvaError extends Error {
  readonly code: HypvaErrorCode
  /** The field of a layout or a machine description that is wrong, where the error is about one: `dram`, `tagVal`. */
  readonly field?: string
  /** The other fields that the check compared it with. */
  readonly against?: readonly string[]
  constructor(code: HypvaErrorCode, message: string, { field, against }: ErrorField = {}) {
    super(message)
    this.name = 'HypvaError'
    this.code = code
    if (field !== undefined) this.field = field
    if (against !== undefined) this.against = against
  }
}

/**
 * A `TypeError` with a stable `code`.
 * @example
 * kernHypVa(layout, 4096) // throws HYPVA_U64_TYPE
 */
export class HypvaTypeError extends TypeError {
  readonly code: HypvaErrorCode
  constructor(code: HypvaErrorCode, message: string) {
    super(message)
    this.name = 'HypvaTypeError'
    this.code = code
  }
}

/**
 * A `RangeError` with a stable `code`.
 * @example
 * kernHypVa(layout, -1n) // throws HYPVA_U64_RANGE
 */
export class HypvaRangeError extends RangeError {
  readonly code: HypvaErrorCode
  constructor(code: HypvaErrorCode, message: string) {
    super(message)
    this.name = 'HypvaRangeError'
    this.code = code
  }
}
