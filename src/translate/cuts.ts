import { ABI } from '../engine/wasm.generated.js'

/** How many bytes after the wished-for place decide where the cut goes: one more than the longest token. */
export const CUT_WINDOW = ABI.LONGEST_TOKEN + 1

/**
 * Where text may be cut near a wished-for place, so that the two parts can be rewritten apart.
 *
 * No token continues across a byte that belongs to no word. Without such a byte in the window, the window is part of a word
 * too long to be a token. The window then stays with the first part, whose end is too long for a token as well; the second
 * part sees from the bytes in front of it that it begins inside a word.
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
