import pc from 'picocolors'
import type { BoxKind, Subject } from '../picture/scene.js'
import { renderSvg } from '../picture/svg.js'
import { renderText } from '../picture/terminal.js'
import { writeOutput } from './io/output.js'

/** No terminal is this wide for one's eyes. */
const WIDEST = 160

/** The picture of a layout for standard output: as wide as the terminal, in colour where it is one and NO_COLOR is not set. */
export function textPicture(subject: Subject): string {
  const { isTTY, columns = 80 } = process.stdout
  const width = Math.min(WIDEST, Math.max(60, columns))
  if (!isTTY || process.env.NO_COLOR) return renderText(subject, { width })
  const { blue, cyan, dim, green, magenta, red, yellow } = pc.createColors(true)
  const colours: Readonly<Record<BoxKind, (text: string) => string>> = {
    linear: blue,
    image: cyan,
    modules: dim,
    idmap: yellow,
    private: green,
    vmemmap: magenta,
    hole: dim,
    gap: dim,
    collision: red,
    lost: red,
  }
  return renderText(subject, { width, paint: (kind, text) => colours[kind](text) })
}

export function writeSvg(file: string, subject: Subject): void {
  writeOutput(file, renderSvg(subject))
}
