// Which symbols the kernel's own table has, and in which order those of one address stand: scripts/kallsyms.c and, since
// 6.4, scripts/mksysmap. The first of an address is the one that kernel/kallsyms.c (get_symbol_pos) prints.

const IGNORED_PREFIXES = [
  '$',
  '.L',
  'L0',
  '__crc_',
  '__efistub_',
  '__kvm_nvhe_$',
  '__kvm_nvhe_.L',
  '__pi_$',
  '__pi_.L',
  '__AArch64ADRPThunk_',
  '__kstrtab_',
  '__kstrtabns_',
]

/** KSYM_NAME_LEN since 6.1, NUL included; 128 before. A longer name stays out of the kernel's table. */
export const KSYM_NAME_LEN = 512

/**
 * Symbols of the object file that the kernel leaves out: mapping symbols, local labels, the EFI stub's aliases, debugging, names
 * that are too long.
 */
export function isIgnored(name: string, type: string): boolean {
  return (
    name.length >= KSYM_NAME_LEN || /[AaNnUu?]/.test(type) || IGNORED_PREFIXES.some((prefix) => name.startsWith(prefix))
  )
}

/**
 * Where a symbol stands among those of its address, lowest first: not weak before weak, what a linker script does not provide
 * before what it may, few leading underscores before many (compare_symbols in scripts/kallsyms.c). Equal ranks keep their order.
 */
export function aliasRank(name: string, type: string): number {
  const weak = type === 'w' || type === 'W' ? 1 : 0
  const provided = name.startsWith('__') && /^__(?:start_|stop_|end_)|_(?:start|end)$/.test(name) ? 1 : 0
  // What the hypervisor's linker script puts at the head of each section says less than the function there. Here alone this differs
  // from the kernel, whose own print is compared by all names of an address (SymbolTable.namesAt).
  const section = name.startsWith('__kvm_nvhe___hyp_section_') ? 1 : 0
  let underscores = 0
  while (name.charCodeAt(underscores) === 95) underscores++
  return (section << 18) + (weak << 17) + (provided << 16) + Math.min(underscores, 0xffff)
}
