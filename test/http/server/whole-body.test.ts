import { once } from 'node:events'
import { connect } from 'node:http2'
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { expect, onTestFinished, test } from 'vitest'
import { handleError } from '../../../src/http/message/problem.ts'
import { requireWholeBodies } from '../../../src/http/server/whole-body.ts'

test('a body that is late is a problem and its stream ends; a body without end is never late', async () => {
  const app = fastify({ http2: true })
  onTestFinished(() => app.close())
  app.setErrorHandler(handleError as never)
  requireWholeBodies(app as never, ({ url }) => (url === '/limited' ? 20 : undefined))
  app.post('/limited', async () => 'done')
  app.post('/endless', async () => 'done')
  await app.listen({ host: '127.0.0.1', port: 0 })
  const session = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  onTestFinished(() => session.destroy())
  const [endless, limited] = ['/endless', '/limited'].map((path) => {
    const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'text/plain' })
    stream.write('x')
    return stream
  })
  const [headers] = await once(limited!, 'response')
  expect(headers).toMatchObject({ ':status': 408, 'content-type': expect.stringMatching('^application/problem') })
  limited!.resume()
  await once(limited!, 'close')
  endless!.end('x')
  expect((await once(endless!, 'response'))[0][':status']).toBe(200)
})
