import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { ClosedPipe, Failure } from './failure.js'
import { print } from './io/output.js'
import { say } from './io/stderr.js'

const EXAMPLES = `Examples:
  # Compute a layout from facts that a kernel prints, then translate addresses with it:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  echo 'x0: ffff000000ee7000 lr: 0x89b380ee7abc' | hypva translate -l layout.json
  hypva explain 0xffff000000ee7000 0x89b380ee7abc -l layout.json
`

/** The commands. hypva loads the one that the user names, and all of them for the help and for an unknown name. */
const COMMANDS: Readonly<Record<string, (subcommand?: string) => Promise<(program: Command) => void>>> = {
  translate: async () => (await import('./commands/translate.js')).addTranslate,
  summary: async () => (await import('./commands/summary.js')).addSummary,
  layout: async (subcommand) => {
    const { addLayout } = await import('./commands/layout.js')
    const others = subcommand === 'compute' || subcommand === 'show'
    const recover = others ? undefined : (await import('./commands/recover.js')).addRecover
    return (program) => addLayout(program, recover)
  },
  explain: async () => (await import('./commands/explain.js')).addExplain,
  decode: async () => (await import('./commands/decode.js')).addDecode,
  check: async () => (await import('./commands/check.js')).addCheck,
}

/** Runs the command line. The exit code is 0: done, 1: a check failed, 2: usage or unreadable input. */
export async function run(argv: readonly string[]): Promise<void> {
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
  const [, , name = '', subcommand] = argv
  const wanted = Object.hasOwn(COMMANDS, name) ? [name] : Object.keys(COMMANDS)
  for (const command of wanted) {
    const add = await COMMANDS[command]!(command === name ? subcommand : undefined)
    add(program)
  }
  for (const command of descendants(program)) command.copyInheritedSettings(program)
  try {
    checkArguments(argv.slice(2))
    await program.parseAsync(argv)
  } catch (error) {
    report(error)
  }
}

export function printVersion(version: string): void {
  try {
    print(`${version}\n`)
  } catch (error) {
    report(error)
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

/** Reports an error in one line, and sets the exit code. */
function report(error: unknown): void {
  process.exitCode = error instanceof Failure ? error.exitCode : 2
  if (error instanceof ClosedPipe) process.exitCode = 0
  // Commander has printed its message.
  else if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else say(`hypva: ${error instanceof Error ? error.message : error}`)
}

/**
 * Refuses arguments that are not UTF-8. Node puts U+FFFD in place of the bytes it cannot decode, so hypva would not find that
 * input, and would write an output of another name. Linux keeps the bytes themselves in /proc.
 */
function checkArguments(args: readonly string[]): void {
  if (!args.some((arg) => arg.includes('\ufffd'))) return
  let given: string[]
  try {
    // A NUL ends each argument.
    given = readFileSync('/proc/self/cmdline', 'latin1').split('\0').slice(0, -1)
  } catch {
    // Not Linux: macOS accepts no such names.
    return
  }
  const bad = given.slice(-args.length).find((arg) => !isUtf8(Buffer.from(arg, 'latin1')))
  if (bad === undefined) return
  const shown = bad.replace(/[\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`)
  throw new Failure(
    `the argument ${shown} is not UTF-8, and hypva cannot open a file of that name: rename it, make a link to it, or use < and >`,
  )
}
