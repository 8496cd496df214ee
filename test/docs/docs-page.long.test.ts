import { expect, onTestFinished, test } from 'vitest'
import { fencesOf, pages } from '../support/documents.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'
import { startBridge } from '../support/bridge.ts'
import { hasChromium, launchBrowser } from '../support/browser.ts'

test.runIf(hasChromium)('the page at /docs is a list, and offers to try everything but a stream', async () => {
  const { url } = await startBridge()
  const browser = await launchBrowser()
  onTestFinished(() => browser.close())
  const page = await browser.newPage()
  const faults: string[] = []
  page.on('pageerror', (error) => faults.push(String(error)))
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(message.text())
  })
  await page.goto(`${url}/docs`)
  const open = async (id: string) => {
    await page.locator(`#operations-${id} .opblock-summary-control`).click()
    await page.locator(`#operations-${id} .opblock-body .responses-table`).waitFor()
    return page.locator(`#operations-${id} .try-out__btn`).count()
  }
  await page.locator('.opblock').first().waitFor()
  expect(await page.locator('.opblock-body').count()).toBe(0)
  expect(await open('publish-publish')).toBe(1)
  // It would wait for the end of the stream.
  expect(await open('subscribe-subscribe')).toBe(0)

  await page.locator('#operations-publish-publish .try-out__btn').click()
  await page.locator('#operations-publish-publish .execute').click()
  await expect
    .poll(() => page.locator('#operations-publish-publish .live-responses-table').textContent(), { timeout: 20_000 })
    .toContain('"reasonCode"')
  expect(faults).toEqual([])
})

test.runIf(hasChromium)('the lines for a cookie give an EventSource the rights of a token', async () => {
  const token = makeToken('page', ['home/#'])
  const { url } = await startBridge({ AUTH: 'token', AUTH_COOKIE: true, ...tokenFile([token]).settings })
  const lines = pages()
    .flatMap(fencesOf)
    .find(({ text }) => text.startsWith("await fetch('/cookie'"))!.text
  const browser = await launchBrowser()
  onTestFinished(() => browser.close())
  const page = await browser.newPage()
  await page.goto(`${url}/docs`)
  const script = lines.replace('new EventSource', 'const source = new EventSource')
  const opened = "return new Promise((resolve) => source.addEventListener('status', ({ data }) => resolve(data)))"
  const status = await page.evaluate(`(async (token) => { ${script}\n${opened} })('${token.token}')`)
  expect(JSON.parse(String(status))).toEqual({ broker: 'connected' })
})
