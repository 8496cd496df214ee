// Follows a stream by the EventSource of a browser, with the lines of docs/browsers.md, and prints the events.
import { readFileSync } from 'node:fs'
import { chromium } from 'playwright-core'

const [executablePath, url] = process.argv.slice(2)
const text = readFileSync(new URL('../../docs/browsers.md', import.meta.url), 'utf8')
const follow = /```js .*\n(function follow[^]*?)```/.exec(text)[1]
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const page = await browser.newPage()
await page.exposeFunction('print', (name, data) =>
  console.log(name === 'stopped' ? `stopped: ${data.status}` : `${name} ${JSON.stringify(data)}`),
)
await page.goto(new URL('/docs/', url).href)
await page.evaluate(`(() => { ${follow}\nfollow(${JSON.stringify(url)}, print) })()`)
