import { findSegment } from '../engine/segments.js'
import { HypvaError } from '../errors.js'
import { describe } from '../u64.js'
import { type Box, type BoxKind, LEGEND, type Subject, sceneOf, weightOf } from './scene.js'
import { sizeText } from './size.js'

/** Options of `renderText`. */
export interface TextOptions {
  /** Columns there are; at least 60, default 80. */
  readonly width?: number
  /** Colours a piece of text by what it stands for; default none. */
  readonly paint?: (kind: BoxKind, text: string) => string
}

const LEAST_WIDTH = 60
const DIGITS = 16
/** Size beside the title where both fit; below it otherwise. */
const ROOMY = 30

const GLYPHS: Readonly<Record<BoxKind, string>> = {
  linear: '█',
  image: '▓',
  modules: '▒',
  idmap: '◆',
  private: '▚',
  vmemmap: '░',
  hole: '┆',
  gap: ' ',
  collision: '╳',
  lost: '✗',
}

/**
 * The picture of `renderSvg` for a terminal: EL1 on the left, EL2 on the right, low addresses first; boxes that map to the right
 * have an arrow.
 * @returns lines of at most `width` columns, a newline at the end
 * @throws HypvaError `HYPVA_ARGUMENT` for a width below 60, `HYPVA_LAYOUT` without mask and tag
 * @example
 * renderText(layout, { width: 72 }).split('\n').every((line) => line.length <= 72) // true
 */
export function renderText(subject: Subject, options: TextOptions = {}): string {
  const { width = 80, paint = (_, text) => text } = options
  if (!Number.isInteger(width) || width < LEAST_WIDTH) {
    throw new HypvaError('HYPVA_ARGUMENT', `width: expected a whole number from ${LEAST_WIDTH}, got ${describe(width)}`)
  }
  const { title, formula, sound, left, right, ribbons } = sceneOf(subject)
  const half = Math.floor((width - 3) / 2)
  const leftCells = left.flatMap((box) => cells(box, half))
  const rightCells = right.flatMap((box) => cells(box, half))
  // Those of collisions lie inside the others, which do not overlap.
  const sources = [true, false].map((collision) =>
    ribbons.filter(({ kind }) => (kind === 'collision') === collision).map((ribbon) => ribbon.left),
  )
  const mapped = ({ range }: Box) =>
    range !== undefined && sources.some((lefts) => (findSegment(lefts, range.start)?.end ?? 0n) >= range.end)
  const rows: string[] = []
  for (let i = 0; i < Math.max(leftCells.length, rightCells.length); i++) {
    const from = leftCells[i]
    const to = rightCells[i]
    const arrow = from?.first && mapped(from.box) ? '→' : from?.first && from.box.kind === 'lost' ? '✗' : ' '
    rows.push(`${show(from, half, paint)} ${arrow} ${show(to, half, paint)}`.trimEnd())
  }
  const verdict = sound === undefined ? '' : sound ? ': sound' : ': UNSOUND'
  const used = [...new Set([...left, ...right].map(({ kind }) => kind))].filter((kind) => kind !== 'gap')
  const legend = used.map((kind) => `${paint(kind, GLYPHS[kind])} ${LEGEND[kind]}`)
  return [
    cut(`${title}${verdict}`, width),
    ...chunks(formula, width),
    '',
    `${'EL1: kernel addresses'.padEnd(half + 3)}EL2: hyp addresses`,
    ...rows,
    '',
    ...lines(
      legend,
      used.map((kind) => LEGEND[kind].length + 2),
      width,
    ),
    '',
  ].join('\n')
}

/** A row of one side. */
interface Cell {
  readonly box: Box
  readonly first: boolean
  readonly address: string
  readonly label: string
}

/** A box as rows: more of them for a size of more bits, but one for an empty range. */
function cells(box: Box, half: number): Cell[] {
  const room = half - DIGITS - 3
  const address = box.range === undefined ? '' : box.range.start.toString(16).padStart(DIGITS, '0')
  const size = box.size === 0n ? '' : sizeText(box.size)
  const labels = room >= ROOMY ? [`${box.title}  ${size}`] : [room >= box.title.length ? box.title : box.short, size]
  const empty = box.kind === 'hole' || box.kind === 'gap'
  const rows = Math.max(labels.length, empty ? 1 : 1 + Math.floor(weightOf(box) / 10))
  return Array.from({ length: rows }, (_, i) => ({
    box,
    first: i === 0,
    address: i === 0 ? address : '',
    label: cut(labels[i] ?? '', room),
  }))
}

function show(cell: Cell | undefined, half: number, paint: NonNullable<TextOptions['paint']>): string {
  if (cell === undefined) return ' '.repeat(half)
  const { box, address, label } = cell
  const room = half - DIGITS - 3
  return `${address.padEnd(DIGITS)} ${paint(box.kind, GLYPHS[box.kind])} ${label.padEnd(room)}`
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`
}

function chunks(text: string, width: number): string[] {
  return Array.from({ length: Math.ceil(text.length / width) }, (_, i) => text.slice(i * width, (i + 1) * width))
}

/** Joins parts into lines; their visible lengths are given, since colours take no columns. */
function lines(parts: readonly string[], lengths: readonly number[], width: number): string[] {
  const result: string[] = []
  let used = width + 1
  parts.forEach((part, i) => {
    if (used + 2 + lengths[i]! > width) {
      result.push(part)
      used = lengths[i]!
    } else {
      result[result.length - 1] += `  ${part}`
      used += 2 + lengths[i]!
    }
  })
  return result
}
