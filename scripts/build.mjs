// Builds the package: the AssemblyScript kernels, the module that embeds them, the TypeScript around them.
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const require = createRequire(import.meta.url)

/** Runs a tool. What it prints is shown when it fails, and not otherwise: asc remarks on its optimiser at every build. */
function run(script, ...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { cwd: root })
  if (status === 0) return
  process.stderr.write(stdout)
  process.stderr.write(stderr)
  process.exit(1)
}

/** The package's own copy of a tool's executable script. */
function bin(name, command) {
  const manifest = require.resolve(`${name}/package.json`)
  return join(dirname(manifest), require(manifest).bin[command])
}

/** The licenses of the packages that modules come from. */
function licensesOf(modules) {
  const inside = `${sep}node_modules${sep}`
  const folders = modules
    .filter((id) => id.includes(inside))
    .map((id) => {
      const at = id.lastIndexOf(inside) + inside.length
      const [first, second] = id.slice(at).split(sep)
      return id.slice(0, at) + (first.startsWith('@') ? join(first, second) : first)
    })
  if (folders.length === 0)
    throw new Error('scripts/build.mjs: nothing of a dependency is in the bundle; that cannot be')
  return [...new Set(folders)]
    .sort()
    .map((folder) => {
      const read = (file) => readFileSync(join(folder, file), 'utf8')
      const license = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file))
      const { name, version } = JSON.parse(read('package.json'))
      return `${name} ${version}\n\n${read(license)}`
    })
    .join('\n')
}

mkdirSync(join(root, '.build'), { recursive: true })
run(bin('assemblyscript', 'asc'), '--config', 'asconfig.json', '--target', 'release')

const wasm = readFileSync(join(root, '.build/kernel.wasm'))
const { exports } = await WebAssembly.instantiate(await WebAssembly.compile(wasm))
const constants = Object.entries(exports)
  .filter(([, value]) => value instanceof WebAssembly.Global)
  .map(([name, { value }]) => `  ${name}: ${value >>> 0},\n`)
writeFileSync(
  join(root, 'src/engine/wasm.generated.ts'),
  `// Written by scripts/build.mjs from assembly/; not committed, not edited.

/** The constants that assembly/index.ts exports: addresses, capacities and sizes, see assembly/memory.ts. */
export const ABI = {
${constants.join('')}} as const

export const WASM_BASE64 =
  '${wasm.toString('base64')}'
`,
)

rmSync(join(root, 'dist'), { recursive: true, force: true })
run(bin('typescript', 'tsc'), '-p', '.')
// The command line as a few CommonJS files, split by command, with what it needs of its dependencies: Node starts those in
// far less time than many ES modules.
const bundle = await rolldown({
  input: { program: join(root, 'dist/cli/program.js'), 'job-worker': join(root, 'dist/cli/jobs/job-worker.js') },
  platform: 'node',
  external: (id) => id.startsWith('node:'),
  // pako makes its tables as it is loaded; those of compression, which is not used, are left out when making them is known to be pure.
  treeshake: {
    manualPureFunctions: ['Config', 'StaticTreeDesc', 'Array', 'Uint8Array', 'Uint16Array', 'Int32Array'],
  },
})
const { output } = await bundle.write({
  dir: join(root, '.build/cli'),
  format: 'cjs',
  entryFileNames: '[name].cjs',
  chunkFileNames: '[name].cjs',
  cleanDir: true,
  // Less to parse at each start.
  minify: true,
})
await bundle.close()
for (const file of readdirSync(join(root, 'dist/cli'))) {
  if (!file.startsWith('main.')) rmSync(join(root, 'dist/cli', file), { recursive: true })
}
cpSync(join(root, '.build/cli'), join(root, 'dist/cli'), { recursive: true })
writeFileSync(
  join(root, 'dist/cli/LICENSES.txt'),
  licensesOf(output.flatMap((chunk) => Object.keys(chunk.modules ?? {}))),
)

copyFileSync(join(root, '.build/kernel.wasm'), join(root, 'dist/kernel.wasm'))
chmodSync(join(root, 'dist/cli/main.cjs'), 0o755)
