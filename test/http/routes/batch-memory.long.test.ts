import { once } from 'node:events'
import { request as open } from 'node:http'
import { describe, expect, test } from 'vitest'
import { residentBytes } from '../../../bench/process-costs.ts'
import { spawnBridge } from '../../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'

const MIB = 2 ** 20

/** Sends a batch as fast as the bridge reads it, and reads the results. */
async function sendBatch(url: string, line: string, count: number, onSent: (sent: number) => void): Promise<number> {
  const request = open(`${url}/publish/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    agent: false,
  })
  let succeeded = 0
  const answered = once(request, 'response').then(async ([response]) => {
    let tail = ''
    for await (const chunk of response.setEncoding('latin1')) {
      const texts = (tail + chunk).split('\n')
      tail = texts.pop()!
      succeeded += texts.filter((text) => text.includes('"status":200,"topic"')).length
    }
  })
  for (let sent = 0; sent < count; sent += 1) {
    onSent(sent)
    if (!request.write(line)) await once(request, 'drain')
  }
  request.end()
  await answered
  return succeeded
}

describe.runIf(hasMosquitto)('a batch much larger than memory may grow', () => {
  test.each([
    ['lines of some length', 20_000, 10_000],
    ['lines as long as they may be', 1_000_000, 200],
  ])(
    '%s wait at the sender while the broker is frozen, and all arrive',
    async (_name, payloadBytes, count) => {
      const broker = await startMosquitto()
      const bridge = spawnBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 60_000 })
      const url = await bridge.url
      const line = `${JSON.stringify({ topic: 'm', payload: 'x'.repeat(payloadBytes) })}\n`
      // The first messages also compile code and make the heap grow, so they are not measured.
      expect(await sendBatch(url, line, count / 5, () => {})).toBe(count / 5)
      const before = residentBytes(bridge.pid)
      let peak = before
      let sent = 0
      let thawing = false
      broker.freeze()
      const watch = setInterval(() => (peak = Math.max(peak, residentBytes(bridge.pid))), 20)
      let lastSent = -1
      const standstill = setInterval(() => {
        // The bridge reads no more, so it holds the most that it ever will.
        if (sent === lastSent && !thawing) {
          thawing = true
          broker.thaw()
        }
        lastSent = sent
      }, 500)
      try {
        expect(await sendBatch(url, line, count, (number) => (sent = number))).toBe(count)
      } finally {
        clearInterval(watch)
        clearInterval(standstill)
      }
      expect(thawing).toBe(true)
      expect(Math.round((peak - before) / MIB)).toBeLessThan(50)
    },
    60_000,
  )
})
