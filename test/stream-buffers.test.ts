import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { setDefaultHighWaterMark } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import { limitStreamBuffers } from '../src/stream-buffers.ts'

test('an answer is full once it holds 16 KiB, whatever the default of Node is', async () => {
  setDefaultHighWaterMark(false, 65_536)
  limitStreamBuffers()
  const server = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  onTestFinished(() => void client.destroy())
  client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const [, response] = (await once(server, 'request')) as [unknown, ServerResponse]
  expect([response.writableHighWaterMark, response.socket!.writableHighWaterMark]).toEqual([16_384, 16_384])
  response.destroy()
})
