import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { freePort } from '../support/free-port.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

interface Proxy {
  name: string
  command: string
  start(file: string): string[]
  config(port: number, upstream: number, directory: string): string
}

const PROXIES: Proxy[] = [
  ...(
    [
      ['nginx', ''],
      ['nginx that passes bodies on at once', 'proxy_request_buffering off; proxy_http_version 1.1;'],
    ] as const
  ).map(([name, more]) => ({
    name,
    command: 'nginx',
    start: (file: string) => ['-c', file],
    config: (port: number, upstream: number, directory: string) => `
      daemon off; pid ${directory}/pid; error_log ${directory}/error;
      events {}
      http {
        access_log off; client_max_body_size 100m;
        client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
        fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
        server {
          listen 127.0.0.1:${port};
          location / { proxy_pass http://127.0.0.1:${upstream}; ${more} }
        }
      }`,
  })),
  {
    name: 'haproxy',
    command: 'haproxy',
    start: (file) => ['-f', file],
    config: (port, upstream) => `
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend in
  bind 127.0.0.1:${port}
  default_backend bridge
backend bridge
  server one 127.0.0.1:${upstream}
`,
  },
]

const isInstalled = (command: string) => spawnSync(command, ['-v']).error === undefined

async function startProxy({ command, start, config }: Proxy, upstream: number): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-proxy-'))
  // nginx, started by root, has workers of another user.
  chmodSync(directory, 0o755)
  const port = await freePort()
  const file = join(directory, 'config')
  writeFileSync(file, config(port, upstream, directory))
  const child: ChildProcess = spawn(command, start(file), { stdio: 'ignore' })
  onTestFinished(async () => {
    child.kill('SIGTERM')
    await once(child, 'exit')
    rmSync(directory, { recursive: true, force: true })
  })
  const url = `http://127.0.0.1:${port}`
  await expect
    .poll(
      () =>
        fetch(`${url}/livez`).then(
          ({ status }) => status,
          () => 0,
        ),
      { timeout: 20_000 },
    )
    .toBe(200)
  return url
}

/** The status of an upload of 5 MB; 0 where the connection broke before there was one. */
function upload(url: string, path: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve) => {
    const client = request(url + path, { method: 'POST', headers, agent: false })
    onTestFinished(() => void client.destroy())
    client.on('response', (answer) => resolve(answer.resume().statusCode!))
    client.on('error', () => resolve(0))
    const piece = Buffer.alloc(100_000, 'x')
    for (let sent = 0; sent < 5_000_000; sent += piece.length) client.write(piece)
    client.end()
  })
}

describe.each(PROXIES)('behind $name', (proxy) => {
  test.skipIf(!isInstalled(proxy.command))(
    'a body that is refused gets the answer, not a 502 of the proxy',
    async () => {
      const one = makeToken('one', ['#'])
      const bridge = await startBridge(tokenFile([one]).settings)
      const url = await startProxy(proxy, Number(new URL(bridge.url).port))
      for (const framing of [{ 'content-length': '5000000' }, { 'transfer-encoding': 'chunked' }]) {
        for (const [status, path, headers] of [
          [413, '/publish?topic=a', one.headers],
          [400, '/publish/batch', { ...one.headers, 'content-type': 'application/json' }],
          [401, '/publish?topic=a', {}],
          [404, '/nowhere', {}],
          [415, '/publish', { ...one.headers, 'content-type': 'text/xml' }],
        ] as const) {
          const got = await upload(url, path, { ...headers, ...framing } as unknown as Record<string, string>)
          expect([path, framing, got]).toEqual([path, framing, status])
        }
      }
      expect((await fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'x', headers: one.headers })).status).toBe(
        200,
      )
    },
  )
})
