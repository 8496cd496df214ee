import { existsSync } from 'node:fs'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { onTestFinished } from 'vitest'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
)

/** Whether Chromium is installed (`apt-get install chromium`). In CI it has to be. */
export const hasChromium = CHROMIUM !== undefined
if (!hasChromium && process.env['CI']) throw new Error('chromium is required and not installed')

/** A browser for the tests of one file, which close it. */
export function launchBrowser(): Promise<Browser> {
  // In containers, tests are often root, for whom Chromium's sandbox does not run, and /dev/shm is too small for it.
  return chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
}

export interface OpenedPage {
  page: Page
  /** What went wrong in the page: exceptions, and what the Content-Security-Policy refused. */
  faults: string[]
}

/** Opens the page of a bridge in a profile of its own. It closes with the test. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<OpenedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  onTestFinished(() => context.close())
  const page = await context.newPage()
  const faults: string[] = []
  page.on('pageerror', (error) => faults.push(String(error)))
  page.on('console', (message) => {
    if (/Content Security Policy|Trusted/i.test(message.text())) faults.push(message.text())
  })
  page.on('dialog', (dialog) => {
    faults.push(`dialog ${dialog.message()}`)
    void dialog.dismiss()
  })
  await page.goto(`${url}/`)
  return { page, faults }
}

/** The parts of the page whose accessible names are its contract. */
export function partsOf(page: Page) {
  const box = (name: string) => page.getByRole('textbox', { name, exact: true })
  const button = (name: string) => page.getByRole('button', { name, exact: true })
  return {
    topic: box('Topic'),
    payload: box('Payload'),
    filter: box('Filter'),
    token: box('Token'),
    publish: button('Publish'),
    follow: button('Follow'),
    messages: page.getByRole('log', { name: 'Messages' }),
    answer: page.getByRole('status', { name: 'Answer' }),
    curl: page.getByLabel('As curl'),
  }
}

/** Publishes with the form of the page, and waits for the answer to say this status. */
export async function publishByHand(page: Page, topic: string, payload: string, status = 200): Promise<void> {
  const { topic: topicBox, payload: payloadBox, publish, answer } = partsOf(page)
  await topicBox.fill(topic)
  await payloadBox.fill(payload)
  await publish.click()
  await answer.getByText(new RegExp(`^${status} `)).waitFor()
}
