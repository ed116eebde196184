import { ABI } from '../engine/wasm.generated.js'

/** Bytes behind a wished-for cut that decide where it is made: one more than the longest token. */
export const CUT_WINDOW = ABI.LONGEST_TOKEN + 1

/**
 * Where text may be cut near a wished-for place, so that the two parts can be rewritten apart.
 *
 * In front of a byte that belongs to no word, no token goes on. Where there is none in the window, its bytes are of a
 * word that is too long to be a token, and so is what the first part has of it when these bytes stay with it; the second
 * part sees by the bytes in front of it that it begins inside of a word.
 * @param window the bytes from the wished-for place on, CUT_WINDOW of them unless the text ends before
 * @returns how many of them belong to the first part: 0 … CUT_WINDOW
 */
export function cutOffset(window: Uint8Array): number {
  const end = Math.min(window.length, CUT_WINDOW)
  for (let i = 0; i < end; i++) if (!isWordByte(window[i]!)) return i
  return end
}

/** 0-9 A-Z a-z and underscore: what may not touch a token. */
function isWordByte(byte: number): boolean {
  const letter = byte | 0x20
  return (byte >= 0x30 && byte <= 0x39) || (letter >= 0x61 && letter <= 0x7a) || byte === 0x5f
}
