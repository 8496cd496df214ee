import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import { onTestFinished } from 'vitest'

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const TYPES = { data: 0, headers: 1, reset: 3, settings: 4 } as const
const END_HEADERS = 4

/**
 * A frame on stream 1, or a SETTINGS frame. Tests write frames themselves because Node's client always ends the body
 * before it resets a stream.
 */
export function frame(type: keyof typeof TYPES, payload: Buffer | string, flags = 0): Buffer {
  const bytes = Buffer.from(payload as string)
  const head = Buffer.alloc(9)
  head.writeUIntBE(bytes.length, 0, 3)
  head[3] = TYPES[type]
  head[4] = flags
  head.writeUInt32BE(type === 'settings' ? 0 : 1, 5)
  return Buffer.concat([head, bytes])
}

/** The HEADERS frame of a POST whose body follows. Names and values must be shorter than 127 bytes. */
export function postHeaders(path: string, more: Record<string, string> = {}): Buffer {
  const fields = { ':method': 'POST', ':scheme': 'https', ':path': path, ':authority': 'localhost', ...more }
  // Literal header fields without indexing, with new names (RFC 7541, section 6.2.2). The length fits the 7-bit prefix.
  const literals = Object.entries(fields).flatMap(([name, value]) => [
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ])
  return frame('headers', Buffer.concat(literals), END_HEADERS)
}

/** RST_STREAM with CANCEL (8). */
export const cancel = frame('reset', Buffer.from([0, 0, 0, 8]))

/** An HTTP/2 connection with its preface sent, to write frames to. It closes with the test. */
export async function openRaw(url: string, ca: string): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), ca, ALPNProtocols: ['h2'] })
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {}).resume()
  await once(socket, 'secureConnect')
  socket.write(Buffer.concat([Buffer.from(PREFACE), frame('settings', '')]))
  return socket
}
