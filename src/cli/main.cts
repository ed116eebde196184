#!/usr/bin/env node
// CommonJS: an ES module as the entry point makes Node start later, and this one has nothing to import yet.

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
  import('./program.js').then(async ({ run }) => {
    process.exitCode = await run(process.argv)
  })
}
