import { Pool } from 'undici'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload } from '../load/payload.ts'
import { postHeaders } from '../load/post-headers.ts'

/** Posts what the bridge posts, so many requests at once, until the benchmark ends. There is no MQTT. */
answerCalls({
  start({ port, concurrency }: { port: number; concurrency: number }): void {
    const pool = new Pool(`http://127.0.0.1:${port}`, { connections: concurrency })
    async function post(sequence: number): Promise<void> {
      const topic = `bench/${sequence % 64}`
      const { statusCode, body } = await pool.request({
        path: '/',
        method: 'POST',
        headers: postHeaders(sequence),
        body: JSON.stringify({ topic, payload: markedPayload(sequence), encoding: 'utf8', qos: 1, retain: false }),
      })
      await body.dump()
      if (statusCode !== 204) throw new Error(`answered ${statusCode}`)
    }
    for (let first = 0; first < concurrency; first += 1) {
      void (async () => {
        for (let sequence = first; ; sequence += concurrency) await post(sequence)
      })()
    }
  },
})
