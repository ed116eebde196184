import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** bench/native.c, built for this machine and running beside us. */
export class Native {
  private readonly child: ChildProcessWithoutNullStreams
  private readonly lines: AsyncIterator<string>

  private constructor(binary: string) {
    this.child = spawn(binary)
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]()
  }

  /** undefined where there is no C compiler. */
  static start(root: string): Native | undefined {
    const folder = join(root, '.build')
    const binary = join(folder, 'native')
    mkdirSync(folder, { recursive: true })
    try {
      execFileSync('gcc', ['-O3', '-march=native', '-o', binary, join(root, 'bench/native.c')], { stdio: 'pipe' })
    } catch {
      return undefined
    }
    return new Native(binary)
  }

  /** Answers to one command. */
  async ask(command: string): Promise<string> {
    this.child.stdin.write(`${command}\n`)
    const { value } = await this.lines.next()
    if (value === undefined || value === '?') throw new Error(`bench/native.c did not take: ${command}`)
    return value
  }

  /** Milliseconds that a timed command took, a repetition. */
  async time(command: string): Promise<number> {
    return Number.parseFloat(await this.ask(command)) / 1e6
  }

  stop(): void {
    this.child.stdin.end()
  }
}
