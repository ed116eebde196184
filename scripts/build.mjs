// Builds the package: the AssemblyScript kernels, the module that embeds them, the TypeScript around them.
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const require = createRequire(import.meta.url)

/** Runs a tool; when it fails, it has said why. */
function run(script, ...args) {
  try {
    execFileSync(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit' })
  } catch {
    process.exit(1)
  }
}

/** The package's own copy of a tool's executable script. */
function bin(name, command) {
  const manifest = require.resolve(`${name}/package.json`)
  return join(dirname(manifest), require(manifest).bin[command])
}

mkdirSync(join(root, '.build'), { recursive: true })
run(bin('assemblyscript', 'asc'), '--config', 'asconfig.json', '--target', 'release')

const wasm = readFileSync(join(root, '.build/kernel.wasm'))
writeFileSync(
  join(root, 'src/translate/kernel.generated.ts'),
  `// Written by scripts/build.mjs from assembly/; not committed, not edited.\nexport const KERNEL_WASM_BASE64 =\n  '${wasm.toString('base64')}'\n`,
)

rmSync(join(root, 'dist'), { recursive: true, force: true })
run(bin('typescript', 'tsc'), '-p', '.')
copyFileSync(join(root, '.build/kernel.wasm'), join(root, 'dist/kernel.wasm'))
chmodSync(join(root, 'dist/cli/main.cjs'), 0o755)
