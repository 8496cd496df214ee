import { expect, test } from 'vitest'
import { measureStart } from '../../bench/start.ts'
import { hasMosquitto } from '../support/broker.ts'
import { distFile } from '../support/dist.ts'

test.skipIf(!hasMosquitto)('a start is measured until the bridge is ready', { timeout: 60_000 }, async () => {
  const main = distFile('main.js')
  const { cpuMs, clockMs, restMiB } = await measureStart(process.execPath, main.replace(/\/main\.js$/, ''), 0)
  for (const figure of [cpuMs, clockMs, restMiB]) expect(figure).toBeGreaterThan(0)
})
