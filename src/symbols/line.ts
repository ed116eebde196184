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
