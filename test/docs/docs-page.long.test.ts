import { expect, onTestFinished, test } from 'vitest'
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
