import type { Output } from './output.js'

/** Bytes from which on it pays to leave the writing to another thread. */
const LARGE = 65536

/**
 * Writes large pieces while the next ones are read and rewritten. Small ones are written at once. Before the caller waits
 * for anything else it calls `flush`: somebody may be waiting for what is left, or nobody may be there any more.
 */
export class LateWriter {
  private readonly output: Output
  private readonly copies: Uint8Array[] = []
  private turn = 0
  private writing: Promise<void> = Promise.resolve()

  constructor(output: Output) {
    this.output = output
  }

  /** When this is done `bytes` may change, although they may not have been written. */
  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length < LARGE) {
      await this.flush()
      this.output.write(bytes)
      return
    }
    // One copy is being written, the other one is free.
    this.turn ^= 1
    let copy = this.copies[this.turn]
    if (copy === undefined || copy.length < bytes.length) {
      copy = new Uint8Array(Math.max(bytes.length, 2 * (copy?.length ?? 0)))
      this.copies[this.turn] = copy
    }
    copy.set(bytes)
    await this.flush()
    this.writing = this.output.writeLater(copy.subarray(0, bytes.length))
    // It is waited for later; until then its failure is not unhandled.
    this.writing.catch(() => {})
  }

  /** Waits until all is written. */
  async flush(): Promise<void> {
    await this.writing
  }
}
