/**
 * Beginnings of files that are no text. Those of compressors are what the tools themselves made of `pc 0xffff000000ee7abc\n`;
 * the others are the first bytes that each format's documents and sources give.
 */
export interface Sample {
  /** What messages call it. */
  readonly name: RegExp
  /** The command that makes text of it. */
  readonly command: string
  readonly hex: string
}

export const SAMPLES: Readonly<Record<string, Sample>> = {
  // ELF64, little-endian, ET_EXEC, EM_AARCH64: elf(5)
  elf: {
    name: /^an ELF file/,
    command: 'objdump -d',
    hex: `7f454c460201010000000000000000000200b70001000000${'00'.repeat(40)}`,
  },
  // header_version 6 of struct disk_dump_header: makedumpfile's diskdump_mod.h, a dump of a real 6.1
  kdump: {
    name: /^a compressed kdump file/,
    command: 'makedumpfile --dump-dmesg',
    hex: `4b44554d5020202006000000${'00'.repeat(30)}`,
  },
  diskdump: {
    name: /^a compressed kdump file/,
    command: 'makedumpfile --dump-dmesg',
    hex: `4449534b44554d5000000006${'00'.repeat(30)}`,
  },
  // struct makedumpfile_header: signature of 16 bytes, type 1 and version 1, big-endian
  flat: {
    name: /^a flattened makedumpfile/,
    command: 'makedumpfile -R',
    hex: '6d616b6564756d7066696c650000000000000000000000010000000000000001',
  },
  // trace-cmd.dat.v6(5): magic, version "6", little-endian, long size
  traceDat: { name: /^a trace.dat file/, command: 'trace-cmd report', hex: '17084474726163696e673600000800100000' },
  // perf 6.1 record, to a file and to a pipe; and as a big-endian machine writes it
  perf: {
    name: /^a perf.data file/,
    command: 'perf script -i',
    hex: '50455246494c453268000000000000009000000000000000',
  },
  perfPipe: {
    name: /^a perf.data file/,
    command: 'perf script -i',
    hex: '50455246494c453210000000000000004000000000009800',
  },
  perfBig: {
    name: /^a perf.data file/,
    command: 'perf script -i',
    hex: '32454c494652455000000000000000680000000000000090',
  },
  // CTF 1.8.3, section 5.1: 0xC1FC1FC1 in the trace's byte order; section 7.1: 0x75D11D57 of metadata
  ctf: { name: /^a CTF trace/, command: 'babeltrace2', hex: 'c11ffcc12a6422d06cee42e0' },
  ctfBig: { name: /^a CTF trace/, command: 'babeltrace2', hex: 'c1fc1fc12a6422d06cee42e0' },
  ctfMetadata: { name: /^a CTF trace/, command: 'babeltrace2', hex: '571dd1752a6422d06cee42e0' },
  // systemd, JOURNAL_FILE_FORMAT.md: signature, compatible and incompatible flags
  journal: { name: /^a systemd journal/, command: 'journalctl --file', hex: '4c504b53484852480100000014000000' },
  // pcap-savefile(5)
  pcap: { name: /^a network capture/, command: 'tcpdump', hex: 'd4c3b2a1020004000000000000000000ffff000001000000' },
  pcapNanoseconds: {
    name: /^a network capture/,
    command: 'tcpdump',
    hex: '4d3cb2a1020004000000000000000000ffff000001000000',
  },
  // SQLite's fileformat.html
  sqlite: {
    name: /^an SQLite database/,
    command: 'sqlite3',
    hex: '53514c69746520666f726d6174203300100001010040202000000001',
  },
  // Parquet's README: "PAR1", then the first column chunk, whose page header is thrift's compact protocol
  parquet: { name: /^a Parquet file/, command: 'duckdb', hex: '504152311504152015244c15041500' },
  // Zip of Info-ZIP 3.0 from a pipe; and APPNOTE.TXT 4.3.16, an empty archive
  zip: { name: /^a zip archive/, command: 'unzip -p', hex: '504b0304140008000800c96c785d0000000000000000000000000100' },
  zipEmpty: { name: /^a zip archive/, command: 'unzip -p', hex: `504b0506${'00'.repeat(18)}` },
  // 7zFormat.txt: signature and version 0.4
  sevenZip: { name: /^a 7z archive/, command: '7z x', hex: '377abcaf271c0004' },
  // drivers/firmware/efi/libstub/zboot-header.S: magics, payload offset and size, two reserved words, the compressor's name
  zboot: {
    name: /^a compressed kernel \(EFI zboot\)/,
    command: 'scripts/extract-vmlinux',
    hex: '4d5a00007a696d67d00f0100c03ad3000000000000000000677a6970',
  },
  // AOSP's bootimg.h: header versions 0 and 4
  androidBoot: {
    name: /^an Android boot image/,
    command: 'unpack_bootimg --boot_img',
    hex: '414e44524f49442108905901008000104fd05a0000000011',
  },
  androidBoot4: {
    name: /^an Android boot image/,
    command: 'unpack_bootimg --boot_img',
    hex: '414e44524f494421000858020000000060010016300600000000',
  },
  // AOSP's sparse_format.h: version 1.0, headers of 28 and 12 bytes, blocks of 4096
  androidSparse: { name: /^an Android sparse image/, command: 'simg2img', hex: '3aff26ed010000001c000c0000100000' },
  // squashfs_fs.h: magic, inodes, time, blocks of 128 KiB and of 1 MiB
  squashfs: {
    name: /^a squashfs file system/,
    command: 'unsquashfs',
    hex: '6873717303000000876fb566000002000100000004001100',
  },
  squashfsLarge: {
    name: /^a squashfs file system/,
    command: 'unsquashfs',
    hex: '6873717303000000876fb566000010000100000004001400',
  },
  // RFC 1952; the time is one that raw words could hold, so that it is not decompressed
  gzip: { name: /^gzip data/, command: 'gzip -dc', hex: '1f8b0800000000f00003' },
  xz: {
    name: /^xz-compressed/,
    command: 'xz -dc',
    hex: 'fd377a585a000004e6d6b4460200210116000000742fe5a3e0001500145d003818c002033fdddbf9eebac029eee3d165c96d0000083f0fba8620fb47000130168936140b1fb6f37d010000000004595a',
  },
  lzma: {
    name: /^lzma-compressed/,
    command: 'xz --format=lzma -dc',
    hex: '5d00008000ffffffffffffffff003818c002033fdddbf9eebac029eee3d166ca047dffff87220000',
  },
  // lzma_encoder of LZMA SDK with a dictionary of 16 MiB and the length known
  lzmaLength: {
    name: /^lzma-compressed/,
    command: 'xz --format=lzma -dc',
    hex: '5d000000011600000000000000003818c002033fdddbf9',
  },
  bzip2: {
    name: /^bzip2-compressed/,
    command: 'bzip2 -dc',
    hex: '425a683931415926535910d9be4800000a59805010400040803b00404020003100d001593119ea0457151bc4d16e09997a2ee48a70a12021b37c90',
  },
  bzip2Empty: { name: /^bzip2-compressed/, command: 'bzip2 -dc', hex: '425a683917724538509000000000' },
  zstd: {
    name: /^zstd-compressed/,
    command: 'zstd -dc',
    hex: '28b52ffd0458b100007063203078666666663030303030306565376162630ae448779f',
  },
  pzstd: {
    name: /^zstd-compressed/,
    command: 'zstd -dc',
    hex: '502a4d18040000002300000028b52ffd0458b100007063203078666666663030303030306565376162630ae448779f',
  },
  lz4: {
    name: /^lz4-compressed/,
    command: 'lz4 -dc',
    hex: '04224d186440a715000000a1706320307866666666300100706565376162630a0000000049424a45',
  },
  lz4Legacy: {
    name: /^lz4-compressed/,
    command: 'lz4 -dc',
    hex: '02214c1815000000a1706320307866666666300100706565376162630a',
  },
  // compress(1): 16 bits, block mode
  compress: { name: /^compress-compressed/, command: 'gzip -dc', hex: '1f9d9070c68c00' },
  // lzop 1.04, conf.h
  lzop: { name: /^lzop-compressed/, command: 'lzop -dc', hex: '894c5a4f000d0a1a0a1040' },
  // lzip's manual, "File format"
  lzip: { name: /^lzip-compressed/, command: 'lzip -dc', hex: '4c5a4950010c' },
  // framing_format.txt, 4.1
  snappy: { name: /^snappy-compressed/, command: 'snzip -dc', hex: 'ff060000734e61507059' },
  utf16: {
    name: /^UTF-16 text/,
    command: 'iconv -f UTF-16 -t UTF-8',
    hex: `fffe${utf16('pc 0xffff000000ee7abc\n', 'le')}`,
  },
  utf16Big: {
    name: /^UTF-16 text/,
    command: 'iconv -f UTF-16 -t UTF-8',
    hex: `feff${utf16('pc 0xffff000000ee7abc\n', 'be')}`,
  },
  utf16NoMark: {
    name: /^UTF-16 text/,
    command: 'iconv -f UTF-16LE -t UTF-8',
    hex: utf16('pc 0xffff000000ee7abc\n', 'le'),
  },
  utf16BigNoMark: {
    name: /^UTF-16 text/,
    command: 'iconv -f UTF-16BE -t UTF-8',
    hex: utf16('pc 0xffff000000ee7abc\n', 'be'),
  },
  utf32: { name: /^UTF-32 text/, command: 'iconv -f UTF-32 -t UTF-8', hex: 'fffe00007000000063000000' },
  utf32Big: { name: /^UTF-32 text/, command: 'iconv -f UTF-32 -t UTF-8', hex: '0000feff0000007000000063' },
  tar: { name: /^a tar archive/, command: 'tar -xOf', hex: tar('ustar\0' + '00', 'pc 0xffff000000ee7abc\n') },
  tarGnu: { name: /^a tar archive/, command: 'tar -xOf', hex: tar('ustar  \0', 'pc 0xffff000000ee7abc\n') },
  tarV7: { name: /^a tar archive/, command: 'tar -xOf', hex: tar('', 'pc 0xffff000000ee7abc\n') },
}

export function bytesOf({ hex }: Sample): Buffer {
  return Buffer.from(hex, 'hex')
}

function utf16(text: string, order: 'le' | 'be'): string {
  const bytes = Buffer.from(text, 'utf16le')
  return (order === 'le' ? bytes : bytes.swap16()).toString('hex')
}

/** POSIX.1-2017, pax, "ustar Interchange Format"; without a magic the header of Version 7. */
function tar(magic: string, content: string): string {
  const header = Buffer.alloc(512)
  header.write('trace.txt', 0)
  header.write('0000644\0' + '0000000\0' + '0000000\0', 100)
  header.write(`${content.length.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0`, 124)
  header.write(magic, 257, 'latin1')
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return Buffer.concat([header, Buffer.from(content.padEnd(512, '\0')), Buffer.alloc(1024)]).toString('hex')
}
