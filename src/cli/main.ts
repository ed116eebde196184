#!/usr/bin/env node
import { readFileSync } from 'node:fs'

// Asked for its version, hypva loads nothing else: this is what scripts call to see whether it is there.
const first = process.argv[2]
if (first === '--version' || first === '-V') {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  process.stdout.write(`${manifest.version}\n`)
} else {
  const { run } = await import('./program.js')
  process.exitCode = await run(process.argv)
}
