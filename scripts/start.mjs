// The main job on the bundled real data: a trace that mixes kernel and hyp addresses comes out in one address space.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const TRACE = 'samples/exec-6.1.log'
const args = ['translate', TRACE, '-l', 'samples/exec-6.1.layout.json', '--from', 'hyp', '--to', 'kernel', '--stats']

const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'dist/cli/main.cjs'), ...args], {
  cwd: root,
  encoding: 'utf8',
})
if (status !== 0) {
  process.stderr.write(stderr)
  process.exit(status ?? 1)
}
const before = readFileSync(join(root, TRACE), 'utf8').split('\n')
const after = stdout.split('\n')
const changed = before.flatMap((line, i) => (line === after[i] ? [] : [i]))

console.log(`$ hypva ${args.join(' ')}\n`)
console.log(`${changed.length} of ${before.length - 1} lines hold addresses of the hypervisor. The first of them,`)
console.log('before:')
for (const i of changed.slice(0, 5)) console.log(`  ${before[i]}`)
console.log('after:')
for (const i of changed.slice(0, 5)) console.log(`  ${after[i]}`)
console.log(`\n${stderr.trim()}`)
