export interface HttpAnswer {
  status: number
  /** By name in lower case. */
  headers: Map<string, string>
  body: Buffer
  /** It is a stream that has not ended; `body` is what came so far. */
  isOpen: boolean
}

/**
 * Parses the responses on one connection, and throws at any byte that RFC 9112 does not allow. A response that is not
 * complete is left out, unless it is a stream.
 * @param methods of the requests, in order: the response to HEAD has no body
 */
export function parseAnswers(bytes: Buffer, methods: readonly string[]): HttpAnswer[] {
  const answers: HttpAnswer[] = []
  let at = 0
  while (at < bytes.length) {
    const end = bytes.indexOf('\r\n\r\n', at)
    if (end < 0) {
      if (bytes.length - at > 64 * 1024) throw new Error('the headers do not end within 64 KiB')
      break
    }
    const { status, headers } = parseHead(bytes.toString('latin1', at, end))
    const body = parseBody(bytes.subarray(end + 4), status, headers, methods[answers.length] ?? 'GET')
    if (body === undefined) break
    at = end + 4 + body.length
    // 1xx are interim responses: the final one follows.
    if (status >= 200) answers.push({ status, headers, body: body.content, isOpen: body.isOpen })
    if (body.isOpen) break
  }
  return answers
}

function parseHead(text: string): { status: number; headers: Map<string, string> } {
  const [first = '', ...lines] = text.split('\r\n')
  const status = /^HTTP\/1\.1 ([1-5]\d\d) [\x20-\x7e]*$/.exec(first)?.[1]
  if (status === undefined) throw new Error(`not a status line: ${JSON.stringify(first.slice(0, 200))}`)
  const headers = new Map<string, string>()
  for (const line of lines) {
    const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e\t]*)$/.exec(line)
    if (field === null) throw new Error(`not a header field: ${JSON.stringify(line.slice(0, 200))}`)
    const name = field[1]!.toLowerCase()
    if (headers.has(name) && name !== 'vary') throw new Error(`the header ${name} comes twice`)
    headers.set(name, field[2]!)
  }
  return { status: Number(status), headers }
}

/** Undefined when the body is not complete. */
function parseBody(
  rest: Buffer,
  status: number,
  headers: Map<string, string>,
  method: string,
): { content: Buffer; length: number; isOpen: boolean } | undefined {
  const length = headers.get('content-length')
  const coding = headers.get('transfer-encoding')
  if (length !== undefined && coding !== undefined) throw new Error('both Content-Length and Transfer-Encoding')
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') {
    return { content: Buffer.alloc(0), length: 0, isOpen: false }
  }
  if (length !== undefined) {
    if (!/^\d+$/.test(length)) throw new Error(`Content-Length: ${length}`)
    return rest.length < Number(length)
      ? undefined
      : { content: rest.subarray(0, Number(length)), length: Number(length), isOpen: false }
  }
  if (coding === 'chunked') {
    const chunked = parseChunks(rest)
    // Only streams of the bridge have this header.
    return chunked.isOpen && !headers.has('x-accel-buffering') ? undefined : chunked
  }
  if (headers.get('connection') !== 'close') throw new Error('a body without a length on a connection that stays open')
  return { content: rest, length: rest.length, isOpen: true }
}

function parseChunks(rest: Buffer): { content: Buffer; length: number; isOpen: boolean } {
  const parts: Buffer[] = []
  let at = 0
  for (;;) {
    const end = rest.indexOf('\r\n', at)
    if (end < 0) return { content: Buffer.concat(parts), length: rest.length, isOpen: true }
    const size = /^[0-9a-f]+$/i.exec(rest.toString('latin1', at, end))?.[0]
    if (size === undefined) {
      throw new Error(`not a chunk size: ${JSON.stringify(rest.toString('latin1', at, end).slice(0, 200))}`)
    }
    const last = end + 2 + Number.parseInt(size, 16)
    if (rest.length < last + 2) return { content: Buffer.concat(parts), length: rest.length, isOpen: true }
    if (rest.toString('latin1', last, last + 2) !== '\r\n') throw new Error('a chunk is not followed by CRLF')
    if (last === end + 2) return { content: Buffer.concat(parts), length: last + 2, isOpen: false }
    parts.push(rest.subarray(end + 2, last))
    at = last + 2
  }
}
