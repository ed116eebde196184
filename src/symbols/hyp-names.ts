import { isSince } from '../layout/generations.js'
import type { HypLayout } from '../layout/types.js'
import { isNvhe, type SymbolTable } from './table.js'

/**
 * What EL2 runs in every kernel. Before 5.9 these stand in the hyp text under their own names; since then the nVHE object's
 * have the prefix, and those without it are VHE's, in the kernel's text before the hyp text. The hyp text by itself proves
 * nothing: the stub that a host leaves at EL2 (hyp-stub.S) is in it, without a prefix, in all versions.
 */
const EL2_FUNCTIONS = ['__kvm_hyp_vector', '__guest_enter', '__guest_exit', '__kvm_vcpu_run', 'hyp_panic']

/** Whether a table has symbols of the hypervisor, so that what it says of a hyp address is true. */
function namesHyp(table: SymbolTable, { generation }: Partial<HypLayout>): boolean {
  if (table.names.some(isNvhe)) return true
  const start = table.landmarks.get('__hyp_text_start')
  // What has no landmarks is a part of a table; no kernel before 5.9 keeps anything back.
  if (start === undefined) return generation !== undefined && !isSince(generation, '5.9')
  const end = table.landmarks.get('__hyp_text_end')
  return EL2_FUNCTIONS.flatMap((name) => table.addressesOf(name)).some(
    (address) => address >= start && (end === undefined || address < end),
  )
}

/**
 * Why tables cannot name hyp addresses, and which could; undefined when one of them can. A host with VHE has no others than its
 * own. What a table without the hypervisor's symbols has at their addresses is whatever stands before them.
 */
export function cannotNameHyp(tables: readonly SymbolTable[], layout: Partial<HypLayout>): string | undefined {
  if (layout.mode === 'vhe' || tables.length === 0 || tables.some((table) => namesHyp(table, layout))) return undefined
  const sources = tables.map(({ source }) => source).join(', ')
  const { generation } = layout
  // The generation of 5.15 reaches beyond 5.19.
  const why =
    generation !== undefined && isSince(generation, '7.0')
      ? 'it is of a kernel without nVHE KVM, or filtered; System.map and vmlinux of this kernel are complete'
      : 'before Linux 5.19 /proc/kallsyms leaves them out; System.map and vmlinux of this kernel have them'
  return `${sources}: no symbols of the hypervisor (__kvm_nvhe_…) in it, so it cannot name hyp addresses: ${why}`
}
