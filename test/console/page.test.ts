import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { hasChromium, launchBrowser, openPage, partsOf, publishByHand } from '../support/browser.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'

const run = promisify(execFile)

describe.skipIf(!hasChromium)('the page at / in a browser', () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launchBrowser()
  })
  afterAll(() => browser.close())

  test('publishes and follows, and shows the answer, the message and the same as curl', async () => {
    const bridge = await startBridge({ MQTT_PROTOCOL: '3.1.1' })
    const { page, faults } = await openPage(browser, bridge.url)
    const { filter, follow, messages, answer, curl } = partsOf(page)
    await filter.fill('home/#')
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    await publishByHand(page, 'home/temp', "it's 21.5 °C & $HOME `pwd`\nsecond line")
    expect(await answer.innerText()).toMatch(/^200 OK · acknowledged; over MQTT 3\.1\.1 the broker gives no reason/)
    await messages.getByText("it's 21.5 °C").waitFor()

    const { next } = await collect(await mqttClient(bridge.embeddedUrl!), 'home/temp')
    await run('bash', ['-c', await curl.innerText()])
    expect(String((await next()).payload)).toBe("it's 21.5 °C & $HOME `pwd`\nsecond line")
    await expect.poll(() => messages.getByText('second line').count()).toBe(2)
    expect(faults).toEqual([])
  })

  test.skipIf(!hasMosquitto)('says what the broker says, and why a message was refused', async () => {
    const { url: brokerUrl } = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: brokerUrl })
    const { page } = await openPage(browser, bridge.url)
    const { answer, curl } = partsOf(page)
    await publishByHand(page, 'nobody/here', 'x')
    expect(await answer.innerText()).toMatch(
      /the broker says: No matching subscribers \(16\) · nobody subscribes to it/,
    )
    await publishByHand(page, 'a/#', 'x', 400)
    expect(await answer.innerText()).toMatch(/^400 The request is not valid \(invalid-request\): /)

    await page.getByText('Properties (MQTT 5)').click()
    await page.getByRole('textbox', { name: 'User properties' }).fill('unit: °C\nunit: K')
    await page.getByRole('textbox', { name: 'Expires after' }).fill('60')
    const { next } = await collect(await mqttClient(brokerUrl, { protocolVersion: 5 }), 'home/temp')
    await publishByHand(page, 'home/temp', '21.5')
    await run('bash', ['-c', await curl.innerText()])
    for (const { payload, properties } of [await next(), await next()]) {
      expect(String(payload)).toBe('21.5')
      expect(properties).toMatchObject({ messageExpiryInterval: 60, userProperties: { unit: ['°C', 'K'] } })
    }
  })

  test('shows hostile topics and payloads as text, and nothing of them runs', async () => {
    const bridge = await startBridge()
    const { page, faults } = await openPage(browser, bridge.url)
    const { follow, messages } = partsOf(page)
    await follow.click()
    await messages.getByText('The broker is connected').waitFor()
    const markup = '<img src=x onerror=alert(1)><script>alert(2)</script>'
    const client = await mqttClient(bridge.embeddedUrl!)
    await client.publishAsync(`x/${markup}/\u202egnp.exe`, markup)
    await client.publishAsync('x/bytes', Buffer.from([0xff, 0x00, 0x3c]))
    await messages.getByText('‹U+202E›gnp.exe').waitFor()
    const bytes = messages.getByRole('group').filter({ hasText: 'x/bytes' })
    await bytes.getByText('ff 00 3c').click()
    await bytes.getByText('3 bytes').waitFor()
    expect(await messages.innerText()).toContain(markup)
    await page.getByRole('treeitem', { name: '<img src=x onerror=alert(1)>' }).waitFor()
    expect(await page.locator('#messages img, #messages script, #tree img, #tree script').count()).toBe(0)
    expect(faults).toEqual([])
  })
})
