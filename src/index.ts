export { HypvaError, type HypvaErrorCode, HypvaRangeError, HypvaTypeError } from './errors.js'
export type { Conflict } from './evidence/derive.js'
export type { Note, Provenance } from './evidence/facts.js'
export type { EvidenceKind } from './evidence/read.js'
export { type RecoverOptions, type Recovery, recoverLayout } from './evidence/recover.js'
export { type ByteSource, bytesSource } from './evidence/source.js'
export { computeLayout, droppedMemory } from './layout/compute.js'
export { MissingFieldError } from './layout/fields.js'
export { GENERATIONS, generationOf } from './layout/generations.js'
export { formatLayout, parseLayout, parseMachine } from './layout/json.js'
export { kernHypVa } from './layout/macro.js'
export { decodePatch, encodePatch, type PatchResult } from './layout/patch.js'
export { type LayoutProblem, type LayoutProblemKind, layoutProblems } from './layout/problems.js'
export {
  classifyHypVa,
  classifyKernelVa,
  hypRegions,
  kernelRegions,
  type Region,
  type RegionKind,
} from './layout/regions.js'
export type { Generation, HypLayout, Machine, Mode, PageSize } from './layout/types.js'
export { type BatchResult, kernHypVaBatch, type ResidentBatch } from './translate/batch.js'
export type { ByteOrder } from './translate/binary.js'
export type { ExplainStep, Explanation } from './translate/explain.js'
export type { Segment, Space } from './translate/segments.js'
export { createTranslator, MissError, type Translator, type TranslatorOptions } from './translate/translator.js'
export type { Range } from './u64.js'
