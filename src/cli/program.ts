import { Command, CommanderError } from 'commander'
import { checkArguments } from './arguments.js'
import { ClosedPipe, Failure } from './failure.js'
import { print } from './io/output.js'
import { say } from './io/stderr.js'
import type { Status } from './status.js'

const EXAMPLES = `Examples:
  # Compute a layout from facts that a kernel prints, then translate addresses with it:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  echo 'x0: ffff000000ee7000 lr: 0x89b380ee7abc' | hypva translate -l layout.json
  hypva explain 0xffff000000ee7000 0x89b380ee7abc -l layout.json
`

/** Adds a command, which leaves its exit code in `status`. */
type Add = (program: Command, status: Status) => void

/** The commands. hypva loads the one that the user names, and all of them for the help and for an unknown name. */
const COMMANDS: Readonly<Record<string, (subcommand?: string) => Promise<Add>>> = {
  translate: async () => (await import('./commands/translate.js')).addTranslate,
  summary: async () => (await import('./commands/summary.js')).addSummary,
  layout: async (subcommand) => {
    const { addLayout } = await import('./commands/layout.js')
    const others = subcommand === 'compute' || subcommand === 'show'
    const recover = others ? undefined : (await import('./commands/recover.js')).addRecover
    return (program, status) => addLayout(program, status, recover)
  },
  explain: async () => (await import('./commands/explain.js')).addExplain,
  decode: async () => (await import('./commands/decode.js')).addDecode,
  check: async () => (await import('./commands/check.js')).addCheck,
}

/** Runs the command line. Returns the exit code: 0 done, 1 a check failed, 2 usage or unreadable input. */
export async function run(argv: readonly string[]): Promise<number> {
  const program = new Command('hypva')
    .description("Translate arm64 KVM addresses between the kernel's view and the EL2 hypervisor's view, in bulk.")
    .addHelpText('before', EXAMPLES)
    .option('-V, --version', 'print the version')
    .exitOverride()
    .configureOutput({
      outputError: (text) => say(`hypva: ${oneLine(text)} (--help shows how)`),
      writeOut: print,
      writeErr: (text) => text.trimEnd().split('\n').forEach(say),
    })
  const status = { exitCode: 0 }
  const [, , name = '', subcommand] = argv
  const wanted = Object.hasOwn(COMMANDS, name) ? [name] : Object.keys(COMMANDS)
  for (const command of wanted) {
    const add = await COMMANDS[command]!(command === name ? subcommand : undefined)
    add(program, status)
  }
  for (const command of descendants(program)) command.copyInheritedSettings(program)
  try {
    checkArguments(argv.slice(2))
    await program.parseAsync(argv)
    return status.exitCode
  } catch (error) {
    return report(error)
  }
}

/** Prints the version; the exit code. */
export function printVersion(version: string): number {
  try {
    print(`${version}\n`)
    return 0
  } catch (error) {
    return report(error)
  }
}

function descendants(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...descendants(child)])
}

/** One of commander's errors as one line. A line end inside an argument stays; `say` makes it visible. */
function oneLine(text: string): string {
  return (
    text
      .replace(/^error: /, '')
      // What follows names the value as well.
      .replace(/^command-argument value '.*?' is invalid for argument '.*?'\. /s, '')
      .replace(/\n(?=\(Did you mean )/, ' ')
      .replace(/\n$/, '')
  )
}

/** One line on stderr, and the exit code. */
function report(error: unknown): number {
  if (error instanceof ClosedPipe) return 0
  // Commander has printed its message.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const message = error instanceof Error ? error.message : String(error)
  say(`hypva: ${message}`)
  return error instanceof Failure ? error.exitCode : 2
}
