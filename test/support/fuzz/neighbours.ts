import { expect } from 'vitest'
import { openStream } from '../stream.ts'

export interface Neighbours {
  /**
   * Stops publishing, and expects that each message was accepted and came once and in order. Resolves with their count.
   */
  done(): Promise<number>
}

/**
 * Two well-behaved clients that use the bridge all the time: one publishes numbers, the other reads them from a stream.
 */
export async function startNeighbours(url: string, headers: Record<string, string>): Promise<Neighbours> {
  const stream = await openStream(`${url}/subscribe?topic=good/n&retained=false`, headers)
  expect(stream.status, stream.text()).toBe(200)
  let stopped = false
  let sent = 0
  async function publish(): Promise<void> {
    for (; !stopped; sent += 1) {
      const answer = await fetch(`${url}/publish?topic=good/n&qos=${1 + (sent % 2)}`, {
        method: 'POST',
        body: `${sent}`,
        headers,
      })
      expect(answer.status, await answer.text()).toBe(200)
    }
  }
  const publishing = publish()
  publishing.catch(() => {})
  return {
    async done() {
      stopped = true
      await publishing
      const events = await stream.take(sent)
      expect(events.map(({ event, data }) => (event === 'message' ? Number(data.payload) : event))).toEqual(
        Array.from({ length: sent }, (_, index) => index),
      )
      stream.close()
      return sent
    },
  }
}
