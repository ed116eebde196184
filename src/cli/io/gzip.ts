import { Failure } from '../failure.js'

/** Bytes of a gzip header, RFC 1952. */
export const GZIP_HEADER = 10

const TESTS: readonly ((byte: number) => boolean)[] = [
  (byte) => byte === 0x1f,
  (byte) => byte === 0x8b,
  (byte) => byte === 8,
  (byte) => byte < 0x20,
  () => true,
  () => true,
  () => true,
  // Seconds since 1970: bit 31 would mean the year 2038 or later. Kernel addresses have it set.
  (byte) => byte < 0x80,
  (byte) => byte === 0 || byte === 2 || byte === 4,
  (byte) => byte <= 13 || byte === 255,
]

/** Whether bytes are a gzip header. It checks all ten, since a raw address may begin with the two bytes of the magic. */
export function isGzip(head: Uint8Array): boolean {
  return head.length >= GZIP_HEADER && beginsGzip(head)
}

/** Whether bytes are a gzip header or the beginning of one. */
export function beginsGzip(head: Uint8Array): boolean {
  return head.length > 0 && head.subarray(0, GZIP_HEADER).every((byte, i) => TESTS[i]!(byte))
}

export function damaged(name: string, why: string): Failure {
  return new Failure(`cannot read ${name}: damaged gzip data (${why})`)
}
