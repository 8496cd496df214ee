import type { Message } from './message.ts'

export type View = 'text' | 'json' | 'hex'

const HEX_BYTES_MAX = 4096
const TEXT_MAX = 100_000
const BYTES_A_LINE = 16

/** The bytes of a payload. */
export function bytesOf({ payload, encoding }: Message): Uint8Array {
  if (encoding === 'base64') return Uint8Array.from(atob(String(payload)), (character) => character.charCodeAt(0))
  return new TextEncoder().encode(textOf(payload))
}

/** A payload for people, at most about 100 kB of it. */
export function shownAs(message: Message, view: View): string {
  const { payload, encoding } = message
  if (view === 'hex' || (view === 'text' && encoding === 'base64')) return hexDump(bytesOf(message))
  const text = encoding === 'base64' ? new TextDecoder().decode(bytesOf(message)) : textOf(payload)
  if (view === 'text') return cut(text)
  try {
    return cut(JSON.stringify(JSON.parse(text), null, 2))
  } catch {
    return cut(`This is no JSON:\n${text}`)
  }
}

/** The beginning of a payload, for one line: text, or bytes in hexadecimal. */
export function previewOf(message: Message, length: number): string {
  if (message.encoding !== 'base64') return textOf(message.payload).slice(0, length)
  // Four letters of base64 are three bytes.
  const start = String(message.payload).slice(0, Math.ceil(length / 12) * 4)
  return hex(bytesOf({ ...message, payload: start })).slice(0, length)
}

function textOf(payload: unknown): string {
  return typeof payload === 'string' ? payload : JSON.stringify(payload)
}

function cut(text: string): string {
  return text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX)}\n… ${text.length - TEXT_MAX} characters more`
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
}

function hexDump(bytes: Uint8Array): string {
  const lines: string[] = []
  for (let start = 0; start < Math.min(bytes.length, HEX_BYTES_MAX); start += BYTES_A_LINE) {
    const line = bytes.subarray(start, start + BYTES_A_LINE)
    const letters = Array.from(line, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${start.toString(16).padStart(4, '0')}  ${hex(line).padEnd(BYTES_A_LINE * 3 - 1)}  ${letters}`)
  }
  const more = bytes.length - HEX_BYTES_MAX
  return `${bytes.length} bytes\n${lines.join('\n')}${more > 0 ? `\n… ${more} bytes more` : ''}`
}
