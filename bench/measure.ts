import { Bench } from 'tinybench'

/**
 * Something to be timed. A number that it returns is the milliseconds it took by its own clock, for `repetitions` of the
 * work (1 when absent).
 */
export interface Subject {
  readonly name: string
  readonly repetitions?: number
  /** What is done before each call, untimed. */
  before?(): void
  run(): unknown
}

/** Times of one subject in milliseconds a call: the median of all rounds' medians, and the rounds' extremes. */
export interface Timing {
  readonly name: string
  readonly median: number
  readonly min: number
  readonly max: number
  /** Median of each round. */
  readonly rounds: readonly number[]
}

interface MeasureOptions {
  /** How often the subjects take turns. */
  readonly rounds?: number
  /** Milliseconds a subject runs in a round, and the calls it makes at least. */
  readonly time?: number
  readonly iterations?: number
}

/**
 * Times subjects that are to be compared, in turns and each time in another order: what the machine does beside falls on all
 * of them alike, and their ratio is taken round by round.
 */
export async function measure(
  subjects: readonly Subject[],
  options: MeasureOptions = {},
): Promise<Map<string, Timing>> {
  const { rounds = 7, time = 40, iterations = 3 } = options
  const medians = new Map<string, number[]>(subjects.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    const bench = new Bench({ time, iterations, warmup: round === 0, warmupTime: time, warmupIterations: iterations })
    // Whoever comes first finds other caches and clocks than the rest: each does in one of the rounds.
    const first = round % subjects.length
    for (const subject of [...subjects.slice(first), ...subjects.slice(0, first)]) {
      const call = () => {
        const result = subject.run()
        if (result instanceof Promise) return result.then(duration)
        return duration(result)
      }
      bench.add(subject.name, call, { beforeEach: () => subject.before?.() })
    }
    await bench.run()
    for (const task of bench.tasks) {
      const { result } = task
      if (!('latency' in result)) throw new Error(`${task.name}: ${'error' in result ? result.error : result.state}`)
      const { repetitions = 1 } = subjects.find(({ name }) => name === task.name)!
      medians.get(task.name)!.push(result.latency.p50 / repetitions)
    }
  }
  return new Map(
    [...medians].map(([name, times]) => [
      name,
      { name, median: median(times), min: Math.min(...times), max: Math.max(...times), rounds: times },
    ]),
  )
}

function duration(own: unknown): { overriddenDuration: number } | undefined {
  return typeof own === 'number' ? { overriddenDuration: own } : undefined
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1]!
}

/** How much faster `a` is than `b`: the median over the rounds of b's time by a's, and its extremes. */
export function ratio(a: Timing, b: Timing): { median: number; min: number; max: number } {
  const ratios = a.rounds.map((time, i) => b.rounds[i]! / time)
  return { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) }
}
