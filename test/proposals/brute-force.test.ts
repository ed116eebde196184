import { describe, expect, test } from 'vitest'
import type { Geometry } from '../../src/layout/compute.js'
import { kernHypVa } from '../../src/layout/macro.js'
import type { Machine } from '../../src/layout/types.js'
import { LAYOUT_NAMES, type LayoutName, namedLayout, type Scale } from '../../src/proposals/layouts.js'
import { restrictionsFor } from '../../src/proposals/restrictions.js'
import { verdictOf } from '../../src/proposals/verdict.js'
import { runs } from '../campaign.ts'
import { type Observation, observe, type Sizes, type SmallMachine, tagOf } from './model.js'

// Small address spaces: as 52 bits with 48 below them; as 16K pages have it, with 47; 52 bits built and 48 in use; and with
// as many bits as the build has, where no proposal changes anything.
const TINY: Sizes = { build: 6, actual: 6, min: 4, page: 4, align: 8, window48: 4, window47: 3 }
const PAGES16K: Sizes = { build: 7, actual: 7, min: 4, page: 4, align: 8, window48: 5, window47: 4 }
const NARROW: Sizes = { build: 8, actual: 6, min: 6, page: 4, align: 8, window48: 6, window47: 5 }
const PLAIN: Sizes = { ...NARROW, build: 6 }
/** As 52 bits again, with the quarter that pKVM's private range begins at above both windows. */
const QUARTERED: Sizes = { build: 8, actual: 8, min: 4, page: 4, align: 8, window48: 4, window47: 3 }
const LARGER: Sizes = { build: 12, actual: 12, min: 8, page: 4, align: 16, window48: 8, window47: 7 }

const NAMES = LAYOUT_NAMES.filter((name) => name !== 'kernel' && name !== 'vhe')

function scaleOf(sizes: Sizes): Scale {
  const space = 2n ** BigInt(sizes.actual)
  const half = space / 2n
  const extended = sizes.actual === sizes.build ? space - 2n ** BigInt(sizes.min - 1) : half
  return {
    windowBits: { 'low-window-48': sizes.window48, 'low-window-47': sizes.window47 },
    geometryOf({ generation, mode }: Machine): Geometry {
      const capped = generation === '5.9' || (generation === '5.15' && mode !== 'vhe')
      return {
        generation: generation!,
        vaBits: sizes.build,
        vaBitsActual: sizes.actual,
        hypVaBits: sizes.actual,
        pageOffset: 2n ** 64n - 2n ** BigInt(sizes.build),
        linearSize: capped ? half : extended,
        memstartAlign: BigInt(sizes.align),
        physOffsetBias: 2n ** BigInt(sizes.build) - space,
      }
    },
  }
}

function machineOf(small: SmallMachine, sizes: Sizes): Machine {
  return {
    generation: '5.12',
    mode: small.protected ? 'protected' : 'nvhe',
    pageSize: sizes.page as Machine['pageSize'],
    vaBits: sizes.build,
    dram: small.banks.map(([start, end]) => ({ start: BigInt(start), end: BigInt(end) })),
    idmap: BigInt(small.idmap),
    random: BigInt(small.random),
  }
}

type Numbers = { start: bigint; end: bigint }
const pagesOf = (ranges: readonly Numbers[], page: number): number[] =>
  ranges.flatMap(({ start, end }) =>
    Array.from({ length: Number(end - start) / page }, (_, i) => Number(start) + i * page),
  )

/** All that the formulas say, in the words of the model. */
function formulasSay(name: LayoutName, machine: Machine, sizes: Sizes) {
  const { page } = sizes
  const verdict = verdictOf(machine, namedLayout(machine, name, scaleOf(sizes)))
  const begin = 2n ** 64n - 2n ** BigInt(sizes.actual)
  const walk = (place: typeof verdict.privateNvhe) =>
    place && { start: Number(place.start), room: Number(place.room), noticed: place.noticed }
  const { congruent } = verdict
  return {
    verdict,
    dropped: verdict.banks.flatMap(({ dropped }) => pagesOf(dropped, page)),
    unmapped: verdict.banks.flatMap(({ unmapped }) => pagesOf(unmapped, page)),
    mapped: verdict.banks.flatMap(({ mapped }) => pagesOf(mapped, page)),
    meeting: verdict.collisions.flatMap(({ phys }) => pagesOf([phys], page)),
    congruent:
      congruent === undefined
        ? []
        : Array.from({ length: Number(congruent.count) }, (_, i) =>
            Number(congruent.first.start - begin + BigInt(i) * congruent.step),
          ),
    refused: verdict.startUpCheck === '-EINVAL',
    down: walk(verdict.privateNvhe),
    up: walk(verdict.privatePkvm),
    reasons: [...new Set<string>(verdict.reasons.map(({ kind }) => kind))].sort(),
  }
}

/** Compares everything for one layout on one machine; cheap enough for hundreds of thousands of them. */
function agree(name: LayoutName, small: SmallMachine, sizes: Sizes): Observation {
  const seen = observe(name, small, sizes)
  const said = formulasSay(name, machineOf(small, sizes), sizes)
  const { verdict: _, mapped, ...rest } = said
  const what = {
    dropped: seen.dropped,
    unmapped: seen.unmapped,
    meeting: seen.meeting,
    congruent: seen.congruent,
    refused: seen.refused,
    down: seen.down,
    up: seen.up,
    reasons: [...seen.reasons].sort(),
  }
  // Text first: expect() on this many is what would take the time.
  if (JSON.stringify(rest) !== JSON.stringify(what)) expect({ name, small, ...rest }).toEqual({ name, small, ...what })
  const mappedPages = [...seen.el2.values()].flat().sort((a, b) => a - b)
  if (String(mapped) !== String(mappedPages))
    expect({ name, small, mapped }).toEqual({ name, small, mapped: mappedPages })
  return seen
}

/** kern_hyp_va itself, on every page of the linear map. */
function agreeOnEveryPage(name: LayoutName, small: SmallMachine, sizes: Sizes, seen: Observation): number {
  const { layout } = namedLayout(machineOf(small, sizes), name, scaleOf(sizes))
  const begin = 2n ** 64n - 2n ** BigInt(sizes.actual)
  const end = 2n ** BigInt(sizes.actual)
  seen.hypOf.forEach((hyp, i) => {
    const said = kernHypVa(layout, begin + BigInt(i * sizes.page))
    if (said !== BigInt(hyp) && !(hyp === -1 && said >= end)) {
      expect({ name, small, page: i, hyp: said }).toEqual({ name, small, page: i, hyp: BigInt(hyp) })
    }
  })
  return seen.hypOf.length
}

/** Every way to place one or two banks in a small space, with the idmap at every page of them. */
function* everyMachine(sizes: Sizes): Generator<SmallMachine> {
  const pages = 2 ** sizes.actual / sizes.page
  let n = 0
  for (let a = 0; a < pages; a++) {
    for (let b = a + 1; b <= pages; b++) {
      for (let c = b; c <= pages; c++) {
        for (let d = c + 1; d <= pages + 1; d++) {
          // c = d - 1 = pages stands for one bank.
          if (c === pages ? d !== pages + 1 : d > pages || c === b) continue
          const banks: [number, number][] = [[a * sizes.page, b * sizes.page]]
          if (c < pages) banks.push([c * sizes.page, d * sizes.page])
          for (const [start, end] of banks) {
            for (let idmap = start; idmap < end; idmap += sizes.page) {
              n++
              yield { banks, idmap, protected: n % 2 === 0, random: n % 3 === 0 ? (n * 2654435761) % 4096 : 0 }
            }
          }
        }
      }
    }
  }
}

describe('every layout on every machine of a small space, seen page by page', () => {
  test.each([
    ['extended, as 52 bits', TINY, runs(7, 1)],
    ['extended, as 16K pages', PAGES16K, runs(397, 31)],
    ['a wide build on narrow hardware', NARROW, runs(13, 1)],
    ['not extended', PLAIN, runs(13, 1)],
  ] as const)('%s', (_, sizes, step) => {
    let cases = 0
    let n = 0
    const met = new Set<string>()
    for (const small of everyMachine(sizes)) {
      if (n++ % step !== 0) continue
      for (const name of NAMES) {
        const seen = agree(name, small, sizes)
        for (const reason of seen.reasons) met.add(reason)
        cases += seen.hypOf.length
      }
    }
    expect(cases).toBeGreaterThan(runs(50_000, 200_000))
    // The comparison is worth something only where there is something to see.
    const extended = ['idmap-collision', 'memory-not-mapped', 'no-private-room', 'private-collision', 'start-up-check']
    const classic = ['no-private-room', 'private-collision']
    expect([...met].sort()).toEqual(sizes.actual > sizes.min ? extended : classic)
  })
})

test('twelve bits: kern_hyp_va of every page of the linear map, with the idmap and a bank at every boundary', () => {
  const sizes = LARGER
  const { page } = sizes
  const space = 2 ** sizes.actual
  const boundaries = [2 ** 6, 2 ** 7, 2 ** 8, 2 ** 11, space - 2 ** 8, space - 2 ** 7]
  const around = boundaries.flatMap((at) => [at - page, at, at + page])
  let cases = 0
  for (const bottom of [0, 3 * page]) {
    for (const top of around) {
      for (const idmap of [bottom, bottom + 9 * page, ...around, top]) {
        const low: [number, number] = [bottom, bottom + 12 * page]
        const ends = [idmap, top].map((at): [number, number] => [at, at + page])
        const banks = merged([low, ...ends])
        const small = { banks, idmap, protected: cases % 2 === 0, random: (cases * 2654435761) % 4096 }
        for (const name of NAMES) {
          const seen = agree(name, small, sizes)
          cases += agreeOnEveryPage(name, small, sizes, seen)
        }
      }
    }
  }
  expect(cases).toBeGreaterThan(4_000_000)
})

test('random tag bits: as many as there are tags, over all draws', () => {
  const sizes = LARGER
  const counts = new Set<number>()
  for (const name of NAMES) {
    for (const length of [4, 12, 64, 128, 252, 256, 260, 512, 1024, 1028, 2048, 2052]) {
      const small = { banks: [[0, length]] as [number, number][], idmap: 0, protected: false, random: 0 }
      const { randomTagBits, layout } = namedLayout(machineOf(small, sizes), name, scaleOf(sizes))
      const classic = layout.tag === undefined && layout.proposal !== 'overlap-top-window'
      const lsb = Math.ceil(Math.log2(length))
      const tags = new Set<number>()
      for (let random = 0; random < 2 ** sizes.actual; random += 2) {
        tags.add(classic ? tagOf(name, { ...small, random }, sizes, lsb) : 0)
      }
      expect(2 ** randomTagBits, `${name}, ${length} bytes`).toBe(tags.size)
      counts.add(randomTagBits)
    }
  }
  expect(counts.size).toBeGreaterThan(5)
})

describe('restrictions', () => {
  const sound = (name: LayoutName, small: SmallMachine, sizes: Sizes) => observe(name, small, sizes).reasons.size === 0
  const bytes = (banks: readonly [number, number][]) => banks.reduce((sum, [start, end]) => sum + end - start, 0)
  const below = (banks: readonly [number, number][], limit: number) =>
    banks.filter(([start]) => start < limit).map(([start, end]): [number, number] => [start, Math.min(end, limit)])
  const windows = (sizes: Sizes) => [2 ** sizes.window48, 2 ** sizes.window47]

  /** The idmap at every page of memory below a limit; false as well where there is none. */
  function soundBelow(name: LayoutName, small: SmallMachine, sizes: Sizes, limit: number): boolean {
    const places = below(small.banks, limit).flatMap(([start, end]) => {
      return Array.from({ length: (end - start) / sizes.page }, (_, i) => start + i * sizes.page)
    })
    return places.length > 0 && places.every((idmap) => sound(name, { ...small, idmap }, sizes))
  }

  /** The least memory to give up, over every limit for it; undefined where none is low enough. */
  function leastCost(small: SmallMachine, sizes: Sizes, above: number, test: (cut: SmallMachine) => boolean) {
    for (let limit = 2 ** sizes.actual + sizes.page; limit > above; limit -= sizes.page) {
      const banks = below(small.banks, limit)
      if (banks.length > 0 && test({ ...small, banks })) return bytes(small.banks) - bytes(banks)
    }
    return undefined
  }

  function wanted(name: LayoutName, small: SmallMachine, sizes: Sizes): string[] {
    const { reasons, meeting } = observe(name, small, sizes)
    if (reasons.size === 0) return []
    const found: string[] = []
    if (reasons.size === 1 && reasons.has('idmap-collision')) found.push(`keep ${meeting} free: ${sizes.page}`)
    for (const limit of windows(sizes)) {
      if (soundBelow(name, small, sizes, limit)) found.push(`kernel below ${limit}: 0`)
    }
    const cost = leastCost(small, sizes, small.idmap, (cut) => sound(name, cut, sizes))
    if (cost !== undefined) found.push(`memory below a limit: ${cost}`)
    if (found.length > 0) return found
    for (const limit of windows(sizes)) {
      const lowest = small.banks[0]![0]
      if (lowest >= limit) continue
      const least = leastCost(small, sizes, lowest, (cut) => soundBelow(name, cut, sizes, limit))
      if (least !== undefined) found.push(`kernel below ${limit} and memory below a limit: ${least}`)
    }
    return found
  }

  function said(name: LayoutName, small: SmallMachine, sizes: Sizes): string[] {
    const machine = machineOf(small, sizes)
    const verdict = verdictOf(machine, namedLayout(machine, name, scaleOf(sizes)))
    return restrictionsFor(machine, verdict, scaleOf(sizes)).map(({ kernelBelow, dramBelow, keepFree, cost }) => {
      if (keepFree) return `keep ${keepFree.map(({ start }) => start)} free: ${cost}`
      if (kernelBelow === undefined) return `memory below a limit: ${cost}`
      return dramBelow === undefined
        ? `kernel below ${kernelBelow}: ${cost}`
        : `kernel below ${kernelBelow} and memory below a limit: ${cost}`
    })
  }

  test.each([
    ['extended, as 52 bits', TINY, runs(347, 11)],
    ['with a quarter above the windows', QUARTERED, runs(600_011, 50_021)],
  ] as const)('are what trying every place of the kernel and every limit for memory finds: %s', (_, sizes, step) => {
    let n = 0
    const kinds = new Map<string, number>()
    for (const small of everyMachine(sizes)) {
      if (n++ % step !== 0) continue
      for (const mode of [false, true]) {
        // Without a draw: the code takes a given one along to other tag_lsb, where it means other bits.
        const still = { ...small, protected: mode, random: 0 }
        for (const name of NAMES) {
          const expected = wanted(name, still, sizes)
          const restrictions = said(name, still, sizes)
          // Text first, as above.
          if (String(restrictions) !== String(expected))
            expect({ name, still, restrictions }).toEqual({ name, still, restrictions: expected })
          for (const text of expected) {
            const kind = text.replace(/[0-9]+/g, 'N')
            kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
          }
        }
      }
    }
    expect([...kinds.keys()].sort()).toEqual([
      'keep N free: N',
      'kernel below N and memory below a limit: N',
      'kernel below N: N',
      'memory below a limit: N',
    ])
  })
})

/** Ranges sorted, overlapping and touching ones as one. */
function merged(ranges: [number, number][]): [number, number][] {
  const result: [number, number][] = []
  for (const [start, end] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = result.at(-1)
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end)
    else result.push([start, end])
  }
  return result
}
