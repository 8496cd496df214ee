import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startCable } from '../clients/cable.ts'
import { startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { hasChromium, launchBrowser } from '../support/browser.ts'
import { consumers, EXAMPLES, startConsumer, startExample } from '../support/example.ts'
import { openStream } from '../support/stream.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const run = promisify(execFile)

describe.each(consumers())('the example $name', (example) => {
  test('sends its token with everything, and stops when it is not accepted', { timeout: 60_000 }, async () => {
    const good = makeToken('billing', ['orders/#'])
    const bridge = await startBridge({ AUTH: 'token', ...tokenFile([good]).settings })
    const consumer = startConsumer(example, bridge.url, good.token)
    const session = async () =>
      ((await (await fetch(`${bridge.url}/sessions`, { headers: good.headers })).json()) as { connected: boolean }[])[0]
    await expect.poll(session, { timeout: 20_000 }).toMatchObject({ connected: true })
    await fetch(`${bridge.url}/publish?topic=orders/1`, { method: 'POST', body: 'paid', headers: good.headers })
    await expect.poll(consumer.lines).toEqual(['orders/1 paid'])
    await expect.poll(session).toMatchObject({ unacknowledged: 0 })
    expect(await startConsumer(example, bridge.url, 'wrong').exited).toBe(1)
  })
})

test.runIf(hasMosquitto)('the back end publishes each event once, though its answers get lost', async () => {
  const bridge = await startBridge({ MQTT_URL: (await startMosquitto()).url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=orders/%23`)
  const cable = await startCable(bridge.url)
  onTestFinished(() => cable.end())
  const node = { name: 'publisher.mjs', command: process.execPath, args: [join(EXAMPLES, 'publisher.mjs')] }
  const publisher = startExample(node, [cable.url])
  const event = (id: number) => `${JSON.stringify({ id: `order-${id}`, topic: `orders/${id}`, payload: `${id}` })}\n`
  publisher.input.write(event(1))
  await expect.poll(publisher.output).toContain('order-1 published')
  // The message passes, its answer does not.
  cable.loseAnswers()
  publisher.input.write(event(2))
  expect((await stream.take(2)).map(({ data }) => data.payload)).toEqual(['1', '2'])
  cable.cut()
  cable.plugInto(bridge.url)
  await expect.poll(publisher.output, { timeout: 20_000 }).toContain('order-2 was published before')
  publisher.input.end(`${event(3)}{"id":"bad","topic":"not/#"}\n`)
  expect(await publisher.exited).toBe(1)
  expect(publisher.output()).toContain('bad failed: ')
  expect((await stream.next()).data.payload).toBe('3')
})

test('the sensor publishes a retained value again and again', async () => {
  const token = makeToken('sensor', ['home/#'])
  const bridge = await startBridge({ AUTH: 'token', ...tokenFile([token]).settings })
  const stream = await openStream(`${bridge.url}/subscribe?topic=home/%23`, token.headers)
  startExample(
    { name: 'sensor.sh', command: 'bash', args: [join(EXAMPLES, 'sensor.sh')] },
    [bridge.url, 'home/temp', '1'],
    token.token,
  )
  for (const { data } of await stream.take(2)) {
    expect(data).toMatchObject({ topic: 'home/temp', payload: expect.stringMatching(/^\d+\.\d$/) })
  }
  const retained = await fetch(`${bridge.url}/retained?topic=home/temp`, { headers: token.headers })
  expect(await retained.text()).toMatch(/^\d+\.\d$/)
})

test('a device that only knows a URL publishes', async () => {
  const token = makeToken('button', ['home/button'], [])
  const bridge = await startBridge({ AUTH: 'token', AUTH_QUERY_TOKEN: true, ...tokenFile([token]).settings })
  const [command] = /^curl .*access_token=.*$/m.exec(readFileSync(join(EXAMPLES, 'README.md'), 'utf8'))!
  const here = command.replace('http://localhost:8080', bridge.url).replace('TOKEN', token.token)
  const { stdout } = await run('bash', ['-c', here.replace('curl', 'curl -sS --fail-with-body')])
  expect(JSON.parse(stdout)).toMatchObject({ topic: 'home/button' })
})

test.runIf(hasChromium)('the dashboard shows each topic once, and what others publish as text', async () => {
  const page = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html').end(readFileSync(join(EXAMPLES, 'dashboard.html')))
  })
  page.listen(0, '127.0.0.1')
  await once(page, 'listening')
  onTestFinished(() => void page.close().closeAllConnections())
  const origin = `http://127.0.0.1:${(page.address() as AddressInfo).port}`
  const bridge = await startBridge({ CORS_ORIGINS: origin })
  const publish = (topic: string, body: string) =>
    fetch(`${bridge.url}/publish?topic=${topic}&retain=true`, { method: 'POST', body })
  await publish('home/temp', '21.5')

  const browser = await launchBrowser()
  onTestFinished(() => browser.close())
  const tab = await browser.newPage()
  await tab.goto(`${origin}/?bridge=${bridge.url}&topic=home/%23`)
  const cells = () =>
    tab
      .locator('tbody tr')
      .evaluateAll((rows: { cells: { textContent: string }[] }[]) =>
        rows.map((row) => [row.cells[0]!.textContent, row.cells[1]!.textContent]),
      )
  await expect.poll(cells, { timeout: 30_000 }).toEqual([['home/temp', '21.5']])
  expect(await tab.getByRole('status').textContent()).toBe('broker connected')
  await publish('home/temp', '22')
  await publish('home/door', '<img src=x onerror="document.title=1">')
  await expect.poll(cells).toEqual([
    ['home/temp', '22'],
    ['home/door', '<img src=x onerror="document.title=1">'],
  ])
  expect(await tab.title()).toBe('Dashboard')
})
