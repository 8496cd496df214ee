import { startBridge } from '../brokers/bridge-process.ts'
import { startBroker } from '../brokers/broker-process.ts'
import { mosquitto } from '../brokers/start/mosquitto.ts'
import { type Cable, startCable } from './cable.ts'

/** A broker, a bridge in a process of its own, and the cable by which clients reach it. */
export interface Ground {
  cable: Cable
  /** Where the bridge is now, without the cable. */
  url(): string
  publish(topic: string, payload: string | Buffer, retain?: boolean): Promise<void>
  /** Ends the bridge by SIGTERM and starts another one. */
  restart(): Promise<void>
  end(): Promise<void>
}

export async function createGround(): Promise<Ground> {
  const installed = await mosquitto.install({ isBrief: false })
  if (typeof installed === 'string') throw new Error(installed)
  const broker = await startBroker(mosquitto, installed)
  const start = () => startBridge({ MQTT_URL: broker.url, STREAM_LINGER_MS: 60_000 })
  let bridge = await start()
  const cable = await startCable(bridge.url)

  async function publish(topic: string, payload: string | Buffer, retain = false): Promise<void> {
    const query = new URLSearchParams({ topic, retain: String(retain) })
    const answer = await fetch(`${bridge.url}/publish?${query}`, {
      method: 'POST',
      body: typeof payload === 'string' ? payload : new Uint8Array(payload),
      headers: { 'Content-Type': 'application/octet-stream' },
    })
    if (answer.status !== 200) throw new Error(`published with ${answer.status}: ${await answer.text()}`)
  }
  await publish('t/retained', 'kept', true)
  return {
    cable,
    url: () => bridge.url,
    publish,
    async restart() {
      await bridge.end('SIGTERM')
      bridge = await start()
    },
    async end() {
      await cable.end()
      await bridge.end('SIGKILL')
      await broker.end()
    },
  }
}
