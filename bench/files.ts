import { spawnSync } from 'node:child_process'
import { closeSync, copyFileSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { textInputs } from './inputs.js'
import { measure, ratio, type Subject, type Timing } from './measure.js'
import type { Report } from './report.js'

/** What nothing that runs in Node can beat: it only writes, in the blocks of the jobs. */
const WRITER = `
  const { openSync, statSync, writeSync } = require('node:fs')
  const [out, like] = process.argv.slice(1)
  const block = Buffer.alloc(2 ** 21, 'x')
  const fd = openSync(out, 'w')
  for (let rest = statSync(like).size; rest > 0; ) rest -= writeSync(fd, block, 0, Math.min(rest, block.length))`

/** Whole processes, file to file, on files that are in the page cache. */
export async function benchFiles(root: string, report: Report, megabytes: number, place?: string): Promise<void> {
  const dir = mkdtempSync(join(place ?? tmpdir(), 'hypva-bench-'))
  try {
    const main = join(root, 'dist/cli/main.cjs')
    const layout = join(root, 'samples/exec-6.1.layout.json')
    const log = textInputs(root).find(({ name }) => name.startsWith('QEMU'))!.bytes
    const text = fill(join(dir, 'text'), log, megabytes)
    const raw = fill(join(dir, 'raw'), words(), megabytes)
    const out = join(dir, 'out')
    // Each output is a new file: to empty an old one takes as long as to write some of the new one. And its pages are there:
    // a virtual machine's host takes back what is unused for a while, and whoever asks for it first would have to wait.
    const before = () => {
      for (const old of [out, `${out}.cp`, `${out}.perl`, `${out}.mawk`]) rmSync(old, { force: true })
      copyFileSync(text, out)
      rmSync(out)
    }
    const hypva = (...args: string[]) => ({ before, run: () => run(process.execPath, [main, ...args]) })
    const shell = (script: string) => ({ before, run: () => run('sh', ['-c', script]) })
    const translate = `"${process.execPath}" "${main}" translate -l "${layout}"`

    const compare = (what: string, times: Map<string, Timing>, a: string, b: string, bar?: number, most?: true) =>
      report.ratio(what, ratio(times.get(a)!, times.get(b)!), bar, most)
    const size = (ms: number) => `${(megabytes / ms).toFixed(2)} GB/s`
    const textTimes = await measure(
      [
        { name: 'hypva translate --jobs 1', ...hypva('translate', text, '-l', layout, '-o', out, '--jobs', '1') },
        { name: 'hypva translate', ...hypva('translate', text, '-l', layout, '-o', out) },
        { name: 'cp', ...shell(`cp "${text}" "${out}.cp"`) },
        {
          name: 'Node, writing as much of nothing',
          before,
          run: () => run(process.execPath, ['-e', WRITER, out, text]),
        },
      ],
      { rounds: 15, time: 0, iterations: 1 },
    )
    report.table(`Text, file to file, ${megabytes} MB`, [...textTimes.values()], size)
    compare('text file to file, one job / cp', textTimes, 'hypva translate --jobs 1', 'cp', 0.75)
    compare('text file to file, default jobs / cp', textTimes, 'hypva translate', 'cp', 1)
    compare('Node, writing as much of nothing / cp', textTimes, 'Node, writing as much of nothing', 'cp')
    for (const [what, jobs] of [
      ['one job', ['--jobs', '1']],
      ['default jobs', []],
    ] as const) {
      const peak = peakMemory(dir, [main, 'translate', text, '-l', layout, '-o', out, ...jobs])
      report.say(`  peak memory, ${what}: ${peak.toFixed(0)} MB`)
      report.ratio(
        `MB of peak memory, ${megabytes} MB of text, ${what}`,
        { median: peak, min: peak, max: peak },
        152,
        true,
      )
    }

    // The same rewrite in perl, which computes on 64 bits exactly; on a part of the text, it takes its time.
    const part = fill(join(dir, 'part'), log, megabytes * 0.4)
    const perl = `perl -pe 's/(?<![0-9A-Za-z_])(0x)?(ffff[0-9a-f]{12})(?![0-9A-Za-z_])/$v=hex($2); ($v-0xffffad4306200000) < 0x2010000 && $v >= 0xffffad4306200000 ? ($1\\/\\/"").sprintf("%016x",$v-0xffffad4306200000+0x89b380200000) : $&/ge'`
    const perlTimes = await measure(
      [
        { name: 'hypva translate', ...hypva('translate', part, '-l', layout, '-o', out) },
        { name: 'perl -pe', ...shell(`${perl} "${part}" > "${out}.perl"`) },
      ],
      { rounds: 5, time: 0, iterations: 1 },
    )
    report.table(
      `Text, file to file, ${Math.round(megabytes * 0.4)} MB`,
      [...perlTimes.values()],
      (ms) => `${((megabytes * 0.4) / ms).toFixed(2)} GB/s`,
    )
    compare('text file to file / perl -pe', perlTimes, 'hypva translate', 'perl -pe', 12)
    run('sh', ['-c', `${perl} "${part}" > "${out}.perl"`])
    run(process.execPath, [main, 'translate', part, '-l', layout, '-o', out])
    run('cmp', [out, `${out}.perl`])

    // mawk computes in doubles: exact where no more than 53 bits change, as from hyp to physical addresses.
    if (spawnSync('mawk', ['-W', 'version']).status === 0) {
      const lines = fill(join(dir, 'lines'), log.subarray(0, log.lastIndexOf(10) + 1), megabytes * 0.1)
      const physical = ['translate', lines, '-l', layout, '--from', 'hyp', '--to', 'phys', '-o', out]
      const mawk = `mawk -f "${join(root, 'bench/hyp-to-phys.awk')}" "${lines}" > "${out}.mawk"`
      const mawkTimes = await measure(
        [
          { name: 'hypva translate', ...hypva(...physical) },
          { name: 'mawk', ...shell(mawk) },
        ],
        {
          rounds: 3,
          time: 0,
          iterations: 1,
        },
      )
      report.table(
        `Text, hyp to phys, file to file, ${Math.round(megabytes * 0.1)} MB`,
        [...mawkTimes.values()],
        (ms) => `${((megabytes * 0.1) / ms).toFixed(2)} GB/s`,
      )
      compare('text file to file / mawk', mawkTimes, 'hypva translate', 'mawk')
      run('sh', ['-c', mawk])
      run(process.execPath, [main, ...physical])
      run('cmp', [out, `${out}.mawk`])
    }

    const rawTimes = await measure(
      [
        {
          name: 'hypva translate --format u64le',
          ...hypva('translate', raw, '-l', layout, '-o', out, '--format', 'u64le'),
        },
        { name: 'cp', ...shell(`cp "${raw}" "${out}.cp"`) },
      ],
      { rounds: 7, time: 0, iterations: 1 },
    )
    report.table(`Raw u64, file to file, ${megabytes} MB`, [...rawTimes.values()], size)
    compare('raw u64 file to file / cp', rawTimes, 'hypva translate --format u64le', 'cp', 0.85)

    const pipeTimes = await measure(
      [
        { name: 'cat | hypva translate | cat', run: shell(`cat "${text}" | ${translate} | cat > /dev/null`).run },
        { name: 'cat | cat | cat', run: shell(`cat "${text}" | cat | cat > /dev/null`).run },
      ],
      { rounds: 9, time: 0, iterations: 1 },
    )
    report.table(`Text, pipe to pipe, ${megabytes} MB`, [...pipeTimes.values()], size)
    compare('pipe to pipe / cat | cat', pipeTimes, 'cat | hypva translate | cat', 'cat | cat | cat', 0.5)

    const startup: Subject[] = [
      { name: 'hypva --version', run: hypva('--version').run },
      { name: 'node -e 0', run: () => run(process.execPath, ['-e', '0']) },
    ]
    const startTimes = await measure(startup, { rounds: 9, time: 0, iterations: 5 })
    report.table('Start-up', [...startTimes.values()], (ms) => `${ms.toFixed(1)} ms`)
    compare('hypva --version / node -e 0, wall', startTimes, 'node -e 0', 'hypva --version', 1.2, true)
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** The most resident memory, in MB, of a run of hypva, by its own account at the end (Linux). */
function peakMemory(dir: string, args: string[]): number {
  const preload = join(dir, 'peak.mjs')
  writeFileSync(
    preload,
    `import { readFileSync } from 'node:fs'
    process.on('exit', () => console.error(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]))`,
  )
  const { stderr } = spawnSync(process.execPath, ['--import', preload, ...args], { encoding: 'utf8' })
  return Number(stderr.trim().split('\n').at(-1)) / 1000
}

function run(command: string, args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
}

/** A file of about `megabytes` made of whole copies of `block`. */
function fill(path: string, block: Buffer, megabytes: number): string {
  const fd = openSync(path, 'w')
  for (let size = 0; size < megabytes * 1e6; size += block.length) writeSync(fd, block)
  closeSync(fd)
  return path
}

/** Raw addresses of the image and of the linear map in turn. */
function words(): Buffer {
  const array = new BigUint64Array(1 << 17)
  for (let i = 0; i < array.length; i++) {
    array[i] = (i % 2 === 0 ? 0xffffad4306200000n : 0xffff6f3700000000n) + BigInt((i * 4097) % 0x2000000)
  }
  return Buffer.from(array.buffer)
}
