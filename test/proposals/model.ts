// An EL2 address space small enough to try every page of it: docs/kernel-facts.md, 1, 4 and 5 in plain numbers, page by
// page, with no formula and no code in common with src/.

import type { LayoutName } from '../../src/proposals/layouts.js'

/** The sizes of a small address space; addresses are numbers, sizes in bytes. */
export interface Sizes {
  /** VA bits of the build, VA bits in use, and those that the top of EL1's linear map follows. */
  build: number
  actual: number
  min: number
  page: number
  /** Alignment of memstart_addr. */
  align: number
  /** The two low windows, in bits. */
  window48: number
  window47: number
}

export interface SmallMachine {
  banks: [start: number, end: number][]
  idmap: number
  protected: boolean
  /** The random word; only its low bits matter. */
  random: number
}

export interface Observation {
  /** EL1's linear map: which physical page is at each offset; -1 where there is none. */
  linear: number[]
  /** The hyp VA of the linear map's offsets, one a page; -1 where there is none. */
  hypOf: number[]
  /** Physical pages by hyp page. */
  el2: Map<number, number[]>
  dropped: number[]
  unmapped: number[]
  /** Physical pages mapped over the idmap, and offsets that would be if there were memory. */
  meeting: number[]
  congruent: number[]
  refused: boolean
  down: Walk
  up: Walk
  reasons: Set<string>
}

export interface Walk {
  start: number
  room: number
  noticed: boolean
}

/** Bytes of EL1's linear map under a layout. */
export function linearBytes(name: LayoutName, sizes: Sizes): number {
  const half = 2 ** (sizes.actual - 1)
  const extended = sizes.actual === sizes.build ? 2 ** sizes.actual - 2 ** (sizes.min - 1) : half
  return name === 'half-split' || name === 'cap-51' ? half : extended
}

/** What a layout does, seen by doing it. */
export function observe(name: LayoutName, machine: SmallMachine, sizes: Sizes): Observation {
  const { page } = sizes
  const space = 2 ** sizes.actual
  const capacity = linearBytes(name, sizes)
  const memory: number[] = []
  for (const [start, end] of machine.banks) for (let pa = start; pa < end; pa += page) memory.push(pa)

  // arm64_memblock_init()
  let memstart = Math.floor(memory[0]! / sizes.align) * sizes.align
  let kept = memory
  const imageEnd = machine.idmap + page
  if (imageEnd > memstart + capacity) {
    kept = memory.filter((pa) => pa < imageEnd)
    let lowest = memstart
    while (lowest + capacity < kept[kept.length - 1]! + page) lowest += sizes.align
    kept = kept.filter((pa) => pa >= lowest)
    memstart = lowest
  } else kept = memory.filter((pa) => pa < memstart + capacity)
  const dropped = memory.filter((pa) => !kept.includes(pa))

  const linear: number[] = new Array(capacity / page).fill(-1)
  for (const pa of kept) linear[(pa - memstart) / page] = pa
  const firstByte = kept[0]! - memstart
  const lastByte = kept[kept.length - 1]! - memstart + page - 1

  // tag_lsb: the fewest low bits without which the two ends look the same.
  let lsb = 0
  while (Math.floor(firstByte / 2 ** lsb) !== Math.floor(lastByte / 2 ** lsb)) lsb++
  const tag = tagOf(name, machine, sizes, lsb)
  const transform = (offset: number): number => {
    if (!isClassic(name, sizes)) return name === 'overlap-top-window' ? offset : offset + windowOf(name, sizes)
    return (offset % 2 ** lsb) + tag
  }

  const hypOf: number[] = []
  const el2 = new Map<number, number[]>()
  const unmapped: number[] = []
  const meeting: number[] = []
  const congruent: number[] = []
  for (let offset = 0; offset < capacity; offset += page) {
    const hyp = transform(offset)
    const exists = hyp < space
    hypOf.push(exists ? hyp : -1)
    if (exists && hyp === machine.idmap) congruent.push(offset)
    const pa = linear[offset / page]!
    if (pa < 0) continue
    if (!exists) unmapped.push(pa)
    else {
      el2.set(hyp, [...(el2.get(hyp) ?? []), pa])
      if (hyp === machine.idmap) meeting.push(pa)
    }
  }

  const refused = machine.idmap >= transform(0) && machine.idmap < transform(lastByte)
  const down = walkDown(name, machine, sizes, el2, capacity)
  const up = walkUp(name, machine, sizes, el2, capacity)
  const reasons = new Set<string>()
  if (unmapped.length > 0) reasons.add('memory-not-mapped')
  if (meeting.some((pa) => pa !== machine.idmap)) reasons.add('idmap-collision')
  if (refused && name !== 'overlap-top-window') reasons.add('start-up-check')
  const walk = machine.protected ? up : down
  if (walk.room < page) reasons.add(walk.noticed ? 'no-private-room' : 'private-collision')
  for (const pages of el2.values()) if (pages.length > 1) reasons.add('dram-aliases')
  return { linear, hypOf, el2, dropped, unmapped, meeting, congruent, refused, down, up, reasons }
}

/** Whether the layout masks and tags. Where EL1's linear map is half of the addresses nothing else was proposed. */
function isClassic(name: LayoutName, sizes: Sizes): boolean {
  const plain = linearBytes('extended-linear', sizes) === 2 ** (sizes.actual - 1)
  return plain || (name !== 'low-window-48' && name !== 'low-window-47' && name !== 'overlap-top-window')
}

function windowOf(name: LayoutName, sizes: Sizes): number {
  return 2 ** (name === 'low-window-47' ? sizes.window47 : sizes.window48)
}

/** Bit by bit. */
export function tagOf(name: LayoutName, machine: SmallMachine, sizes: Sizes, lsb: number): number {
  const top = sizes.actual - 1
  const extended = linearBytes('extended-linear', sizes) !== 2 ** top
  const bits = new Set<number>()
  if (lsb !== top)
    for (let bit = lsb; bit < top; bit++) if (Math.floor(machine.random / 2 ** bit) % 2 === 1) bits.add(bit)
  if (name === 'low-window-48-as-coded' && extended) bits.add(sizes.window48)
  else if (Math.floor(machine.idmap / 2 ** top) % 2 === 0) bits.add(top)
  let tag = 0
  for (const bit of bits) if (bit >= lsb) tag += 2 ** bit
  return tag
}

function walkDown(
  name: LayoutName,
  machine: SmallMachine,
  sizes: Sizes,
  el2: Map<number, number[]>,
  capacity: number,
): Walk {
  const overlap = !isClassic(name, sizes) && name === 'overlap-top-window'
  const start = overlap ? 2 ** sizes.actual : machine.idmap
  const bit = (address: number) => (address < 0 ? 1 : Math.floor(address / 2 ** (sizes.build - 1)) % 2)
  for (let base = start - sizes.page; ; base -= sizes.page) {
    const room = start - base - sizes.page
    if (overlap && base < capacity) return { start, room, noticed: false }
    if (!overlap && bit(base) !== bit(start)) return { start, room, noticed: true }
    if (el2.has(base)) return { start, room, noticed: false }
  }
}

function walkUp(
  name: LayoutName,
  machine: SmallMachine,
  sizes: Sizes,
  el2: Map<number, number[]>,
  capacity: number,
): Walk {
  const overlap = !isClassic(name, sizes) && name === 'overlap-top-window'
  const quarter = 2 ** (sizes.actual - 2)
  const start = overlap ? capacity : Math.floor(machine.idmap / quarter) % 2 === 0 ? quarter : 0
  const vmemmap = overlap ? (capacity + 2 ** sizes.actual) / 2 : start + quarter / 2
  for (let base = start; ; base += sizes.page) {
    if (base >= vmemmap) return { start, room: base - start, noticed: true }
    if (el2.has(base)) return { start, room: base - start, noticed: false }
  }
}
