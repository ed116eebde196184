import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'

/** A text of a picture, and where it is: user units from the top left corner. */
export interface TextBox {
  text: string
  left: number
  top: number
  right: number
  bottom: number
}

export interface Measured {
  frame: { width: number; height: number }
  texts: TextBox[]
  /** The least contrast of text with the page under it, as WCAG counts it. */
  contrast: { light: number; dark: number }
}

const PLACES = [
  process.env.CHROMIUM_PATH ?? '',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/usr/bin/google-chrome-stable',
  '/usr/lib/chromium/chromium',
  '/snap/bin/chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
]

/** A Chromium of this machine, if there is one. */
export const chromiumPath: string | undefined = PLACES.find((path) => path !== '' && existsSync(path))

/** Renders pictures in Chromium and measures them. */
export async function measureAll(svgs: readonly string[], executablePath: string): Promise<Measured[]> {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
  try {
    const page = await browser.newPage({ viewport: { width: 1200, height: 1400 } })
    const results: Measured[] = []
    for (const svg of svgs) {
      await page.setContent(`<!doctype html><body style="margin:0">${svg}`)
      const contrast = { light: 0, dark: 0 }
      for (const scheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: scheme })
        contrast[scheme] = await page.evaluate(() => {
          const luminance = (colour: string) => {
            const [r, g, b] = colour
              .match(/\d+/g)!
              .slice(0, 3)
              .map((c) => Number(c) / 255)
              .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
            return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
          }
          const fill = (element: Element) => luminance(getComputedStyle(element).fill)
          const paper = fill(document.querySelector('.page')!)
          const ratios = [...document.querySelectorAll('text')].map((text) => {
            const ink = fill(text)
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)
          })
          return Math.min(...ratios)
        })
      }
      const { frame, texts } = await page.evaluate(() => {
        const { width, height } = document.querySelector('svg')!.getBoundingClientRect()
        const texts = [...document.querySelectorAll('text')].map((element) => {
          const { left, top, right, bottom } = element.getBoundingClientRect()
          return { text: element.textContent ?? '', left, top, right, bottom }
        })
        return { frame: { width, height }, texts }
      })
      results.push({ frame, texts, contrast })
    }
    return results
  } finally {
    await browser.close()
  }
}

/** The least contrast of the text colours that an SVG declares with the pages it declares. */
export function declaredContrast(svg: string): Measured['contrast'] {
  const [light, dark] = [...svg.matchAll(/\.hypva\{(--[^}]*)\}/g)].map(([, colours]) => {
    const luminance = (name: string) => {
      const [, hex] = new RegExp(`--${name}:#([0-9a-f]{6})`).exec(colours!)!
      const [r, g, b] = [0, 2, 4].map((at) => {
        const c = Number.parseInt(hex!.slice(at, at + 2), 16) / 255
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
      })
      return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
    }
    const paper = luminance('bg')
    const ratios = ['fg', 'dim', 'bad', 'good'].map((name) => {
      const ink = luminance(name)
      return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)
    })
    return Math.min(...ratios)
  })
  return { light: light!, dark: dark! }
}

/** Where texts are by the SVG alone: its attributes, and widths of DejaVu's letters, which are wider than most. */
export function estimate(svg: string): Omit<Measured, 'contrast'> {
  const [, width, height] = /<svg [^>]*width="(\d+)" height="(\d+)"/.exec(svg)!
  const texts = [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)"( class="([^"]*)")?( text-anchor="end")?>([^<]*)</g)]
  return {
    frame: { width: Number(width), height: Number(height) },
    texts: texts.map(([, x, y, , style = '', anchor, content]) => {
      const text = content!.replaceAll('&amp;', '&').replaceAll('&lt;', '<').replaceAll('&gt;', '>')
      const size = /title/.test(style) ? 20 : /side/.test(style) ? 13 : /mono/.test(style) ? 11 : 12
      const letter = /mono/.test(style) ? 0.602 : /title|side|bad|good/.test(style) ? 0.68 : 0.6
      const length = text.length * letter * size
      const left = anchor === undefined ? Number(x) : Number(x) - length
      return { text, left, right: left + length, top: Number(y) - size * 0.93, bottom: Number(y) + size * 0.24 }
    }),
  }
}
