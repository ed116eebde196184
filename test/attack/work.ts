import { Session } from 'node:inspector'

interface Range {
  readonly startOffset: number
  readonly endOffset: number
  readonly count: number
}
interface Coverage {
  readonly result: readonly {
    readonly url: string
    readonly functions: readonly { readonly ranges: readonly Range[] }[]
  }[]
}

const session = new Session()
session.connect()

function post(method: string, params?: object): unknown {
  let answer: unknown
  session.post(method, params, (error, result) => {
    if (error !== null) throw error
    answer = result
  })
  return answer
}

// Before any function is compiled whose blocks are to be counted: that is at its first call.
post('Profiler.enable')
post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })

/** What the language does itself for a call, in characters or elements looked at or moved. */
const BUILT_IN: readonly (readonly [
  object,
  string,
  (self: { length: number }, args: unknown[], result: unknown) => number,
])[] = [
  [
    String.prototype,
    'indexOf',
    (self, [, from = 0], at) => ((at as number) < 0 ? self.length : (at as number)) - Number(from),
  ],
  [Array.prototype, 'indexOf', (self, _, at) => ((at as number) < 0 ? self.length : (at as number))],
  [Array.prototype, 'includes', (self) => self.length],
  [Array.prototype, 'concat', (_, __, result) => (result as unknown[]).length],
]

/**
 * How much work a call does: how often each block of our source ran, as V8 counts it for coverage, and what the built-in
 * functions did for it that look at whole strings and arrays. No clock: the same call always does the same work.
 */
export function workOf(call: () => unknown): number {
  let work = 0
  const originals = BUILT_IN.map(([owner, name, cost]) => {
    const methods = owner as Record<string, (...args: unknown[]) => unknown>
    const original = methods[name]!
    methods[name] = function (this: { length: number }, ...args) {
      const result = original.apply(this, args)
      work += Math.max(0, cost(this, args, result))
      return result
    }
    return () => {
      methods[name] = original
    }
  })
  // Taking the counts sets them back.
  post('Profiler.takePreciseCoverage')
  try {
    call()
  } finally {
    for (const restore of originals) restore()
  }
  const { result } = post('Profiler.takePreciseCoverage') as Coverage
  for (const { url, functions } of result) {
    if (!url.includes('/src/')) continue
    for (const { ranges } of functions) for (const { count } of ranges) work += count
  }
  return work
}

/**
 * How the work grows from a size to four times as much, what comes with any size set aside: 3 where it is linear, 15 where it is
 * quadratic.
 */
export function growth(size: number, call: (size: number) => unknown): number {
  // What loads or compiles once is none of it.
  call(1)
  const [least, small, large] = [1, size, 4 * size].map((one) => workOf(() => call(one))) as [number, number, number]
  return (large - small) / (small - least)
}
