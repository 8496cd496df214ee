import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { onTestFinished } from 'vitest'

export interface NameServer {
  /** The IPv4 address of every name. */
  address: string
  /** How often it was asked. */
  asked: number
  /** Environment with which a process of Node asks this server for names that end with `.test`. */
  environment: Record<string, string>
}

const HEADER_BYTES = 12
/** A response, with recursion, without an error. */
const RESPONSE = 0x81_80
/** The end of the name, type and class. */
const QUESTION_END_BYTES = 5
const TTL_S = 0

/** Without this, `lookup` asks the C library, whose name server is that of the whole machine. */
const PRELOAD = `
import dns from 'node:dns'
const resolver = new dns.Resolver()
resolver.setServers([process.env.TEST_NAME_SERVER])
const { lookup } = dns
dns.lookup = (name, options, callback) => {
  if (!name.endsWith('.test')) return lookup(name, options, callback)
  resolver.resolve4(name, (error, [address] = []) => {
    if (error) callback(error)
    else if (options.all) callback(null, [{ address, family: 4 }])
    else callback(null, address, 4)
  })
}
`

/** A DNS server on 127.0.0.1 that knows one address for all names. It ends with the test. */
export async function startNameServer(address: string): Promise<NameServer> {
  const socket = createSocket('udp4')
  socket.on('message', (query, { port }) => {
    names.asked += 1
    const question = query.subarray(HEADER_BYTES, query.indexOf(0, HEADER_BYTES) + QUESTION_END_BYTES)
    const header = Buffer.alloc(HEADER_BYTES)
    query.copy(header, 0, 0, 2)
    header.writeUInt16BE(RESPONSE, 2)
    // One question and one answer, whose name is that of the question.
    header.writeUInt16BE(1, 4)
    header.writeUInt16BE(1, 6)
    const answer = Buffer.from([
      0xc0,
      HEADER_BYTES,
      0,
      1,
      0,
      1,
      0,
      0,
      0,
      TTL_S,
      0,
      4,
      ...names.address.split('.').map(Number),
    ])
    socket.send(Buffer.concat([header, question, answer]), port, '127.0.0.1')
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const directory = mkdtempSync(join(tmpdir(), 'causeway-names-'))
  onTestFinished(() => {
    socket.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const preload = join(directory, 'preload.mjs')
  writeFileSync(preload, PRELOAD)
  const names: NameServer = {
    address,
    asked: 0,
    environment: {
      TEST_NAME_SERVER: `127.0.0.1:${socket.address().port}`,
      NODE_OPTIONS: `--import ${pathToFileURL(preload)}`,
    },
  }
  return names
}
