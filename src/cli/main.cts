#!/usr/bin/env node
// CommonJS, as the bundle of the rest is (scripts/build.mjs): Node starts it sooner than ES modules.

// Asked for its version, hypva loads nothing else: this is what scripts call to see whether it is there.
const first = process.argv[2]
if (first === '--version' || first === '-V') {
  const { writeSync } = require('node:fs')
  try {
    writeSync(1, `${require('../../package.json').version}\n`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') process.exitCode = 2
  }
} else {
  require('./program.cjs')
    .run(process.argv)
    .then((code: number) => {
      process.exitCode = code
    })
}
