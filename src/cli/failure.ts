/** An error that the command line reports in one line, with its exit code: 1 a check failed, 2 usage or unreadable input. */
export class Failure extends Error {
  readonly exitCode: 1 | 2
  constructor(message: string, exitCode: 1 | 2 = 2) {
    super(message)
    this.exitCode = exitCode
  }
}

/** The reader of the output has gone. That is no error, and hypva ends without a message. */
export class ClosedPipe extends Error {}

const SYSTEM: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EISDIR: 'is a directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'disk quota exceeded',
  EROFS: 'read-only file system',
  EIO: 'input/output error',
  EBADF: 'bad file descriptor',
  EFBIG: 'file too large',
  ENOTDIR: 'a part of the path is not a directory',
  ELOOP: 'too many symbolic links',
  EMFILE: 'too many open files',
  ENXIO: 'no such device',
  ESTALE: 'stale file handle',
}

/** Describes an error of the operating system: what hypva was doing, to which file, and why it failed. */
export function systemFailure(doing: string, file: string, error: unknown): Error {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'EPIPE') return new ClosedPipe()
  return new Failure(`${doing} ${file}: ${(code !== undefined && SYSTEM[code]) || message}`)
}
