/** A symbol as a log prints it, taken apart. */
export interface PrintedSymbol {
  /** With the prefix of the nVHE object, if it has one. */
  readonly name: string
  readonly offset: bigint
  readonly size: bigint
}

/** Takes `NAME+0xOFFSET/0xSIZE` apart; undefined for anything else. */
export function printedSymbol(text: string): PrintedSymbol | undefined {
  const [, name, offset, size] = /^(\S+)\+0x([0-9a-f]{1,16})\/0x([0-9a-f]{1,16})/.exec(text) ?? []
  return name === undefined ? undefined : { name, offset: BigInt(`0x${offset}`), size: BigInt(`0x${size}`) }
}

/** Whether a symbol is the function of this name, in the nVHE object or outside of it. */
export function isFunction(symbol: PrintedSymbol | undefined, name: string): boolean {
  return symbol?.name === name || symbol?.name === `__kvm_nvhe_${name}`
}
