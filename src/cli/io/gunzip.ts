import { ZStream, zlibInflate, zlibInflateInit2, zlibInflateReset } from 'pako'
import { damaged, type Flow } from './reading.js'

// zlib's own numbers: its flush mode, what its calls return, and the window bits that stand for gzip.
const NO_FLUSH = 0
const STREAM_END = 1
const OK = 0
const BUFFER_ERROR = -5
const GZIP_WINDOW = 31
/** Compressed bytes read at a time. */
const CHUNK = 1 << 16

/**
 * Decompresses a flow of gzip members while reading it. Node decompresses either in one piece or asynchronously, but hypva reads
 * evidence synchronously, whatever its size.
 */
export function gunzipFlow(name: string, compressed: Flow): Flow {
  const stream = new ZStream()
  zlibInflateInit2(stream, GZIP_WINDOW)
  const input = new Uint8Array(CHUNK)
  let ended = false
  let inMember = true
  const more = (): boolean => {
    if (stream.avail_in > 0) return true
    stream.input = input
    stream.next_in = 0
    stream.avail_in = compressed.next(input)
    return stream.avail_in > 0
  }
  return {
    next(into) {
      if (ended) return 0
      stream.output = into as Uint8Array<ArrayBuffer>
      stream.next_out = 0
      stream.avail_out = into.length
      while (stream.next_out === 0) {
        const present = more()
        if (!inMember) {
          // Zeros after a member are padding and end the data; anything else is another member.
          if (!present || stream.input[stream.next_in] === 0) {
            ended = true
            return 0
          }
          zlibInflateReset(stream)
          inMember = true
        }
        // The decoder may still hold output when there is no more input.
        const status = zlibInflate(stream, NO_FLUSH)
        if (status === STREAM_END) inMember = false
        else if (status !== OK && status !== BUFFER_ERROR) throw damaged(name, stream.msg)
        else if (!present && stream.next_out === 0) throw damaged(name, 'unexpected end of file')
      }
      return stream.next_out
    },
  }
}
