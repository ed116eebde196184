#!/usr/bin/env node
// CommonJS, as the bundle of the rest is (scripts/build.mjs): Node starts it sooner than ES modules.

// Asked for its version, hypva loads nothing else: this is what scripts call to see whether it is there. Only when that
// fails does the rest print it, or say why it cannot.
const first = process.argv[2]
if (first === '--version' || first === '-V') {
  const { writeSync } = require('node:fs')
  const { version } = require('../../package.json')
  try {
    writeSync(1, `${version}\n`)
  } catch {
    require('./program.cjs').printVersion(version)
  }
} else {
  require('./program.cjs').run(process.argv)
}
