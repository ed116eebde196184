import { linearSizeOf, machineWidths } from './address-space.js'
import { versionNumber } from './generations.js'
import type { Machine } from './types.js'

/** The physical address space of the smallest machines. A kernel whose linear map is no larger has no room to move it. */
const SMALLEST_PHYSICAL_SPACE = 1n << 40n

/** The assumptions that hypva makes about a machine, a line each. */
export function assumptionsOf(machine: Machine): string[] {
  const oddities = odditiesOf(machine)
  if (machine.physOffset !== undefined || !movesLinearMap(machine)) return oddities
  const assumption =
    'hypva computes physOffset with the kernel\'s rule, but kernels up to 6.15 may randomise the linear map: give memstart_addr ("PHYS_OFFSET:" of a panic, NUMBER(PHYS_OFFSET) of vmcoreinfo) if you know it'
  return [assumption, ...oddities]
}

/** Properties of a machine that do not fit its kernel version, a line each. */
export function odditiesOf({ kernel, pageSize, vaBits }: Machine): string[] {
  const since = pageSize === 65536 ? '5.4' : '6.9'
  if (vaBits !== 52 || kernel === undefined || versionNumber(kernel) >= versionNumber(since)) return []
  const what = pageSize === 65536 ? '52-bit kernel addresses' : `52-bit addresses with pages of ${pageSize / 1024} KiB`
  return [`mainline has ${what} only since Linux ${since}, and ${kernel} is older`]
}

/** Whether this kernel may have lowered memstart_addr at random (docs/kernel-facts.md, 3). */
function movesLinearMap(machine: Machine): boolean {
  const { kernel, randomizeBase = true } = machine
  const widths = machineWidths(machine)
  if (!randomizeBase || widths.generation === '7.0' || widths.generation === '3.11') return false
  if (kernel !== undefined && versionNumber(kernel) > versionNumber('6.15')) return false
  return linearSizeOf(widths) > SMALLEST_PHYSICAL_SPACE
}
