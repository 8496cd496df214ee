const TYPES = { data: 0, headers: 1, priority: 2, reset: 3, settings: 4, ping: 6, window: 8, continuation: 9 } as const

export const END_STREAM = 1
export const END_HEADERS = 4

/** What an HTTP/2 client says first; its settings are the defaults. */
export const hello = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame('settings', 0)])

/** One HTTP/2 frame, whether it makes sense or not. */
export function frame(type: keyof typeof TYPES, stream: number, payload: Buffer | string = '', flags = 0): Buffer {
  const body = Buffer.from(payload as string)
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head[3] = TYPES[type]
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, body])
}

/** A text of HPACK, not Huffman-coded (RFC 7541 section 5.2). */
function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  const length: number[] = []
  if (bytes.length < 127) length.push(bytes.length)
  else {
    let rest = bytes.length - 127
    length.push(127)
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128)
    length.push(rest)
  }
  return Buffer.concat([Buffer.from(length), bytes])
}

/** Header fields, each as a literal that enters no table. */
export function fields(values: Record<string, string>): Buffer {
  return Buffer.concat(
    Object.entries(values).map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])),
  )
}

/** A field that enters the dynamic table, where later ones name it with one byte: `lastField`. */
export const rememberedField = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0x40]), text(name), text(value)])
export const lastField = Buffer.from([0x80 | 62])

export const getFields = (path: string, more: Record<string, string> = {}): Buffer =>
  fields({ ':method': 'GET', ':scheme': 'https', ':path': path, ':authority': 'localhost', ...more })
