import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import type { Settings } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { type Authority, type CertificateFiles, createAuthority, hasOpenssl } from '../support/certificates.ts'
import { freePort } from '../support/free-port.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { openStream } from '../support/stream.ts'
import { startWebSockets } from '../support/websockets.ts'

/** A megabyte of packets. Half of that is read in one turn of the event loop. */
const MESSAGES = 60_000

let authority: Authority
let server: CertificateFiles

/** How the bridge reaches Mosquitto. */
const TRANSPORTS: Record<string, (port: number, tlsPort: number) => Promise<Settings>> = {
  TCP: async (port) => ({ MQTT_URL: `mqtt://127.0.0.1:${port}` }),
  TLS: async (_port, tlsPort) => ({ MQTT_URL: `mqtts://localhost:${tlsPort}`, MQTT_CA_FILE: authority.caFile }),
  WebSocket: async (port) => {
    const { port: webSockets } = await startWebSockets(port, server)
    return { MQTT_URL: `wss://localhost:${webSockets}/mqtt`, MQTT_CA_FILE: authority.caFile }
  },
}

// While the process is stopped its sockets fill. When it continues, as much as it reads comes in one turn of the loop.
describe.skipIf(!hasMosquitto || !hasOpenssl)(
  'a reader that reads misses nothing of a burst longer than the log',
  () => {
    beforeAll(() => {
      authority = createAuthority()
      server = authority.issue('server')
    })
    afterAll(() => authority.remove())

    test.each(Object.entries(TRANSPORTS))('over %s', async (_name, settingsFor) => {
      const tlsPort = await freePort()
      const { url, port } = await startMosquitto({
        wholeConfig: (listenAt) =>
          [
            'allow_anonymous true',
            'max_queued_messages 0',
            `listener ${listenAt} 127.0.0.1`,
            `listener ${tlsPort} 127.0.0.1`,
            `cafile ${authority.caFile}`,
            `certfile ${server.cert}`,
            `keyfile ${server.key}`,
          ].join('\n'),
      })
      const bridge = spawnBridge({ ...(await settingsFor(port, tlsPort)), STREAM_LOG_MESSAGES: 1000 })
      const stream = await openStream(`${await bridge.url}/subscribe?topic=a&retained=false`)
      const outside = await mqttClient(url)
      bridge.kill('SIGSTOP')
      for (let index = 0; index < MESSAGES; index += 1) outside.publish('a', `${index}`)
      // Its acknowledgement comes after the broker has handled all messages before it.
      await outside.publishAsync('other', '', { qos: 1 })
      bridge.kill('SIGCONT')
      await expect.poll(() => stream.events.at(-1)?.data.payload, { timeout: 20_000 }).toBe(`${MESSAGES - 1}`)
      expect(stream.events.map(({ event, data }) => (event === 'message' ? Number(data.payload) : event))).toEqual(
        Array.from({ length: MESSAGES }, (_, index) => index),
      )
    })
  },
)
