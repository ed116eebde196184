import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

export const ROOT = join(import.meta.dirname, '../..')
export const MAIN = join(ROOT, 'dist/cli/main.cjs')

export interface Outcome {
  code: number | null
  out: Buffer
  err: string
}

/** Runs the built command as a process of its own. */
export function hypva(
  args: string[],
  options: { input?: string | Uint8Array; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Outcome {
  const { input = '', cwd = ROOT, env = process.env } = options
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    input,
    cwd,
    env,
    maxBuffer: 2 ** 30,
  })
  return { code: status, out: stdout, err: stderr.toString() }
}

/** A directory that goes when the test file is done. */
export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'hypva-test-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
