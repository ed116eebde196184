import type { Range } from '../u64.js'
import { type Box, type BoxKind, LEGEND, type Ribbon, type Scene, type Subject, sceneOf, weightOf } from './scene.js'
import { sizeText } from './size.js'

// Geometry, in user units; text is sized for a page that shows one as a CSS pixel.
const WIDTH = 1080
const MARGIN = 24
/** Sixteen digits at 11 units. */
const ADDRESS = 124
const COLUMN = 250
const LEFT = MARGIN + ADDRESS
const RIGHT = WIDTH - MARGIN - ADDRESS - COLUMN
const TOP = 142
const LINE = 18
/** The least that a box with one line of text and an address at its edge needs. */
const LEAST = 24
const PER_BIT = 1.5
/** Stands for the id of the hatching until the picture's own is known; no text has a NUL. */
const HATCH = '\0hatch'
/** The space in front of memory that has no address here. */
const APART = 12

/** Okabe and Ito's colours, which people who are colour-blind in any of the common ways tell apart. */
const COLOURS: Readonly<Record<BoxKind, string>> = {
  linear: '#0072b2',
  image: '#56b4e9',
  modules: '#999999',
  idmap: '#e69f00',
  private: '#009e73',
  vmemmap: '#cc79a7',
  hole: '#999999',
  gap: '#999999',
  collision: '#d55e00',
  lost: '#d55e00',
}

const IN_LEGEND: readonly BoxKind[] = ['linear', 'image', 'idmap', 'private', 'vmemmap', 'hole', 'collision', 'lost']

const STYLE = `
.hypva{--bg:#ffffff;--fg:#1a1a1a;--dim:#595959;--tint:.2;--ribbon:.16;--bad:#b04a00;--good:#00694d}
@media (prefers-color-scheme:dark){.hypva{--bg:#16181d;--fg:#ececec;--dim:#a8adb5;--tint:.34;--ribbon:.3;--bad:#ff9a52;--good:#3fd0a4}}
.hypva .page{fill:var(--bg)}
.hypva text{fill:var(--fg);font:12px "DejaVu Sans",Verdana,"Noto Sans",sans-serif}
.hypva .mono{font:11px "DejaVu Sans Mono",Menlo,Consolas,monospace}
.hypva .dim{fill:var(--dim)}
.hypva .title{font-size:20px;font-weight:bold}
.hypva .side{font-size:13px;font-weight:bold}
.hypva .bad{fill:var(--bad);font-weight:bold}
.hypva .good{fill:var(--good);font-weight:bold}
.hypva .tint{fill-opacity:var(--tint)}
.hypva .ribbon{fill-opacity:var(--ribbon)}
.hypva .edge{stroke:var(--dim);stroke-width:1;stroke-dasharray:2 4}
.hypva .plain{fill:var(--bg)}`

/**
 * A picture of an EL2 address space: EL1's addresses on the left, EL2's on the right, low ones at the top, ribbons for what
 * maps where, hatching where two mappings collide, broken outlines for memory that EL2 does not reach. Heights follow the
 * logarithms of sizes. Legible on light and dark pages (prefers-color-scheme); stands alone or inside an HTML page.
 * @param subject a layout, or one of the verdicts of `checkProposals`
 * @returns SVG text, a newline at its end
 * @throws HypvaError `HYPVA_LAYOUT` without mask and tag
 * @example
 * renderSvg(layout).startsWith('<svg ') // true
 */
export function renderSvg(subject: Subject): string {
  const scene = sceneOf(subject)
  const id = idOf(scene)
  const tall = Math.ceil(Math.max(naturalHeight(scene.left), naturalHeight(scene.right)))
  const left = place(scene.left, tall)
  const right = place(scene.right, tall)
  const leftScale = new Scale(left)
  const rightScale = new Scale(right)
  const remarks = scene.remarks.flatMap((remark) => wrap(remark, 145))
  const legend = IN_LEGEND.filter((kind) => [...scene.left, ...scene.right].some((box) => box.kind === kind))
  const below = TOP + tall + 40
  const height = below + 28 + remarks.length * LINE + (remarks.length > 0 ? 26 : 0)
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" class="hypva" role="img" aria-labelledby="${id}-title ${id}-desc" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    `<title id="${id}-title">${escapeXml(scene.title)}</title>`,
    `<desc id="${id}-desc">${escapeXml(scene.description)}</desc>`,
    `<style>${STYLE}\n</style>`,
    `<defs>${hatch()}</defs>`,
    `<rect class="page" width="${WIDTH}" height="${height}"/>`,
    ...header(scene),
    ...scene.ribbons.map((ribbon) => ribbonPath(ribbon, leftScale, rightScale)),
    ...scene.left.flatMap((box, i) => (box.kind === 'lost' ? [stub(left[i]!)] : [])),
    ...column(left, LEFT, 'left'),
    ...column(right, RIGHT, 'right'),
    ...legendRow(legend, below),
    ...remarks.map((line, i) =>
      text(MARGIN, below + 44 + i * LINE, escapeXml(line), scene.sound === false ? '' : 'dim'),
    ),
    '</svg>',
  ]
  return `${parts.join('\n').replaceAll(HATCH, `${id}-hatch`)}\n`
}

/** What ids begin with: pictures of different subjects can share an HTML page. FNV-1a over all that a picture says. */
function idOf({ title, formula, description }: Scene): string {
  let hash = 0x811c9dc5
  for (const char of `${title}\n${formula}\n${description}`) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193)
  return `hypva-${(hash >>> 0).toString(16).padStart(8, '0')}`
}

function header({ title, summary, formula, sound }: Scene): string[] {
  const verdict =
    sound === undefined
      ? ''
      : sound
        ? text(WIDTH - MARGIN, 40, '✓ sound', 'side good', 'end')
        : text(WIDTH - MARGIN, 40, '✗ unsound', 'side bad', 'end')
  return [
    text(MARGIN, 42, escapeXml(title), 'title'),
    verdict,
    summary === '' ? '' : text(MARGIN, 65, escapeXml(summary), 'dim'),
    text(MARGIN, summary === '' ? 66 : 85, escapeXml(formula), 'mono dim'),
    text(LEFT, 120, 'EL1: kernel addresses', 'side'),
    text(RIGHT, 120, 'EL2: hyp addresses', 'side'),
  ].filter((part) => part !== '')
}

interface Placed {
  readonly box: Box
  readonly y: number
  readonly height: number
}

function heightOf(box: Box): number {
  // Empty ranges can be of any size.
  const perBit = box.kind === 'gap' || box.kind === 'hole' ? PER_BIT / 4 : PER_BIT
  return LEAST + perBit * weightOf(box)
}

function apart(box: Box, i: number): number {
  return box.range === undefined && i > 0 ? APART : 0
}

function naturalHeight(boxes: readonly Box[]): number {
  return boxes.reduce((sum, box, i) => sum + heightOf(box) + apart(box, i), 0)
}

/** Stretches a column to the height of the other. */
function place(boxes: readonly Box[], tall: number): Placed[] {
  const gaps = boxes.reduce((sum, box, i) => sum + apart(box, i), 0)
  const stretch = (tall - gaps) / (naturalHeight(boxes) - gaps)
  let y = TOP
  return boxes.map((box, i) => {
    y += apart(box, i)
    const placed = { box, y, height: heightOf(box) * stretch }
    y += placed.height
    return placed
  })
}

function column(placed: readonly Placed[], x: number, side: 'left' | 'right'): string[] {
  const parts: string[] = []
  const addressX = side === 'left' ? x - 8 : x + COLUMN + 8
  const anchor = side === 'left' ? 'end' : 'start'
  for (const { box, y, height } of placed) {
    parts.push(...boxShape(box, x, y, height))
    if (box.range !== undefined) parts.push(text(addressX, y + 4, digits(box.range.start), 'mono dim', anchor))
  }
  const last = placed.findLast(({ box }) => box.range !== undefined)
  if (last !== undefined) {
    const end = last.box.range!.end
    parts.push(text(addressX, last.y + last.height + 4, digits(end), 'mono dim', anchor))
  }
  return parts
}

function boxShape({ kind, title, size }: Box, x: number, y: number, height: number): string[] {
  const rect = (more: string) => `<rect x="${x}" y="${fixed(y)}" width="${COLUMN}" height="${fixed(height)}" ${more}/>`
  const colour = COLOURS[kind]
  const parts: string[] = []
  if (kind === 'gap' || kind === 'hole') {
    parts.push(kind === 'hole' ? rect(`class="tint" fill="${colour}"`) : '')
    for (const at of [x, x + COLUMN]) {
      parts.push(`<line class="edge" x1="${at}" y1="${fixed(y)}" x2="${at}" y2="${fixed(y + height)}"/>`)
    }
  } else if (kind === 'lost') {
    parts.push(rect('class="plain"'), rect(`fill="none" stroke="${colour}" stroke-width="1.5" stroke-dasharray="6 4"`))
  } else {
    parts.push(rect('class="plain"'))
    parts.push(kind === 'collision' ? rect(`fill="url(#${HATCH})"`) : rect(`class="tint" fill="${colour}"`))
    parts.push(rect(`fill="none" stroke="${colour}" stroke-width="1.5"`))
  }
  const middle = y + height / 2 + 4
  const style = kind === 'gap' || kind === 'hole' ? 'dim' : ''
  if (kind === 'collision') {
    // Text over hatching stays readable on a plate of its own.
    parts.push(`<rect class="plain" x="${x + 6}" y="${fixed(middle - 13)}" width="${COLUMN - 12}" height="18" rx="3"/>`)
  }
  parts.push(text(x + 10, middle, escapeXml(title), style))
  if (size > 0n) parts.push(text(x + COLUMN - 10, middle, escapeXml(sizeText(size)), 'dim', 'end'))
  return parts.filter((part) => part !== '')
}

/** Where the addresses of a column are drawn. */
class Scale {
  /** Boxes that have addresses, which ascend and do not overlap. */
  private readonly placed: readonly { readonly start: bigint; readonly end: bigint; readonly at: Placed }[]
  private readonly byEnd = new Map<bigint, Placed>()

  constructor(column: readonly Placed[]) {
    this.placed = column.flatMap((at) => (at.box.range === undefined ? [] : [{ ...at.box.range, at }]))
    for (const { end, at } of this.placed) if (!this.byEnd.has(end)) this.byEnd.set(end, at)
  }

  span({ start, end }: Range): [top: number, bottom: number] {
    const last = this.byEnd.get(end)
    return [this.yOf(start), last === undefined ? this.yOf(end) : last.y + last.height]
  }

  /** Inside its box by proportion. */
  private yOf(address: bigint): number {
    const { placed } = this
    let index = 0
    for (let behind = placed.length; index < behind; ) {
      const middle = (index + behind) >> 1
      if (placed[middle]!.end <= address) index = middle + 1
      else behind = middle
    }
    const found = placed[index]
    if (found !== undefined && found.start <= address) {
      const { start, end, at } = found
      return at.y + at.height * (Number(address - start) / Number(end - start))
    }
    const before = placed[index - 1]?.at
    return before === undefined ? TOP : before.y + before.height
  }
}

function ribbonPath({ kind, left, right }: Ribbon, leftScale: Scale, rightScale: Scale): string {
  const [a, b] = leftScale.span(left)
  const [c, d] = rightScale.span(right)
  const from = LEFT + COLUMN
  const middle = (from + RIGHT) / 2
  const curve = (x0: number, y0: number, x1: number, y1: number) =>
    `${x0} ${fixed(y0)}C${middle} ${fixed(y0)} ${middle} ${fixed(y1)} ${x1} ${fixed(y1)}`
  const path = `M${curve(from, a, RIGHT, c)}L${curve(RIGHT, d, from, b)}Z`
  if (kind === 'collision') return `<path d="${path}" fill="url(#${HATCH})" stroke="${COLOURS.collision}"/>`
  return `<path class="ribbon" d="${path}" fill="${COLOURS[kind]}" stroke="${COLOURS[kind]}" stroke-opacity=".5"/>`
}

/** Memory that leads nowhere: a line that ends in a cross. */
function stub({ y, height }: Placed): string {
  const from = LEFT + COLUMN
  const middle = fixed(y + height / 2)
  const end = from + 54
  return `<path d="M${from} ${middle}H${end}m-5 -5l10 10m0 -10l-10 10" fill="none" stroke="${COLOURS.lost}" stroke-width="2"/>`
}

function legendRow(kinds: readonly BoxKind[], y: number): string[] {
  let x = MARGIN
  return kinds.flatMap((kind) => {
    const name = LEGEND[kind]
    const at = x
    x += 30 + name.length * 7.6 + 14
    const fill =
      kind === 'collision'
        ? `fill="url(#${HATCH})"`
        : kind === 'lost'
          ? 'fill="none"'
          : `class="tint" fill="${COLOURS[kind]}"`
    const line = kind === 'lost' ? ' stroke-dasharray="5 3"' : ''
    return [
      `<rect x="${fixed(at)}" y="${y - 11}" width="22" height="14" ${fill}/>`,
      `<rect x="${fixed(at)}" y="${y - 11}" width="22" height="14" fill="none" stroke="${COLOURS[kind]}"${line}/>`,
      text(at + 29, y, name, 'dim'),
    ]
  })
}

function hatch(): string {
  return `<pattern id="${HATCH}" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="plain" width="8" height="8"/><rect width="3.5" height="8" fill="${COLOURS.collision}"/></pattern>`
}

function text(x: number, y: number, content: string, style: string, anchor?: 'start' | 'end'): string {
  const classes = style === '' ? '' : ` class="${style}"`
  return `<text x="${fixed(x)}" y="${fixed(y)}"${classes}${anchor === 'end' ? ' text-anchor="end"' : ''}>${content}</text>`
}

function digits(address: bigint): string {
  return address.toString(16).padStart(16, '0')
}

/** Lines of at most `width` characters, broken at blanks. */
function wrap(remark: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of remark.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function escapeXml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
