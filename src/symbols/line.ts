/** A line of /proc/kallsyms, System.map or `nm` output. */
export interface SymbolLine {
  readonly address: bigint
  /** nm's letter: T and t text, D and d data, B and b zeroed data … */
  readonly type: string
  readonly name: string
  /** Of /proc/kallsyms: the module, `bpf` …; absent for the kernel's own. */
  readonly module: string | undefined
}

// With `nm -S` a size stands between address and type. No kernel has a name with control characters, which could command the
// terminal that the name is printed on.
const SYMBOL = /^([0-9a-fA-F]{8,16}) (?:[0-9a-fA-F]{8,16} )?([A-Za-z?]) ([^\s\p{Cc}]+)(?:[ \t]+\[([^\]\p{Cc}]+)\])?$/u

/** Whether a character may stand in the name of a symbol: no control character. */
export function isNameCharacter(code: number): boolean {
  return code > 31 && (code < 0x7f || code > 0x9f)
}

/** Reads one line of a symbol table; undefined for anything else (undefined symbols of `nm` among it). */
export function parseSymbolLine(line: string): SymbolLine | undefined {
  // A symbol line's type stands alone between two blanks: cheap to rule out.
  if (line.charCodeAt(16) !== 32 && line.charCodeAt(8) !== 32) return undefined
  const match = SYMBOL.exec(line)
  if (match === null) return undefined
  return { address: BigInt(`0x${match[1]}`), type: match[2]!, name: match[3]!, module: match[4] }
}

/**
 * KIMAGE_VADDR - PAGE_END in all versions: modules (and once BPF, and KASAN's shadow) lie between. An image at such a distance from
 * some PAGE_END is at its link-time place; a KASLR displacement is at least 1/32 of the space, never as small as this.
 */
const IMAGE_GAPS = [0x8000000n, 0x10000000n, 0x80000000n]
/** log2 of 2^64 - PAGE_END that there are, by VA_BITS_MIN since 5.4; before, PAGE_END's place is VA_START = -(2^VA_BITS). */
const VA_BITS_MINS = [36, 39, 42, 47, 48]

/** The VA_BITS_MIN for which `base` is a KIMAGE_VADDR of Linux 5.4 or later; undefined when for none. */
export function vaBitsMinOfLinkBase(base: bigint): number | undefined {
  const end = 1n << 64n
  return VA_BITS_MINS.find((bits) => IMAGE_GAPS.includes(base - (end - (1n << BigInt(bits - 1)))))
}

/** Whether `text`, the address of _text, is where a kernel is linked: of Linux 5.4 and later, or of the versions before. */
export function isLinkBase(text: bigint): boolean {
  if (vaBitsMinOfLinkBase(text) !== undefined) return true
  // Up to 5.3: VA_START = -(2^VA_BITS), then modules; the image TEXT_OFFSET (512 KiB) above that.
  const start = text - (text % 0x200000n)
  return VA_BITS_MINS.some((bits) => IMAGE_GAPS.includes(start - ((1n << 64n) - (1n << BigInt(bits)))))
}
