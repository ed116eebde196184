import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkProposals, parseMachine, renderText } from '../../src/index.js'
import { sizeText } from '../../src/picture/size.js'

const MACHINES = join(import.meta.dirname, '../../samples/machines')
const machine = (name: string) => parseMachine(readFileSync(join(MACHINES, name), 'utf8'))

test('a low window, in sixty columns', () => {
  expect(renderText(checkProposals(machine('corner.json'), ['low-window-48'])[0]!, { width: 60 })).toBe(
    `low-window-48: UNSOUND
kern_hyp_va(x) = (x & 0xfffffffffffff) + 0x1000000000000

EL1: kernel addresses          EL2: hyp addresses
fff0000000000000 █ bank 0    → 0000000000000000 ▚ private
                 █ 64 GiB                       ▚ 2064 MiB
                 █             0000000081000000 ◆ idmap
fff0001000000000 ┆ no memory                    ◆ 64 KiB
                 ┆ ≈1024 TiB   0000000081010000   unused
fff3ffff80000000 █ bank 1    →                    ≈256 TiB
                 █ 256 GiB     0001000000000000 █ bank 0
                 █                              █ 64 GiB
fff4003f80000000 ┆ no memory                    █
                 ┆ ≈2876 TiB   0001001000000000 ┆ no memory
ffff3bff80000000 ✗ NO HYP VA ✗                  ┆ ≈1024 TiB
                 ✗ 256 GiB     0004ffff80000000 █ bank 1
                 ✗                              █ 256 GiB
ffff3c3f80000000 ┆ no memory                    █
                 ┆ ≈67.8 TiB   0005003f80000000 ┆ no memory
ffff800000000000 ▒ modules                      ┆ ≈2816 TiB
                 ▒ 256 MiB

█ linear memory  ┆ linear, no memory  ✗ not mapped
▒ modules  ▚ private  ◆ idmap
`,
  )
})

test.each([60, 61, 72, 80, 100, 120, 200])('%i columns are enough for every sample, and are kept to', (width) => {
  for (const file of readdirSync(MACHINES)) {
    for (const verdict of checkProposals(machine(file))) {
      const text = renderText(verdict, { width })
      for (const line of text.split('\n'))
        expect(line.length, `${file} ${verdict.name}: ${line}`).toBeLessThanOrEqual(width)
      // Nothing is cut off but a title.
      expect(text.split('\n').slice(1).join('\n')).not.toContain('…')
    }
  }
})

describe('options', () => {
  const [verdict] = checkProposals(machine('corner.json'), ['overlap-top-window'])

  test('paint colours and does not move', () => {
    const kinds = new Set<string>()
    const painted = renderText(verdict!, {
      paint: (kind, text) => {
        kinds.add(kind)
        return `<${text}>`
      },
    })
    expect(painted.replace(/[<>]/g, '')).toBe(renderText(verdict!))
    expect([...kinds].sort()).toEqual(['collision', 'hole', 'linear', 'modules', 'private'])
  })

  test.each([59, 0, -1, 80.5, Number.NaN])('width %s is refused', (width) => {
    expect(() => renderText(verdict!, { width })).toThrow(expect.objectContaining({ code: 'HYPVA_ARGUMENT' }))
  })
})

test.each([
  [0n, '0 bytes'],
  [1n, '1 bytes'],
  [4096n, '4 KiB'],
  [9999n, '9999 bytes'],
  [10001n, '≈9.8 KiB'],
  [2n ** 31n, '2 GiB'],
  [2064n * 2n ** 20n, '2064 MiB'],
  [3968n * 2n ** 40n, '3968 TiB'],
  [2n ** 52n, '4 PiB'],
  [2n ** 50n - 2n ** 36n, '≈1024 TiB'],
  [2n ** 64n, '16 EiB'],
])('%s bytes are %s', (bytes, text) => {
  expect(sizeText(bytes)).toBe(text)
})
