import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import { expect, onTestFinished, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

test.each(['/docs', '/docs/'])('all that the page at %s loads is there', async (path) => {
  const { url } = await startBridge()
  const page = await fetch(url + path)
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
  const files = [...(await page.text()).matchAll(/(?:src|href)="([^"]+)"/g)].map(
    ([, file]) => new URL(file!, url + path),
  )
  expect(files.map(({ pathname }) => pathname)).toContain('/docs/static/swagger-ui-bundle.js')
  for (const file of files) {
    const answer = await fetch(file)
    expect(answer.status, file.href).toBe(200)
    expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(0)
    const again = await fetch(file, { headers: { 'if-none-match': answer.headers.get('etag')! } })
    expect(again.status, file.href).toBe(304)
  }
})

test('the page at /docs may load nothing from elsewhere, and works over plain HTTP', async () => {
  const { url } = await startBridge()
  const policy = (await fetch(`${url}/docs`)).headers.get('content-security-policy')
  expect(policy).toContain("default-src 'none'")
  // `upgrade-insecure-requests` would ask this port for HTTPS.
  expect(policy).not.toMatch(/unsafe|https?:|upgrade|\*/)
})

test.each(['nothing.js', '..%2fpackage.json', 'index.html', 'constructor'])(
  'nothing else is served: %s',
  async (name) => {
    const { url } = await startBridge()
    expect((await fetch(`${url}/docs/static/${name}`)).status).toBe(404)
  },
)

test('the description has the routes, and none for HEAD', async () => {
  const { url } = await startBridge()
  const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: Record<string, object> }
  expect(Object.keys(paths['/publish']!)).toEqual(['post'])
  expect(Object.keys(paths['/retained']!)).toEqual(['get', 'delete'])
})

test('a client that leaves while the description is made leaves nothing held', async () => {
  const bridge = await startSecureBridge({ AUTH_NONE_PUBLIC: true })
  const session = connect(bridge.url, { ca: bridge.ca })
  onTestFinished(() => session.destroy())
  await once(session, 'connect')
  const streams = Array.from({ length: 20 }, () => session.request({ ':path': '/openapi.json' }).on('error', () => {}))
  const waiting = session.request({ ':path': '/openapi.json' })
  for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL)
  waiting.resume()
  await once(waiting, 'end')
  await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="answers"}')).toBe(0)
})
