import { Option } from 'commander'
import { GENERATIONS } from '../layout/generations.js'
import { parseMachine } from '../layout/json.js'
import { type Machine, MODES } from '../layout/types.js'
import { inFile, readText } from './io/small-file.js'
import { PAGE_SIZES, parseNumber, parseRange, parseRanges } from './values.js'

/** `-m, --machine FILE`, and the flags that say the fields of a machine, named as the fields are. */
export function machineOptions(): Option[] {
  return [
    new Option('-m, --machine <file>', 'machine JSON (- is stdin)'),
    new Option('--kernel <version>', 'kernel version, such as 6.12 (a vendor kernel may need --generation instead)'),
    new Option('--generation <name>', 'generation of the layout algorithm').choices([...GENERATIONS]),
    new Option('--mode <mode>', 'how the hypervisor runs (default: nvhe)').choices([...MODES]),
    new Option('--page-size <size>', 'page size').choices(['4k', '16k', '64k']),
    new Option('--va-bits <bits>', 'CONFIG_ARM64_VA_BITS').argParser(parseNumber),
    new Option('--va-bits-actual <bits>', 'vabits_actual, where a 52-bit build runs with fewer').argParser(parseNumber),
    new Option('--no-randomize-base', 'the kernel was built without CONFIG_RANDOMIZE_BASE'),
    new Option('--dram <start-end>', 'a bank of DRAM, end exclusive; once for each').argParser(parseRanges),
    new Option('--idmap <address>', 'physical address of the idmap page'),
    new Option('--phys-offset <value>', "PHYS_OFFSET (default: by the kernel's rule)"),
    new Option('--image <start-end>', 'virtual addresses of _text and _end').argParser(parseRange),
    new Option('--kimage-voffset <value>', 'kimage_voffset'),
    new Option('--kaslr-offset <value>', 'KASLR offset of the image'),
    new Option('--random <value>', 'the random 64-bit word the kernel drew'),
    new Option('--tag-val <value>', 'the tag_val the boot was seen to have'),
  ]
}

const FIELDS = [
  'kernel',
  'generation',
  'mode',
  'pageSize',
  'vaBits',
  'vaBitsActual',
  'randomizeBase',
  'dram',
  'idmap',
  'physOffset',
  'image',
  'kimageVoffset',
  'kaslrOffset',
  'random',
  'tagVal',
] as const

/** The machine that file and flags describe together. */
export function readMachine(options: Record<string, unknown> & { machine?: string }): Machine {
  const flags: Record<string, unknown> = {}
  for (const field of FIELDS) {
    const value = options[field]
    if (value === undefined) continue
    flags[field] = field === 'pageSize' ? PAGE_SIZES[value as string] : value
  }
  // Commander gives every --no-X a default of true; only the flag itself says something.
  if (flags.randomizeBase === true) delete flags.randomizeBase
  // One of the two says which algorithm: the flag, when there is one.
  const replaces = 'kernel' in flags ? ['generation'] : 'generation' in flags ? ['kernel'] : []
  const { machine: file } = options
  if (file === undefined) return parseMachine('{"format":"hypva-machine/1"}', flags)
  return inFile(file, () => parseMachine(readText(file), flags, replaces))
}
