import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { onTestFinished } from 'vitest'
import { createWebSocketStream, WebSocketServer } from 'ws'
import type { CertificateFiles } from './certificates.ts'

/** A server that accepts MQTT over WebSockets and TLS, and passes it on to a broker over TCP. It ends with the test. */
export async function startWebSockets(brokerPort: number, { cert, key }: CertificateFiles): Promise<{ port: number }> {
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) })
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket) => {
    const upstream = connect(brokerPort, '127.0.0.1')
    const stream = createWebSocketStream(socket)
    stream.pipe(upstream).pipe(stream)
    upstream.on('error', () => stream.destroy())
    stream.on('error', () => upstream.destroy()).once('close', () => upstream.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets.clients) socket.terminate()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port }
}
