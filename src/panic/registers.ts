import type { PrintedAddress, PrintedPanic } from '../evidence/kinds/panic.js'
import { convert } from '../layout/spaces.js'
import { wrap64 } from '../u64.js'
import type { AddressFacts } from './addresses.js'
import type { DecodedFar, DecodedHpfar, DecodedPanic, FarKind, NamedPlace, Places } from './decoded.js'
import { type ProgramStatus, type Syndrome, setsFar } from './esr.js'
import { isFunction, type Names, type Owner, printedSymbol, type Running } from './naming.js'

/** Whether a vCPU was running, by VCPU. */
export function ranVcpu({ vcpu, vcpuHashed }: Pick<PrintedPanic, 'vcpu' | 'vcpuHashed'>): boolean {
  return vcpuHashed === true || (vcpu !== undefined && vcpu !== 0n)
}

/** Where PC is, and whose it is. */
export function pcOf(
  { pc: value, at, ps: status, ...printed }: PrintedPanic,
  facts: AddressFacts,
  names: Names,
  ps: ProgramStatus | undefined,
): DecodedPanic['pc'] {
  // What is left of the log may have only the link-time address.
  if (value === undefined) {
    if (at === undefined) return undefined
    const hyp = facts.hypOffset === undefined ? undefined : wrap64(at.address - facts.hypOffset)
    const places = hyp === undefined ? { link: at.address } : { ...facts.ofHyp(hyp), link: at.address }
    return { value: hyp ?? at.address, of: 'hyp', ...places, ...pcNames(at.address, at, names, 'hyp') }
  }
  if (status !== undefined && ps !== undefined && ps.el !== 2) {
    const of = ranVcpu(printed) ? 'guest' : 'host'
    if (of === 'guest') return { value, of }
    const places = facts.ofKernel(value)
    return { value, of, ...places, ...pcNames(places.link, undefined, names, 'host') }
  }
  if (value >> 55n !== 0n && facts.hypOffset === undefined) {
    // Without nVHE there is no Hyp Offset: the host runs at EL2 and the PC is the kernel's own.
    const link = convert(facts.offsets, 'image', 'link', value)
    return { value, of: 'vhe', image: value, ...(link !== undefined && { link }), ...pcNames(link, at, names, 'host') }
  }
  const places = facts.ofHyp(value)
  return { value, of: 'hyp', ...places, ...pcNames(places.link, at, names, 'hyp') }
}

function pcNames(link: bigint | undefined, at: PrintedAddress | undefined, names: Names, of: Owner): NamedPlace {
  const printed = at === undefined ? undefined : names.printed(at, of)
  const name = names.at(link, of)
  const returnName = names.before(link, of)
  const symbol = printed?.printed === undefined ? undefined : printedSymbol(printed.printed)
  return {
    ...(printed?.printed !== undefined && { printed: printed.printed }),
    ...(printed?.agrees !== undefined && { agrees: printed.agrees }),
    ...(name !== undefined && { name }),
    ...(name === undefined && symbol !== undefined && symbol.offset === symbol.size && { atEnd: true }),
    ...(returnName !== undefined && returnName !== name && { returnName }),
  }
}

/** What FAR is read by. */
interface FarContext {
  readonly printed: PrintedPanic
  readonly facts: AddressFacts
  readonly names: Names
  readonly esr: Syndrome | undefined
  readonly ps: ProgramStatus | undefined
  readonly running: Running | undefined
  /** The page of HPFAR. */
  readonly page: bigint | undefined
}

/** Whose address FAR holds, and where it is. */
export function farOf(context: FarContext): DecodedFar | undefined {
  const { printed, facts, names, page } = context
  const { far: value } = printed
  if (value === undefined) return undefined
  const { kind, text } = farKind(context)
  const kernel = value >> 55n === 0x1ffn
  const places =
    kind === 'guest' || value === 0n
      ? {}
      : kernel
        ? facts.ofKernel(value, page)
        : kind === 'hyp'
          ? hypPlaces(facts, value)
          : {}
  const name = names.at(places.link, kernel ? 'host' : 'hyp')
  return { value, kind, text, ...places, ...(name !== undefined && { name }) }
}

/** Hyp VAs below the linear region's tag are EL2's own; only a layout, or the place in the image, tells them apart. */
function hypPlaces(facts: AddressFacts, hyp: bigint): Places {
  const { tagLsb, tagVal } = facts.layout
  if (tagLsb !== undefined && tagVal !== undefined) {
    return hyp >> BigInt(tagLsb) === tagVal ? facts.ofHyp(hyp) : { hyp }
  }
  const places = facts.ofHyp(hyp)
  return facts.linkBase !== undefined && places.link !== undefined ? places : { hyp }
}

function farKind({ printed, esr, ps, running }: FarContext): { kind: FarKind; text: string } {
  if (esr === undefined) return { kind: 'unknown', text: 'ESR is not in the log, so it is not known what set FAR' }
  const { abort, exceptionClass } = esr
  if (abort !== undefined && !abort.farValid) {
    return { kind: 'stale', text: `${exceptionClass.text}, ${abort.text}: FnV says that FAR is not valid` }
  }
  if (setsFar(exceptionClass)) {
    const current = abort?.current ?? ps?.el === 2
    if (current) return { kind: 'hyp', text: 'the address that the hypervisor used' }
    return ranVcpu(printed)
      ? { kind: 'guest', text: "the guest's VA: a vCPU was running" }
      : { kind: 'host', text: "the host's VA: no vCPU was running" }
  }
  if (isFunction(running, 'handle_host_mem_abort')) {
    return { kind: 'host', text: "the host's VA: the hypervisor was handling the host's abort (handle_host_mem_abort)" }
  }
  return { kind: 'stale', text: `left by an earlier abort: ${exceptionClass.text} does not set FAR` }
}

/** Which page HPFAR names, and whether FAR is of the same. */
export function hpfarOf(
  value: bigint,
  page: bigint,
  far: DecodedFar | undefined,
  esr: Syndrome | undefined,
): DecodedHpfar {
  const agrees = far?.phys === undefined ? undefined : far.phys >> 12n === page >> 12n
  const base = { value, page, ...(agrees !== undefined && { agrees }) }
  if (far?.kind === 'hyp' && !esr?.abort?.walk) {
    return { ...base, text: 'left by an earlier stage 2 fault: an abort of EL2 itself has no stage 2' }
  }
  if (agrees === undefined) {
    return {
      ...base,
      text: far?.kind === 'guest' ? "page of the guest's physical address" : 'page of the last stage 2 fault',
    }
  }
  if (far!.kind === 'stale') {
    return {
      ...base,
      text: agrees
        ? 'FAR and HPFAR are of one page: both are of the last abort of the host'
        : 'FAR and HPFAR are of different pages: of different aborts, or not of the host',
    }
  }
  return {
    ...base,
    text: agrees
      ? 'FAR and HPFAR are of one page'
      : 'FAR and HPFAR are of different pages: FAR is no linear or image address of the page, or HPFAR is stale',
  }
}

/** Where the vCPU is that VCPU names. */
export function vcpuOf(
  { vcpuHashed }: PrintedPanic,
  value: bigint,
  facts: AddressFacts,
): NonNullable<DecodedPanic['vcpu']> {
  if (value === 0n) return { value, text: 'no vCPU was running' }
  if (vcpuHashed)
    return { value, text: 'no address: kernels from 4.15 to 5.11 print a hash of the pointer; a vCPU was running' }
  if (value >> 55n === 0x1ffn)
    return { value, text: 'a kernel address (as older kernels, and those with VHE, print it)' }
  const { phys, linear } = facts.ofHyp(value)
  const own = facts.layout.mode === 'protected' ? "; in protected mode it may be the hypervisor's own copy" : ''
  return {
    value,
    hyp: value,
    ...(phys !== undefined && { phys }),
    ...(linear !== undefined && { linear }),
    text: `struct kvm_vcpu, in the hyp linear region${own}`,
  }
}
