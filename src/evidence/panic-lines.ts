// What a host prints when the hypervisor at EL2 has died (nvhe_hyp_panic_handler and panic(), all versions), line by line: read
// for a layout (log.ts) and to be decoded (panic/). Every pattern holds anywhere in a line, whatever prefix stands before.

/**
 * `nVHE hyp panic at: [<ffff8000812c33b4>] __kvm_nvhe___kvm_vcpu_run+0x24/0x718!`, with BUG, CFI failure or a UBSAN message for
 * panic; since 5.19 the address is in brackets. A BUG whose place the kernel knows prints `FILE:LINE!`.
 * Groups: kind, kind, bracketed link address, symbol, bare link address, FILE:LINE.
 */
export const PANIC_AT =
  /\b(?:nVHE hyp ([A-Za-z][\w:, -]{2,60}?)|hyp (panic|BUG|CFI failure)) at: (?:\[<([0-9a-f]{8,16})>\](?: ([^\s!]+(?: \[[^\]!]+\])?))?|(?:0x)?([0-9a-f]{16})\b|([^\s!]+:\d+))/i

/** The exception came from the host's or a guest's level, where none is expected: there is no place in the hypervisor to name. */
export const INVALID_HOST_EXCEPTION = /\bInvalid host exception to nVHE hyp!/

/** ` [<ffff8000812c3b64>] __kvm_nvhe_hyp_panic+0xbc/0xe8`: groups link address, symbol. */
export const TRACE_ENTRY = /\[<([0-9a-f]{16})>\] +(\S+\+0x[0-9a-f]+\/0x[0-9a-f]+(?: \[[^\]]+\])?|0x[0-9a-f]{16})/

/** Groups: what to add to a hyp address to get its link-time address. */
export const HYP_OFFSET = /\bHyp Offset: (?:0x)?([0-9a-f]{1,16})\b/

/** Groups: KASLR offset, KIMAGE_VADDR. */
export const KERNEL_OFFSET = /\bKernel Offset: 0x([0-9a-f]{1,16}) from 0x([0-9a-f]{1,16})/
export const KERNEL_OFFSET_DISABLED = /\bKernel Offset: disabled/

/** Groups: memstart_addr. */
export const PHYS_OFFSET = /\bPHYS_OFFSET: 0x([0-9a-f]{1,16})/

/** Groups: PS, PC. */
export const PS_PC = /\bPS:([0-9a-f]{8,16}) PC:([0-9a-f]{16})\b/

/**
 * Hyp Offset by where a panic was and by its PC, for a log that lost the line: nothing but a hyp address at EL2 will do, and of two
 * panics mixed up the difference is hardly a whole number of pages.
 */
export function hypOffsetOf(at: bigint, ps: bigint, pc: bigint): bigint | undefined {
  const offset = BigInt.asUintN(64, at - pc)
  const el2 = ((ps >> 2n) & 3n) === 2n
  return el2 && pc >> 52n === 0n && pc !== 0n && at >> 55n === 0x1ffn && offset % 4096n === 0n ? offset : undefined
}
