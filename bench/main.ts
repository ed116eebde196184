// npm run bench [-- --json] [--only batch|cost|text|names|files] [--size MB] [--dir DIR]: hypva beside what one would use
// instead, in one run. Only ratios are worth quoting.
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { parseLayout } from 'hypva'
import { benchBatches } from './batch.js'
import { benchCost } from './cost.js'
import { benchFiles } from './files.js'
import { benchNames } from './names.js'
import { Native } from './native.js'
import { Report } from './report.js'
import { benchText } from './text.js'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    size: { type: 'string', default: '1000' },
    only: { type: 'string' },
    dir: { type: 'string' },
  },
})
const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const report = new Report(values.json)
const machine = {
  node: process.version,
  processor: cpus()[0]?.model ?? 'unknown',
  processors: cpus().length,
  memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
}
report.say(Object.values(machine).join(', '))
const native = Native.start(root)
if (native === undefined) report.say('No C compiler here: the comparisons with C are left out.')

const layout = parseLayout(readFileSync(join(root, 'samples/exec-6.1.layout.json'), 'utf8'))
const groups: Record<string, () => Promise<void>> = {
  batch: () => benchBatches(layout, native, report),
  cost: () => benchCost(layout, report),
  text: () => benchText(root, native, report),
  names: () => benchNames(root, report),
  files: () => benchFiles(root, report, Number(values.size), values.dir),
}
for (const [name, run] of Object.entries(groups)) if (values.only === undefined || values.only === name) await run()
native?.stop()
report.finish(machine)
