import { Command, CommanderError } from 'commander'
import { addCheck } from './check.js'
import { addDecode } from './decode.js'
import { addExplain } from './explain.js'
import { ClosedPipe, Failure } from './failure.js'
import { addLayout } from './layout.js'
import { print, say } from './output.js'
import { addTranslate } from './translate.js'

const EXAMPLES = `Examples:
  # A layout from what a kernel prints of itself, then addresses through it:
  hypva layout compute --kernel 6.1 --page-size 4k --va-bits 48 --idmap 0x40eed000 \\
      --dram 0x40000000-0xc0000000 --tag-val 0x11367 > layout.json
  echo 'x0: ffff000000ee7000 lr: 0x89b380ee7abc' | hypva translate -l layout.json
  hypva explain 0xffff000000ee7000 0x89b380ee7abc -l layout.json
`

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
      writeErr: (text) => say(text.trimEnd()),
    })
  const status = { exitCode: 0 }
  addTranslate(program, status)
  addLayout(program, status)
  addExplain(program, status)
  addDecode(program, status)
  addCheck(program, status)
  for (const command of descendants(program)) command.copyInheritedSettings(program)
  try {
    await program.parseAsync(argv)
    return status.exitCode
  } catch (error) {
    return report(error)
  }
}

/** What a command found, beside what it printed. */
export interface Status {
  exitCode: number
}

function descendants(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...descendants(child)])
}

function oneLine(text: string): string {
  return text
    .replace(/^error: /, '')
    .trim()
    .replaceAll('\n', ' ')
}

/** One line on stderr, and the exit code. */
function report(error: unknown): number {
  if (error instanceof ClosedPipe) return 0
  // Commander has printed what it had to say.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const message = error instanceof Error ? error.message : String(error)
  say(`hypva: ${oneLine(message)}`)
  return error instanceof Failure ? error.exitCode : 2
}
