import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { SignJWT } from 'jose'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { type Settings, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { hasChromium, launchBrowser, openPage, partsOf, publishByHand } from '../support/browser.ts'
import { freePort } from '../support/free-port.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { startSecureBridge } from '../support/secure-bridge.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const SECRET = 'a secret that has thirty-two characters'

interface Mode {
  settings: Settings
  token: string
  wrong: string
}

const MODES: Record<'token' | 'jwt' | 'broker', () => Promise<Mode>> = {
  async token() {
    const made = makeToken('page', ['home/#'])
    return { settings: tokenFile([made]).settings, token: made.token, wrong: 'cw_wrong' }
  },
  async jwt() {
    const token = await new SignJWT({ sub: 'page', mqtt: { publish: ['home/#'], subscribe: ['home/#'] } })
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer('issuer')
      .setAudience('causeway')
      .setExpirationTime('1h')
      .sign(new TextEncoder().encode(SECRET))
    const settings = { AUTH: 'jwt', JWT_SECRET: SECRET, JWT_ISSUER: 'issuer', JWT_AUDIENCE: 'causeway' }
    return { settings, token, wrong: 'a.b.c' }
  },
  async broker() {
    const broker = await startMosquittoWithAccounts({ ann: { password: 'pass wörd' } })
    return { settings: { AUTH: 'broker', MQTT_URL: broker.url }, token: 'ann:pass wörd', wrong: 'ann:no' }
  },
}

describe.skipIf(!hasChromium)('the page at / in a browser, at length', () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launchBrowser()
  })
  afterAll(() => browser.close())

  test.each(hasAccounts ? (['token', 'jwt', 'broker'] as const) : (['token', 'jwt'] as const))(
    'asks for a token with CAUSEWAY_AUTH=%s, and works with it',
    async (mode) => {
      const { settings, token, wrong } = await MODES[mode]()
      const bridge = await startBridge(settings)
      const { page, faults } = await openPage(browser, bridge.url)
      const { token: box, filter, follow, messages, answer, curl } = partsOf(page)
      await publishByHand(page, 'home/temp', 'x', 401)
      await box.fill(wrong)
      await publishByHand(page, 'home/temp', 'x', 401)
      // As soon as it is typed, the token counts, without any button.
      await box.fill(token)
      await filter.fill('home/#')
      await follow.click()
      await messages.getByText('The broker is connected').waitFor()
      await publishByHand(page, 'home/temp', `from ${mode}`)
      await messages.getByText(`from ${mode}`).waitFor()
      await page.getByText('Accepted.').waitFor()
      await page.getByText('Broker connected').waitFor()
      if (mode !== 'broker') {
        await publishByHand(page, 'elsewhere', 'x', 403)
        expect(await answer.innerText()).toMatch(/forbidden/)
      }
      expect(await curl.innerText()).not.toContain(token)
      expect(faults).toEqual([])
    },
  )

  test('keeps a token in a cookie that outlives the page, and forgets it on request', async () => {
    const token = makeToken('page', ['home/#'])
    const bridge = await startBridge({ ...tokenFile([token]).settings, AUTH_COOKIE: true })
    // Browsers keep a Secure cookie of http://localhost, but not of http://127.0.0.1.
    const url = bridge.url.replace('127.0.0.1', 'localhost')
    const { page } = await openPage(browser, url)
    const { token: box } = partsOf(page)
    await page.getByRole('checkbox', { name: 'Keep in a cookie' }).check()
    await box.fill(token.token)
    await box.press('Enter')
    await page.getByText('Kept in a cookie').waitFor()
    await page.reload()
    await page.getByText('Signed in by a cookie').waitFor()
    await publishByHand(page, 'home/temp', 'by cookie')
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByText('Signed out.').waitFor()
    await publishByHand(page, 'home/temp', 'x', 401)
  })

  test.skipIf(!hasMosquitto)('stays bounded under more than can be read, samples, and says so', async () => {
    const { url } = await startMosquitto({ config: ['max_queued_messages 0'] })
    const bridge = await startBridge({ MQTT_URL: url })
    const { page, faults } = await openPage(browser, bridge.url)
    const { follow, messages } = partsOf(page)
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    const client = await mqttClient(url)
    const total = 15_000
    for (let sent = 0; sent < total; sent += 500) {
      for (let index = 0; index < 500; index += 1) client.publish(`load/${index % 50}`, `message ${sent + index}`)
      await delay(100)
    }
    await page.getByText(/^Sampled: about \d+ of [\d,]+ a second are shown/).waitFor()
    await client.publishAsync('load/end', 'the last one', { qos: 1 })
    await messages.getByText('the last one').waitFor()
    await page.getByText(`${(total + 1).toLocaleString('en-US')} messages`).waitFor()
    expect(await messages.locator('details').count()).toBeLessThanOrEqual(300)
    // Nothing was lost but the showing: the last ones are there without gaps when it is paused.
    await page.getByRole('button', { name: 'Pause' }).click()
    await page.getByText(/^Paused\. The newest 300 that match are shown, of 10000 kept/).waitFor()
    const newest = await messages.locator('.preview').allInnerTexts()
    const expected = Array.from(
      { length: newest.length - 1 },
      (_, index) => `message ${total - newest.length + 1 + index}`,
    )
    expect(newest).toEqual([...expected, 'the last one'])
    expect(faults).toEqual([])
  })

  test('is worked by the keyboard alone', async () => {
    const bridge = await startBridge()
    const { page } = await openPage(browser, bridge.url)
    const { filter, payload, messages } = partsOf(page)
    await filter.press('Enter')
    await messages.getByText('The broker is connected').waitFor()
    await payload.press('Control+Enter')
    await messages.getByText('21.5').waitFor()
    const tree = page.getByRole('tree')
    await tree.getByRole('treeitem', { name: 'temp' }).waitFor()
    await tree.focus()
    await page.keyboard.press('ArrowLeft')
    await expect.poll(() => tree.getByRole('treeitem').count()).toBe(1)
    await page.keyboard.press('ArrowRight')
    await expect.poll(() => tree.getByRole('treeitem').count()).toBe(2)
    // The focus stays on its row while topics come, and Tab and back leads to it again.
    await page.keyboard.press('ArrowDown')
    await (await mqttClient(bridge.embeddedUrl!)).publishAsync('home/a', 'x')
    await tree.getByRole('treeitem', { name: 'a x' }).waitFor()
    const focused = page.locator(':focus')
    expect(await focused.innerText()).toContain('temp')
    await page.keyboard.press('Shift+Tab')
    expect(await focused.getAttribute('role')).not.toBe('treeitem')
    await page.keyboard.press('Tab')
    expect(await focused.innerText()).toContain('temp')
    await messages.focus()
    await page.keyboard.press('ArrowUp')
    await page.keyboard.press('Enter')
    await messages.getByText('payload in utf8').waitFor()
  })

  test('comes back by itself after the bridge was away, and says what it may have missed', async () => {
    const port = await freePort()
    const first = spawnBridge({ HTTP_PORT: port })
    const { page } = await openPage(browser, await first.url)
    const { follow, messages } = partsOf(page)
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    first.kill('SIGKILL')
    await page.getByRole('status', { name: 'Stream' }).getByText('Trying again').waitFor()
    await spawnBridge({ HTTP_PORT: port }).url
    await messages.getByText(/Connected again after [\d.]+ s/).waitFor()
    await messages.getByText('Gap: messages may be missing here (unknown-id)').waitFor()
    await publishByHand(page, 'home/temp', 'behind the gap')
    await messages.getByText('behind the gap').waitFor()
  })

  test.skipIf(!hasMosquitto)('says that the broker is away, and goes on when it is back', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const { page } = await openPage(browser, bridge.url)
    const { follow, messages, answer } = partsOf(page)
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    await broker.kill()
    await messages.getByText('The bridge has lost its broker').waitFor()
    await page.getByText('Broker not connected').waitFor()
    await page
      .getByRole('cell', { name: /nothing listens there/ })
      .first()
      .waitFor()
    await publishByHand(page, 'home/temp', 'x', 503)
    expect(await answer.innerText()).toMatch(/^503 The broker cannot be reached \(broker-unavailable\): /)
    await broker.start()
    await expect.poll(() => messages.getByText('The broker is connected').count()).toBe(2)
    await publishByHand(page, 'home/temp', 'here again')
    await messages.getByText('here again').waitFor()
  })

  test.skipIf(!hasMosquitto)('shows the pushes, and why the last one failed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'causeway-push-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const file = join(folder, 'push.json')
    const url = `http://127.0.0.1:${await freePort()}/hook`
    writeFileSync(file, JSON.stringify([{ name: 'billing', topics: ['orders/#'], url }]))
    const bridge = await startBridge({ MQTT_URL: (await startMosquitto()).url, PUSH_FILE: file })
    const { page } = await openPage(browser, bridge.url)
    const row = page.getByRole('table', { name: 'Pushes' }).getByRole('row', { name: 'billing' })
    await row.getByText('active').waitFor()
    await publishByHand(page, 'orders/17', 'paid')
    await row.getByText('retrying').waitFor()
    await row.getByText('ECONNREFUSED').waitFor()
  })

  test('works over HTTPS, and says that metrics on a port of their own are not here', async () => {
    const bridge = await startSecureBridge()
    const { page, faults } = await openPage(browser, bridge.url, { ignoreHTTPSErrors: true })
    const { follow, messages } = partsOf(page)
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    await publishByHand(page, 'home/temp', 'over TLS')
    await messages.getByText('over TLS').waitFor()
    await page.getByText('are on the admin port').waitFor()
    await page.getByText('Bridge reached').waitFor()
    expect(faults).toEqual([])
  })

  test('finds, pauses, narrows to a branch and saves what it keeps', async () => {
    const bridge = await startBridge()
    const { page } = await openPage(browser, bridge.url)
    const { follow, messages } = partsOf(page)
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    const client = await mqttClient(bridge.embeddedUrl!)
    for (const [topic, payload] of [
      ['home/temp', '{"c":21.5}'],
      ['home/door', 'open'],
      ['plant/speed', '3'],
    ]) {
      await client.publishAsync(topic!, payload!)
    }
    const rows = messages.getByRole('group')
    await expect.poll(() => rows.count()).toBe(3)
    await page.getByRole('searchbox', { name: 'Search' }).fill('OPEN')
    await expect.poll(() => rows.allInnerTexts()).toEqual([expect.stringContaining('home/door')])
    await page.getByRole('searchbox', { name: 'Search' }).fill('')
    await page.getByRole('treeitem', { name: 'home' }).first().focus()
    await page.keyboard.press('Enter')
    await expect.poll(() => rows.count()).toBe(2)
    await page.getByRole('button', { name: 'Pause' }).click()
    await client.publishAsync('home/door', 'shut')
    await page.getByText('4 messages').waitFor()
    expect(await rows.count()).toBe(2)
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download' }).click()
    const lines = readFileSync(await (await download).path(), 'utf8')
      .trim()
      .split('\n')
    const saved = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === 'message')
    expect(saved.map(({ data }) => data.payload)).toEqual(['{"c":21.5}', 'open', '3', 'shut'])
    await page.getByRole('combobox', { name: 'View as' }).selectOption('JSON')
    await messages.getByText('{"c":21.5}').click()
    expect(await messages.locator('pre').innerText()).toBe('{\n  "c": 21.5\n}')
  })

  test.each([
    ['light', { colorScheme: 'light' as const }],
    ['dark', { colorScheme: 'dark' as const }],
    ['360 px wide', { viewport: { width: 360, height: 740 } }],
  ])('has no fault that axe calls serious, %s', async (_name, options) => {
    const bridge = await startBridge()
    const { page } = await openPage(browser, bridge.url, { ...options, bypassCSP: true })
    const { follow, messages } = partsOf(page)
    await follow.click()
    // The page waits for the subscription before it publishes, so its user sees the message.
    await publishByHand(page, 'home/temp', '21.5')
    await messages.getByText('home/temp').click()
    await page.getByText('Properties (MQTT 5)').click()
    await page.getByRole('cell', { name: 'publish' }).first().waitFor()
    await page.evaluate(axe)
    const { violations } = await page.evaluate(() =>
      (globalThis as unknown as { axe: { run(): Promise<Audit> } }).axe.run(),
    )
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    expect(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([])
    const isTooWide = 'document.documentElement.scrollWidth > document.documentElement.clientWidth'
    expect(await page.evaluate(isTooWide)).toBe(false)
  })
})

interface Audit {
  violations: { id: string; impact: string; nodes: { html: string }[] }[]
}
