import type { Timing } from './measure.js'

interface Ratio {
  readonly what: string
  readonly median: number
  readonly min: number
  readonly max: number
  /** The bar it should reach, where there is one; `most` when lower is better. */
  readonly target: number | undefined
  readonly most: boolean
}

/** Collects what was measured, prints it as it comes, and at the end as JSON when asked for. */
export class Report {
  private readonly json: boolean
  private readonly tables: {
    title: string
    rows: { name: string; median: string; slowest: string; fastest: string }[]
  }[] = []
  private readonly ratios: Ratio[] = []
  private readonly costs: { tier: string; nanoseconds: number }[] = []

  constructor(json: boolean) {
    this.json = json
  }

  say(text: string): void {
    if (!this.json) console.log(text)
  }

  /** Timings of subjects that were measured in turns, in a unit of the caller's. */
  table(title: string, timings: readonly Timing[], unit: (ms: number) => string): void {
    const rows = timings.map(({ name, median, min, max }) => ({
      name,
      median: unit(median),
      slowest: unit(max),
      fastest: unit(min),
    }))
    this.tables.push({ title, rows })
    this.say(`\n${title}`)
    for (const { name, median, slowest, fastest } of rows) {
      this.say(`  ${name.padEnd(44)} ${median.padStart(16)}   (${slowest} … ${fastest})`)
    }
  }

  /** A ratio out of one run, beside its bar. */
  ratio(what: string, value: { median: number; min: number; max: number }, target?: number, most = false): void {
    this.ratios.push({ what, ...value, target, most })
  }

  /** Nanoseconds an address costs in one tier. */
  cost(tier: string, nanoseconds: number): void {
    this.costs.push({ tier, nanoseconds })
  }

  finish(machine: object): void {
    const noisy = this.ratios.filter(({ median, min, max }) => (max - min) / median > 0.5)
    if (this.json) {
      const { tables, costs, ratios } = this
      console.log(JSON.stringify({ machine, tables, costs, ratios, noisy: noisy.map(({ what }) => what) }, null, 2))
      return
    }
    this.say('\nRatios: median of the rounds (least … most)')
    for (const { what, median, min, max, target, most } of this.ratios) {
      const bar =
        target === undefined
          ? ''
          : `  ${(most ? median <= target : median >= target) ? 'reaches' : 'misses '} ${most ? '≤' : '≥'} ${target}`
      this.say(`  ${what.padEnd(64)} ${median.toFixed(2).padStart(7)}  (${min.toFixed(2)} … ${max.toFixed(2)})${bar}`)
    }
    if (noisy.length > 0) {
      this.say(
        `\nThe machine was noisy: ${noisy.length} of ${this.ratios.length} ratios spread by more than half of their median.`,
      )
    }
  }
}
