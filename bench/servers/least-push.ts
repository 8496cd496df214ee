import { once } from 'node:events'
import { connect } from 'node:net'
import { generate, type IPublishPacket, parser } from 'mqtt-packet'
import { Pool } from 'undici'
import { answerCalls } from '../answer-calls.ts'
import { postHeaders } from '../load/post-headers.ts'

/** What any push bridge has to know of a message until its endpoint has answered. */
interface Received {
  messageId: number
  isDone: boolean
}

/**
 * The least that posts messages of a durable session and acknowledges each after a 2xx: no order by topic, retries,
 * timeouts, limits, ids, metrics or other formats. PUBACKs leave in the order of the messages [MQTT-4.6.0-2], those of
 * one turn of the event loop in one write. An error ends the process.
 */
answerCalls({
  async start({ port, mqttPort, concurrency }: { port: number; mqttPort: number; concurrency: number }): Promise<void> {
    const pool = new Pool(`http://127.0.0.1:${port}`, { connections: concurrency })
    const socket = connect(mqttPort, '127.0.0.1').setNoDelay(true)
    const packets = parser({ protocolVersion: 5 })
    // A broker with a backlog sends up to 65,535 messages at once, so nothing may move all of them up for each one.
    const waiting: IPublishPacket[] = []
    let taken = 0
    const received: Received[] = []
    let open = 0
    let posted = 0

    function next(): void {
      while (open < concurrency && taken < waiting.length) post(waiting[taken++]!)
      if (taken < waiting.length / 2) return
      waiting.splice(0, taken)
      taken = 0
    }
    function post({ topic, payload, qos, retain, messageId }: IPublishPacket): void {
      const message = { messageId: messageId!, isDone: false }
      received.push(message)
      open += 1
      const body = JSON.stringify({ topic, payload: payload.toString(), encoding: 'utf8', qos, retain })
      posted += 1
      let status = 0
      pool.dispatch(
        { path: '/', method: 'POST', headers: postHeaders(posted), body },
        {
          onRequestStart() {},
          onResponseStart(_controller, statusCode) {
            status = statusCode
          },
          onResponseData() {},
          onResponseEnd() {
            if (status !== 204) throw new Error(`answered ${status}`)
            message.isDone = true
            acknowledgeSoon()
            open -= 1
            next()
          },
          onResponseError(_controller, error) {
            throw error
          },
        },
      )
    }
    let isAcknowledging = false
    function acknowledgeSoon(): void {
      if (isAcknowledging) return
      isAcknowledging = true
      setImmediate(() => {
        isAcknowledging = false
        let done = 0
        while (received[done]?.isDone) done += 1
        const acknowledged = received.splice(0, done)
        socket.write(
          Buffer.concat(
            acknowledged.map(({ messageId }) =>
              generate({ cmd: 'puback', messageId, reasonCode: 0 }, { protocolVersion: 5 }),
            ),
          ),
        )
      })
    }

    const properties = { sessionExpiryInterval: 60, receiveMaximum: 65_535 }
    socket.write(
      generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 5,
        clean: true,
        clientId: `least-${process.pid}`,
        keepalive: 0,
        properties,
      }),
    )
    packets.on('packet', (packet) => {
      if (packet.cmd !== 'publish') return
      waiting.push(packet)
      next()
    })
    socket.on('data', (chunk) => packets.parse(chunk))
    const subscriptions = [{ topic: 'bench/#', qos: 1 as const, nl: false, rap: false, rh: 0 }]
    // CONNACK, then SUBACK.
    await once(socket, 'data')
    socket.write(generate({ cmd: 'subscribe', messageId: 1, subscriptions }, { protocolVersion: 5 }))
    await once(socket, 'data')
  },
})
