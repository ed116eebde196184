import { linearSizeOf } from './address-space.js'
import { generationOf } from './generations.js'
import type { Generation, Machine } from './types.js'

/** The physical address space of the smallest machines. A kernel whose linear map is no larger has no room to move it. */
const SMALLEST_PHYSICAL_SPACE = 1n << 40n

/** What hypva assumes about a machine without knowing it, a line each. */
export function assumptionsOf(machine: Machine): string[] {
  const { physOffset } = machine
  const assumptions: string[] = []
  if (physOffset === undefined && movesLinearMap(machine)) {
    assumptions.push(
      'physOffset is taken to be what the rule gives; up to Linux 6.15 the linear map may have been moved (KASLR), so give memstart_addr ("PHYS_OFFSET:" of a panic, NUMBER(PHYS_OFFSET) of vmcoreinfo) where it is known',
    )
  }
  return [...assumptions, ...odditiesOf(machine)]
}

/** What does not fit the kernel version of a machine, a line each. */
export function odditiesOf({ kernel, pageSize, vaBits }: Machine): string[] {
  const oddities: string[] = []
  const since = vaBits !== 52 || kernel === undefined ? undefined : pageSize === 65536 ? '5.4' : '6.9'
  if (since !== undefined && isBefore(kernel!, since)) {
    const what =
      pageSize === 65536 ? '52-bit kernel addresses' : `52-bit addresses with pages of ${pageSize / 1024} KiB`
    oddities.push(`mainline has ${what} since Linux ${since}, which ${kernel} is older than`)
  }
  return oddities
}

function isBefore(kernel: string, version: string): boolean {
  const [, major = 0, minor = 0] = /^v?(\d+)\.(\d+)/.exec(kernel) ?? []
  const [wantedMajor, wantedMinor] = version.split('.').map(Number)
  return Number(major) !== wantedMajor ? Number(major) < wantedMajor! : Number(minor) < wantedMinor!
}

/** Whether this kernel may have lowered memstart_addr at random (docs/kernel-facts.md, 3). */
function movesLinearMap({
  generation,
  kernel,
  pageSize,
  vaBits,
  vaBitsActual = vaBits,
  randomizeBase = true,
}: Machine): boolean {
  const known: Generation = generation ?? generationOf(kernel!)
  if (!randomizeBase || known === '7.0' || known === '3.11') return false
  const version = /^v?(\d+)\.(\d+)/.exec(kernel ?? '')
  if (version !== null && (Number(version[1]) > 6 || (Number(version[1]) === 6 && Number(version[2]) > 15)))
    return false
  return linearSizeOf({ generation: known, pageSize, vaBits, vaBitsActual }) > SMALLEST_PHYSICAL_SPACE
}
