import { formatU64, wrap64 } from '../../u64.js'
import type { FileFindings, Quantity } from '../facts.js'

/** A variable of the kernel that shows a field of the layout. */
interface Variable {
  /** Size in bytes; 8 if absent. */
  readonly size?: number
  readonly field: Quantity
  /** The field's value; undefined for a value that no booted kernel has. */
  read(value: bigint): unknown
  /** Says what is wrong with a value that no booted kernel has; without it, such a value is ignored. */
  problem?(value: bigint): string
  /** Added to the rule. */
  readonly note?: string
}

const unlessZero = (value: bigint) => (value === 0n ? undefined : value)
const physvirtOffset: Variable = { field: 'hypPhysvirtOffset', read: unlessZero }

/** The variables that show a field of the layout, in the order in which a core's are reported. */
export const VARIABLES: Readonly<Record<string, Variable>> = {
  tag_lsb: {
    size: 1,
    field: 'tagLsb',
    read: (value) => (value >= 1n && value <= 63n ? Number(value) : undefined),
    problem: (value) => `tag_lsb is ${value}: not set yet, not readable, or the host runs with VHE`,
  },
  tag_val: { field: 'tagVal', read: (value) => value },
  va_mask: {
    field: 'vaMask',
    read: (value) => (value !== 0n && (value & (value + 1n)) === 0n && value < 1n << 63n ? value : undefined),
    problem: (value) => `va_mask is ${formatU64(value)}, no mask of low bits: not set yet, or not readable`,
  },
  hyp_physvirt_offset: physvirtOffset,
  __kvm_nvhe_hyp_physvirt_offset: physvirtOffset,
  // -1 until memblock is set up.
  memstart_addr: { field: 'physOffset', read: (value) => (value === wrap64(-1n) ? undefined : value) },
  kimage_voffset: { field: 'kimageVoffset', read: unlessZero },
  hyp_idmap_start: { field: 'idmap', read: (value) => (value % 4096n === 0n ? unlessZero(value) : undefined) },
  kvm_mode: {
    size: 4,
    field: 'mode',
    read: (value) => ((value & 0xffffffffn) === 1n ? 'protected' : undefined),
    note: ': KVM_MODE_PROTECTED',
  },
}

/** Records what the value of one of the VARIABLES shows. */
export function sayVariable(findings: FileFindings, name: string, value: bigint, where: string, rule: string): void {
  const { field, read, problem, note = '' } = VARIABLES[name]!
  const shown = read(value)
  if (shown !== undefined) findings.say(field, shown as never, where, `${rule}${note}`)
  else if (problem !== undefined) findings.note(`${where}: ${problem(value)}`)
}
