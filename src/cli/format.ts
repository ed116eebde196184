import type { Plan } from '../engine/segments.js'
import { BinaryRewriter, type ByteOrder } from '../translate/binary.js'
import type { Chunks } from '../translate/chunks.js'
import type { TagClues, TagWatch } from '../translate/tag-watch.js'
import { TextRewriter } from '../translate/text-rewriter.js'
import type { Range } from '../u64.js'

/** What an input is, as --format says. */
export type Format = 'text' | 'u64le' | 'u64be'

/** The byte order of raw words; undefined for text. */
export function orderOf(format: Format): ByteOrder | undefined {
  return format === 'text' ? undefined : format === 'u64le' ? 'le' : 'be'
}

/** What is done with addresses: what every job of a translation is told as well. */
export interface Translation {
  readonly plan: Plan
  readonly format: Format
  /** Count every token of text that does not translate. */
  readonly countAll: boolean
  /** Count the addresses in these ranges as failed. */
  readonly gaps: readonly Range[]
  /** By what a layout of another boot is noticed; absent where that cannot be. */
  readonly clues?: TagClues | undefined
}

/**
 * @param chunk bytes at a time, a multiple of 8
 * @param watch made of the translation's clues
 */
export function newRewriter(
  { plan, format, countAll, gaps }: Translation,
  chunk: number,
  watch: TagWatch | undefined,
): Chunks {
  const order = orderOf(format)
  return order === undefined
    ? new TextRewriter(plan, { chunk, countAll, gaps, ...(watch && { watch }) })
    : new BinaryRewriter(plan, order, chunk, watch)
}
