/** What the first bytes of a file or stream show it to be, when that is not plain text. */
export interface Content {
  /**
   * `elf` and `kdump` are dumps that evidence has its own words for. `unsupported` is a known format that hypva does not
   * read. `binary` is anything else that is plainly no text; it may be memory.
   */
  readonly kind: 'elf' | 'kdump' | 'unsupported' | 'binary'
  /** What it is, for a message: "an ELF file", "xz-compressed data". */
  readonly name: string
  /** How to make text of it, as the rest of a sentence; FILE stands for the file. */
  readonly remedy: string
  /** What to say of it as evidence, where that is not name and remedy. */
  readonly evidence?: string
}

/** As much of a file as is looked at, in bytes. */
export const HEAD = 4096

/** One byte of a magic number: its value, or a test. */
type ByteTest = number | ((byte: number) => boolean)

interface Row extends Content {
  /** Each is a format's first bytes, one test a byte. */
  readonly magic: readonly (readonly ByteTest[])[]
}

const ANY: ByteTest = () => true
const oneOf =
  (from: number, to: number): ByteTest =>
  (byte: number) =>
    byte >= from && byte <= to
const zeroOrOnes: ByteTest = (byte) => byte === 0 || byte === 0xff
const powerOfTwo: ByteTest = (byte) => byte > 0 && (byte & (byte - 1)) === 0
const ascii = (text: string): number[] => [...text].map((letter) => letter.charCodeAt(0))

/** ESC, and the record separator before each value of a JSON text sequence (RFC 7464), as `journalctl -o json-seq` writes them. */
const ESCAPE = 27
const RECORD_SEPARATOR = 30

/** Whether a byte is a control character that no text has: no white space, no BEL or BS of a terminal. */
function isOdd(byte: number): boolean {
  return byte < 7 || (byte > 13 && byte < 32 && byte !== ESCAPE && byte !== RECORD_SEPARATOR)
}

function compressed(by: string, command: string, ...magic: readonly ByteTest[][]): Row {
  return { kind: 'unsupported', name: `${by}-compressed data`, remedy: `decompress it with \`${command} FILE\``, magic }
}

function unsupported(name: string, remedy: string, ...magic: readonly ByteTest[][]): Row {
  return { kind: 'unsupported', name, remedy, magic }
}

/**
 * Numbers are from the formats' own documents and from file(1). A magic of plain letters has a byte behind it that no text has
 * there, since a log may begin with the word.
 */
const FORMATS: readonly Row[] = [
  {
    kind: 'elf',
    name: 'an ELF file',
    remedy: 'disassemble a program with `objdump -d FILE`, print the kernel log of a core with `vmcore-dmesg FILE`',
    magic: [[0x7f, ...ascii('ELF')]],
  },
  {
    kind: 'kdump',
    name: 'a compressed kdump file',
    remedy: 'print its kernel log with `makedumpfile --dump-dmesg FILE OUT`',
    evidence:
      'a compressed kdump file, which hypva does not read. Make an ELF core instead: in the crash kernel `makedumpfile -E -d 31 /proc/vmcore FILE`, ' +
      'under QEMU `dump-guest-memory FILE` without -z, -l, -s; or ask crash for `p tag_lsb`, `p tag_val` and give hypva the output',
    // A header version below 256 follows, in either byte order.
    magic: ['KDUMP   ', 'DISKDUMP'].map((signature) => [...ascii(signature), ANY, 0, 0, ANY]),
  },
  {
    kind: 'kdump',
    name: 'a flattened makedumpfile stream',
    remedy:
      'turn it into a dump file with `makedumpfile -R OUT < FILE`, then print its kernel log with `makedumpfile --dump-dmesg OUT LOG`',
    evidence:
      'a flattened makedumpfile stream, which hypva does not read: `makedumpfile -R OUT < FILE` makes a dump file of it',
    magic: [[...ascii('makedumpfile'), 0]],
  },
  unsupported('a trace.dat file of trace-cmd', 'print it with `trace-cmd report FILE`', [
    ...[0x17, 0x08, 0x44],
    ...ascii('tracing'),
  ]),
  unsupported(
    'a perf.data file',
    'print it with `perf script -i FILE`',
    // The size of its header follows, 16 to 104 today, in the byte order of the signature.
    [...ascii('PERFILE2'), ANY, 0, 0, 0],
    [...ascii('PERFFILE'), ANY, 0, 0, 0],
    [...ascii('2ELIFREP'), 0, 0, 0, 0],
  ),
  unsupported(
    'a CTF trace',
    'print the trace with `babeltrace2 DIRECTORY`, DIRECTORY being where FILE is',
    [0xc1, 0x1f, 0xfc, 0xc1],
    [0xc1, 0xfc, 0x1f, 0xc1],
    // Packets of metadata.
    [0x57, 0x1d, 0xd1, 0x75],
    [0x75, 0xd1, 0x1d, 0x57],
  ),
  unsupported('a systemd journal', 'print it with `journalctl --file FILE -o short-monotonic`', [
    // Two sets of flags follow, little-endian.
    ...ascii('LPKSHHRH'),
    ...[ANY, 0, 0, 0],
  ]),
  unsupported(
    'a network capture',
    'print it with `tcpdump -xx -r FILE`',
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
  ),
  unsupported('an SQLite database', 'print it with `sqlite3 FILE .dump`', [...ascii('SQLite format 3'), 0]),
  unsupported('a Parquet file', 'print it with `duckdb -csv -c "FROM read_parquet(\'FILE\')"`', [
    ...ascii('PAR1'),
    // Thrift's compact protocol: the first field of a page header, or of the footer, is number 1 and an i32.
    0x15,
  ]),
  unsupported(
    'a zip archive',
    'extract it with `unzip -p FILE`',
    [...ascii('PK'), 3, 4],
    [...ascii('PK'), 5, 6],
    [...ascii('PK'), 7, 8],
  ),
  unsupported('a 7z archive', 'extract it with `7z x -so FILE`', [...ascii('7z'), 0xbc, 0xaf, 0x27, 0x1c]),
  unsupported(
    'a compressed kernel (EFI zboot)',
    'in a recent kernel tree, unpack it with `scripts/extract-vmlinux FILE`',
    [
      // struct linux_efi_zboot_header: the magic of a DOS program, then that of its own.
      ...[...ascii('MZ'), 0, 0],
      ...ascii('zimg'),
    ],
  ),
  unsupported('an Android boot image', 'unpack it with `unpack_bootimg --boot_img FILE --out DIRECTORY`', [
    ...ascii('ANDROID!'),
    // The kernel's size follows, little-endian: less than 112 MiB.
    ...[ANY, ANY, ANY, oneOf(0, 6)],
  ]),
  unsupported('an Android sparse image', 'turn it into a disk image with `simg2img FILE OUT`', [
    // Version 1.x.
    ...[0x3a, 0xff, 0x26, 0xed, 1, 0],
  ]),
  unsupported('a squashfs file system', 'unpack it with `unsquashfs FILE`', [
    ...ascii('hsqs'),
    // The numbers of inodes and seconds, then the size of blocks: a power of two from 4 KiB to 1 MiB.
    ...[ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY],
    ...[0, ANY, oneOf(0, 0x10), 0],
  ]),
  // RFC 1952: deflate is the only method; the upper three flags are reserved.
  { ...compressed('gzip', 'gzip -dc', [0x1f, 0x8b, 8, oneOf(0, 0x1f)]), name: 'gzip data' },
  compressed('xz', 'xz -dc', [0xfd, ...ascii('7zXZ'), 0]),
  // No magic number: the usual properties, a dictionary of 2^n bytes, from 64 KiB on, a length that is unknown or below 2^40, and
  // the coder's first byte.
  compressed(
    'lzma',
    'xz --format=lzma -dc',
    [0x5d, 0, 0, powerOfTwo, 0, ANY, ANY, ANY, ANY, ANY, zeroOrOnes, zeroOrOnes, zeroOrOnes, 0],
    [0x5d, 0, 0, 0, powerOfTwo, ANY, ANY, ANY, ANY, ANY, zeroOrOnes, zeroOrOnes, zeroOrOnes, 0],
  ),
  compressed('zstd', 'zstd -dc', [0x28, 0xb5, 0x2f, 0xfd]),
  compressed('lz4', 'lz4 -dc', [0x04, 0x22, 0x4d, 0x18], [0x02, 0x21, 0x4c, 0x18]),
  compressed(
    'bzip2',
    'bzip2 -dc',
    // The first block's magic, or the end's where there is no block.
    [...ascii('BZh'), oneOf(0x31, 0x39), 0x31, 0x41, 0x59, 0x26, 0x53, 0x59],
    [...ascii('BZh'), oneOf(0x31, 0x39), 0x17, 0x72, 0x45, 0x38, 0x50, 0x90],
  ),
  // compress(1): block mode, and 9 to 16 bits.
  compressed('compress', 'gzip -dc', [0x1f, 0x9d, oneOf(0x89, 0x90)]),
  compressed('lzop', 'lzop -dc', [0x89, ...ascii('LZO'), 0, 0x0d, 0x0a, 0x1a, 0x0a]),
  compressed('lzip', 'lzip -dc', [...ascii('LZIP'), oneOf(0, 1)]),
  compressed('snappy', 'snzip -dc', [0xff, 0x06, 0, 0, ...ascii('sNaPpY')]),
  unsupported(
    'UTF-32 text',
    'convert it with `iconv -f UTF-32 -t UTF-8 FILE`',
    [0xff, 0xfe, 0, 0, ANY, oneOf(0, 0x20), 0, 0],
    [0, 0, 0xfe, 0xff, 0, 0, oneOf(0, 0x20), ANY],
  ),
]

const TAR = unsupported('a tar archive', 'extract it with `tar -xOf FILE`')
const UTF16 = (order: string) => unsupported('UTF-16 text', `convert it with \`iconv -f UTF-16${order} -t UTF-8 FILE\``)
const BINARY: Content = {
  kind: 'binary',
  name: 'binary data',
  remedy: 'print the text in it with `strings FILE`',
}

/**
 * What a file or stream is by its first bytes, at most HEAD of them; undefined for text, and for too few bytes to tell. Text
 * in UTF-8 or any 8-bit encoding, with colours and a few stray control characters, is text.
 */
export function recognise(head: Uint8Array): Content | undefined {
  const bytes = head.subarray(0, HEAD)
  if (bytes.length === 0) return undefined
  return format(bytes) ?? skippable(bytes) ?? (isTar(bytes) ? TAR : undefined) ?? utf16(bytes) ?? binary(bytes)
}

/** So many control characters prove nothing however short the text is. */
const FEW = 8
/** Bytes of UTF-16 that show what it is, and bytes behind leading NULs that show that a text begins there. */
const ENOUGH = 16

/** Whether more bytes may show that `head`, of a stream that has sent no more yet, is no text, or is text after all. */
export function undecided(head: Uint8Array): boolean {
  // A line is answered at once.
  if (head.includes(0x0a) || format(head) !== undefined) return false
  // UTF-16 of a few letters is nothing certain yet, nor are NULs before something.
  if (head.length < ENOUGH && head.includes(0)) return true
  const nuls = leadingNuls(head)
  if (nuls > FEW && head.length - nuls < ENOUGH && head.length < HEAD) return true
  return FORMATS.some(({ magic }) => magic.some((tests) => head.length < tests.length && agree(head, tests)))
}

function format(bytes: Uint8Array): Content | undefined {
  return FORMATS.find(({ magic }) => magic.some((tests) => bytes.length >= tests.length && agree(bytes, tests)))
}

/** Whether the bytes there are pass their tests. */
function agree(bytes: Uint8Array, tests: readonly ByteTest[]): boolean {
  const length = Math.min(bytes.length, tests.length)
  for (let i = 0; i < length; i++) {
    const test = tests[i]!
    const byte = bytes[i]!
    if (typeof test === 'number' ? byte !== test : !test(byte)) return false
  }
  return true
}

/** Zstandard and LZ4 share frames that decoders skip, RFC 8878 section 3.1.2; what stands behind them tells which it is. */
function skippable(bytes: Uint8Array): Content | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  while (at + 8 <= bytes.length && (view.getUint32(at, true) & 0xfffffff0) === 0x184d2a50) {
    at += 8 + view.getUint32(at + 4, true)
  }
  if (at === 0 || at >= bytes.length) return undefined
  const found = format(bytes.subarray(at))
  return found?.name === 'zstd-compressed data' || found?.name === 'lz4-compressed data' ? found : undefined
}

/** A tar header of any age: the checksum, in octal, is the sum of all other bytes, with spaces in its own place. */
function isTar(bytes: Uint8Array): boolean {
  if (bytes.length < 512 || bytes[0] === 0) return false
  const field = String.fromCharCode(...bytes.subarray(148, 156))
  const said = /^ *([0-7]{4,7})[ \0]/.exec(field)?.[1]
  if (said === undefined) return false
  let sum = 8 * 0x20
  for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += bytes[i]!
  return sum === Number.parseInt(said, 8)
}

/** UTF-16 of mostly ASCII, with a byte order mark or without. */
function utf16(bytes: Uint8Array): Content | undefined {
  const marked = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)
  const units = (bytes.length >> 1) - (marked ? 1 : 0)
  if (units < (marked ? 1 : 4)) return undefined
  for (const [order, high] of [
    ['LE', 1],
    ['BE', 0],
  ] as const) {
    if (marked && (bytes[0] === 0xff) !== (order === 'LE')) continue
    let letters = 0
    for (let at = marked ? 2 : 0; at + 1 < bytes.length; at += 2) {
      const low = bytes[at + 1 - high]!
      if (bytes[at + high] === 0 && low !== 0 && low < 0x7f && !isOdd(low)) letters++
    }
    if (letters * 10 >= units * 9) return UTF16(marked ? '' : order)
  }
  return undefined
}

/**
 * Plainly no text: of the bytes more than one in 64 is a control character that text does not have. A serial log may hold
 * some, most of them at its beginning, so that FEW prove nothing however short it is, and NULs before text prove nothing
 * however many there are: the line is low while a board has no power.
 */
function binary(bytes: Uint8Array): Content | undefined {
  const odd = countOdd(bytes)
  if (odd <= Math.max(FEW, bytes.length / 64)) return undefined
  return beginsText(bytes.subarray(leadingNuls(bytes))) ? undefined : BINARY
}

/** Control characters that no text has. */
export function countOdd(bytes: Uint8Array): number {
  let odd = 0
  for (const byte of bytes) if (isOdd(byte)) odd++
  return odd
}

function leadingNuls(bytes: Uint8Array): number {
  const first = bytes.findIndex((byte) => byte !== 0)
  return first < 0 ? bytes.length : first
}

/** Whether what follows NULs is text beyond doubt: memory, too, begins with zeros. */
function beginsText(bytes: Uint8Array): boolean {
  const ascii = bytes.reduce((count, byte) => count + (byte < 0x7f ? 1 : 0), 0)
  return bytes.length >= ENOUGH && countOdd(bytes) <= bytes.length / 64 && ascii * 8 >= bytes.length * 7
}
