import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

const browserHeaders = (dest: string, site = 'same-origin') => ({ 'sec-fetch-dest': dest, 'sec-fetch-site': site })

test('the page may load nothing from elsewhere, and be in no frame', async () => {
  const { url } = await startBridge()
  const answer = await fetch(`${url}/`, { headers: browserHeaders('document', 'cross-site') })
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8')
  const policy = answer.headers.get('content-security-policy')!
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain("frame-ancestors 'none'")
  expect(policy).not.toMatch(/unsafe|https?:|\*/)
  const html = await answer.text()
  expect(html).not.toMatch(/(src|href)="(https?:)?\/\//)
  expect(html).not.toMatch(/\sstyle=|\son\w+=|<style|<script>/)
})

test('all that the page loads is there, for scripts of the same origin', async () => {
  const { url } = await startBridge()
  const html = await (await fetch(`${url}/`)).text()
  const paths = [...html.matchAll(/(?:src|href)="(console\/[^"]+)"/g)].map(([, path]) => path!)
  expect(paths).toContain('console/main.js')
  for (const path of paths) {
    const answer = await fetch(`${url}/${path}`, { headers: browserHeaders('script') })
    expect(answer.status, path).toBe(200)
    expect(answer.headers.get('cross-origin-resource-policy')).toBe('same-origin')
    const again = await fetch(`${url}/${path}`, { headers: { 'if-none-match': answer.headers.get('etag')! } })
    expect(again.status, path).toBe(304)
  }
})

test.each(['nothing.js', '..%2f..%2fpackage.json', 'tsconfig.json', 'constructor'])(
  'nothing else is served: %s',
  async (name) => {
    const { url } = await startBridge()
    expect((await fetch(`${url}/console/${name}`)).status).toBe(404)
  },
)

test('the page needs no credentials, and tells its scripts how callers log in', async () => {
  const { url } = await startBridge({
    ...tokenFile([makeToken('a', ['#'])]).settings,
    AUTH_COOKIE: true,
    ADMIN_PORT: 0,
  })
  expect((await fetch(`${url}/`)).status).toBe(200)
  expect(await (await fetch(`${url}/console/settings.json`)).json()).toMatchObject({
    auth: 'token',
    cookie: true,
    operation: false,
    version: '0.0.0-test',
  })
})

test('CAUSEWAY_CONSOLE=false switches it off', async () => {
  const { url } = await startBridge({ CONSOLE: false })
  expect((await fetch(`${url}/`)).status).toBe(404)
  expect((await fetch(`${url}/console/main.js`)).status).toBe(404)
})
