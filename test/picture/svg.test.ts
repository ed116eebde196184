import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { checkProposals, computeLayout, type HypLayout, parseMachine, renderSvg } from '../../src/index.js'
import { chromiumPath, declaredContrast, estimate, type Measured, measureAll } from './chromium.js'

const MACHINES = join(import.meta.dirname, '../../samples/machines')

/** Every layout on every sample, and layouts that say little. */
const pictures: [name: string, svg: string][] = readdirSync(MACHINES).flatMap((file): [string, string][] => {
  const machine = parseMachine(readFileSync(join(MACHINES, file), 'utf8'))
  const layout = computeLayout(machine.tagVal === undefined ? { ...machine, random: 0n } : machine)
  const verdicts = checkProposals(machine).map((verdict): [string, string] => [
    `${file} ${verdict.name}`,
    renderSvg(verdict),
  ])
  return [...verdicts, [`${file} layout`, renderSvg(layout)]]
})
const sparse: HypLayout[] = [
  { tagLsb: 35, tagVal: 0x1e83n },
  { mode: 'vhe' },
  { tagLsb: 31, tagVal: 0x1n, hypVaBits: 48, idmap: 0x40000000n, vaBits: 48 },
]
pictures.push(...sparse.map((layout, i): [string, string] => [`sparse ${i}`, renderSvg(layout)]))

function faults({ frame, texts }: Omit<Measured, 'contrast'>): string[] {
  const found: string[] = []
  texts.forEach((a, i) => {
    if (a.left < 0 || a.top < 0 || a.right > frame.width || a.bottom > frame.height) found.push(`outside: ${a.text}`)
    for (const b of texts.slice(i + 1)) {
      // Lines of text may share the room between their letters.
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left)
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
      if (across > 0.5 && down > 1) found.push(`overlap: ${a.text} / ${b.text}`)
    }
  })
  return found
}

describe('no labels overlap and none leaves the frame', () => {
  // Without a Chromium the same is asked of an estimate; with one, of both.
  let measured: Measured[] | undefined
  beforeAll(async () => {
    if (chromiumPath !== undefined)
      measured = await measureAll(
        pictures.map(([, svg]) => svg),
        chromiumPath,
      )
  })

  test('by estimate', () => {
    expect(pictures.length).toBeGreaterThan(100)
    for (const [name, svg] of pictures) {
      const { frame, texts } = estimate(svg)
      expect(texts.length, name).toBe([...svg.matchAll(/<text /g)].length)
      expect([name, faults({ frame, texts })]).toEqual([name, []])
    }
  })

  test('in Chromium', () => {
    const seen = measured ?? pictures.map(([, svg]) => ({ ...estimate(svg), contrast: declaredContrast(svg) }))
    pictures.forEach(([name], i) => {
      expect(seen[i]!.texts.length).toBeGreaterThan(3)
      expect([name, faults(seen[i]!)]).toEqual([name, []])
      expect(seen[i]!.contrast.light, name).toBeGreaterThan(4.5)
      expect(seen[i]!.contrast.dark, name).toBeGreaterThan(4.5)
    })
  })

  test('and the search for faults finds them', () => {
    const [, svg] = pictures[0]!
    const broken = svg.replace(/(<text x=")[\d.]+(" y=")[\d.]+/g, '$1140$290')
    expect(faults(estimate(broken)).some((fault) => fault.startsWith('overlap'))).toBe(true)
    expect(faults(estimate(svg.replace(/(<text x=")[\d.]+/, '$11050')))[0]).toMatch(/^outside/)
  })
})

describe('what is drawn', () => {
  const corner = parseMachine(readFileSync(join(MACHINES, 'corner.json'), 'utf8'))
  const draw = (name: Parameters<typeof checkProposals>[1] & {}) => renderSvg(checkProposals(corner, name)[0]!)

  test('title, description and role for screen readers', () => {
    const svg = draw(['low-window-48'])
    expect(svg).toMatch(/^<svg [^>]*role="img" aria-labelledby="(hypva-[0-9a-f]{8})-title \1-desc"/)
    expect(svg).toMatch(/<title id="hypva-[0-9a-f]{8}-title">low-window-48<\/title>/)
    const [, description] = /<desc id="hypva-[0-9a-f]{8}-desc">(.*)<\/desc>/.exec(svg)!
    expect(description).toContain('Unsound: physical 0xf3c0000000000')
    expect(description).toContain(
      'At EL2: private at 0x0, 2064 MiB; idmap page at 0x81000000, 64 KiB; linear memory, bank 0 at 0x1000000000000',
    )
  })

  test('pictures of different subjects share no id, and each has all that it refers to', () => {
    const pictures = [draw(['low-window-48']), draw(['overlap-top-window']), draw(['cap-51'])]
    const ids = pictures.flatMap((svg) => [...svg.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id!))
    expect(new Set(ids).size).toBe(ids.length)
    for (const svg of pictures) {
      for (const [, id] of svg.matchAll(/url\(#([^)]*)\)/g)) expect(svg).toContain(`<pattern id="${id}"`)
    }
  })

  test('hatching for collisions, a broken outline and a cross for memory that is lost', () => {
    const shapes = (svg: string) => ({
      hatched: [...svg.matchAll(/fill="url\(#hypva-[0-9a-f]{8}-hatch\)"/g)].length,
      broken: [...svg.matchAll(/<rect [^>]*stroke-dasharray="6 4"/g)].length,
      crosses: [...svg.matchAll(/l10 10m0 -10l-10 10/g)].length,
      ribbons: [...svg.matchAll(/class="ribbon"/g)].length,
    })
    expect(shapes(draw(['low-window-48']))).toEqual({ hatched: 0, broken: 1, crosses: 1, ribbons: 2 })
    expect(shapes(draw(['cap-51']))).toEqual({ hatched: 0, broken: 1, crosses: 1, ribbons: 2 })
    expect(shapes(draw(['low-window-47']))).toEqual({ hatched: 0, broken: 0, crosses: 0, ribbons: 3 })
    // The page at EL1, the page at EL2, what joins them, and the legend.
    expect(shapes(draw(['overlap-top-window']))).toEqual({ hatched: 4, broken: 0, crosses: 0, ribbons: 3 })
  })

  test('the harmless collision is not hatched', () => {
    const machine = { ...corner, dram: [{ start: 0n, end: 2n ** 36n }] }
    const svg = renderSvg(checkProposals(machine, ['overlap-top-window'])[0]!)
    expect(svg).toContain('idmap = its own memory')
    expect(svg).not.toContain('fill="url(#')
  })

  test('every address and size stands in it once for each side', () => {
    const svg = draw(['low-window-47'])
    for (const address of [
      'fff0000000000000',
      'ffff3bff80000000',
      '0000800000000000',
      '000fbc3f80000000',
      '0010000000000000',
    ]) {
      expect(svg.split(`>${address}<`).length, address).toBe(2)
    }
    expect(svg).toContain('>256 GiB<')
  })

  test('is well-formed, with both colour schemes, and of nothing from outside', () => {
    for (const [name, svg] of pictures) {
      const open: string[] = []
      for (const [, close, tag, self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
        if (close) expect([name, open.pop()]).toEqual([name, tag])
        else if (!self) open.push(tag!)
      }
      expect([name, open]).toEqual([name, []])
      expect(svg).toContain('prefers-color-scheme:dark')
      expect(svg.replace('xmlns="http://www.w3.org/2000/svg"', '')).not.toMatch(/https?:|<script|<image|@import/)
      expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    }
  })
})
