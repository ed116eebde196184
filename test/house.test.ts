import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const SRC = join(dirname(dirname(fileURLToPath(import.meta.url))), 'src')

/** The floors of the house, from the ground up: a file imports from its own floor and from those below, never from above. */
const FLOORS: readonly (readonly string[])[] = [
  // Files of src/ itself that everything may use.
  ['u64.ts', 'group-by.ts', 'errors.ts', 'source.ts', 'content.ts'],
  ['layout'],
  ['engine'],
  ['symbols'],
  ['translate'],
  ['evidence', 'proposals'],
  ['panic', 'picture'],
  ['index.ts'],
  ['cli'],
]

const FILES = readdirSync(SRC, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.c?ts$/.test(entry.name) && !entry.name.endsWith('.generated.ts'))
  .map((entry) => relative(SRC, join(entry.parentPath, entry.name)))

/** What each file imports of src, types included. */
const IMPORTS = new Map(
  FILES.map((file) => {
    const text = readFileSync(join(SRC, file), 'utf8')
    const named = [...text.matchAll(/(?:\bfrom|\bimport|\brequire|\bimport\()\s*\(?\s*'(\.[^']+)'/g)]
    return [
      file,
      named.map(([, name]) => posix.join(posix.dirname(file), name!).replace(/\.(c?)js$/, '.$1ts')),
    ] as const
  }),
)

function floorOf(file: string): number {
  const room = file.includes('/') ? file.slice(0, file.indexOf('/')) : file
  return FLOORS.findIndex((floor) => floor.includes(room))
}

describe('the house', () => {
  test('has a floor for every file', () => {
    expect(FILES.length).toBeGreaterThan(80)
    expect(FILES.filter((file) => floorOf(file) < 0)).toEqual([])
  })

  test('imports nothing upwards', () => {
    const arrows = [...IMPORTS].flatMap(([file, targets]) => targets.map((target) => [file, target] as const))
    expect(arrows.length).toBeGreaterThan(200)
    const upwards = arrows.filter(([file, target]) => floorOf(target) > floorOf(file))
    expect(upwards.map((arrow) => arrow.join(' → '))).toEqual([])
  })

  test('has no circle of files, nor one of folders', () => {
    expect(circleOf(IMPORTS)).toEqual([])
    const rooms = new Map<string, string[]>()
    for (const [file, targets] of IMPORTS) {
      const room = posix.dirname(file)
      // A folder and those inside it are one thing with parts: what a part uses of the whole is no circle.
      const related = (other: string) => `${other}/`.startsWith(`${room}/`) || `${room}/`.startsWith(`${other}/`)
      const others = targets.map((target) => posix.dirname(target)).filter((other) => !related(other))
      rooms.set(room, [...(rooms.get(room) ?? []), ...others.filter((other) => other !== '.' && room !== '.')])
    }
    expect(circleOf(rooms)).toEqual([])
  })

  test('has no two files of one name, but for the commands, which are named after what they print', () => {
    const names = FILES.filter((file) => !file.startsWith('cli/commands/')).map((file) => posix.basename(file))
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
  })
})

/** The first circle found, or nothing. */
function circleOf(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const done = new Set<string>()
  const path: string[] = []
  const visit = (node: string): string[] => {
    const at = path.indexOf(node)
    if (at >= 0) return [...path.slice(at), node]
    if (done.has(node)) return []
    path.push(node)
    for (const next of graph.get(node) ?? []) {
      const circle = visit(next)
      if (circle.length > 0) return circle
    }
    path.pop()
    done.add(node)
    return []
  }
  for (const node of graph.keys()) {
    const circle = visit(node)
    if (circle.length > 0) return circle
  }
  return []
}
