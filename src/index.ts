export type { Segment } from './engine/segments.js'
export { HypvaError, type HypvaErrorCode, HypvaRangeError, HypvaTypeError } from './errors.js'
export type { Conflict, Note, Provenance } from './evidence/facts.js'
export type { PrintedAddress, PrintedPanic } from './evidence/kinds/panic.js'
export type { EvidenceKind } from './evidence/kinds.js'
export { type RecoverOptions, type Recovery, recoverLayout } from './evidence/recover.js'
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
export type { ExplainStep, Space } from './layout/spaces.js'
export type { Generation, HypLayout, Machine, Mode, PageSize, Proposal } from './layout/types.js'
export { decodePanics } from './panic/decode.js'
export type {
  DecodedFar,
  DecodedHpfar,
  DecodedPanic,
  DecodeOptions,
  Diagnosis,
  DiagnosisKind,
  FarKind,
  NamedPlace,
  Need,
  Places,
} from './panic/decoded.js'
export {
  decodeEsr,
  decodePar,
  decodePs,
  type ExceptionClass,
  hpfarPage,
  type ProgramStatus,
  type RegisterField,
  type Syndrome,
  type TranslationResult,
} from './panic/esr.js'
export type { Instruction } from './panic/instructions.js'
export type { Subject } from './picture/scene.js'
export { renderSvg } from './picture/svg.js'
export { renderText, type TextOptions } from './picture/terminal.js'
export { checkProposals, type ProposalVerdict } from './proposals/check.js'
export { LAYOUT_NAMES, type LayoutName } from './proposals/layouts.js'
export type { Restriction } from './proposals/restrictions.js'
export { type SweepChange, type SweepState, sweepProposals } from './proposals/sweep.js'
export type {
  BankVerdict,
  Collision,
  CongruentSet,
  PrivateVerdict,
  Reason,
  ReasonKind,
  Verdict,
} from './proposals/verdict.js'
export { type ByteSource, bytesSource } from './source.js'
export { parseSymbols } from './symbols/parse.js'
export { formatName, type Located, type NameOptions, type SymbolEntry, SymbolTable } from './symbols/table.js'
export { type BatchResult, kernHypVaBatch, type ResidentBatch } from './translate/batch.js'
export type { ByteOrder } from './translate/binary.js'
export { Census, type CensusResult, type RegionCount, type SymbolCount } from './translate/census.js'
export type { Explanation } from './translate/explain.js'
export { createNamer, type NameBatch, Namer, type NamerOptions } from './translate/namer.js'
export type { Truncation } from './translate/rewriter.js'
export { createTranslator, MissError, type Translator, type TranslatorOptions } from './translate/translator.js'
export type { Range } from './u64.js'
