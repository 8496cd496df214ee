import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { IPublishPacket, MqttClient } from 'mqtt'
import { onTestFinished } from 'vitest'
import { mqttClient } from './mqtt-client.ts'

const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('paho-responder.py', import.meta.url))

/** Whether Eclipse Paho for Python is installed, an MQTT 5 client that shares no code with the bridge's. */
export const hasPaho = spawnSync(PYTHON, ['-c', 'import paho.mqtt.properties']).status === 0

/** A Paho client that answers requests on a topic with their payload in capitals. It ends with the test. */
export async function startPahoResponder(port: number, topic: string): Promise<void> {
  const child = spawn(PYTHON, [SCRIPT, String(port), topic], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  await once(child.stdout, 'data')
}

export type Reply = (
  payload: string,
  changes?: { correlationData?: Buffer; contentType?: string; userProperties?: Record<string, string> },
) => void

/** An MQTT 5 client that calls `onRequest` for each message on a topic. It ends with the test. */
export async function startResponder(
  url: string,
  topic: string,
  onRequest: (payload: string, reply: Reply, packet: IPublishPacket) => void,
): Promise<MqttClient> {
  const client = await mqttClient(url, { protocolVersion: 5, reconnectPeriod: 50 })
  client.on('message', (_topic, payload, packet) => {
    const { responseTopic, correlationData } = packet.properties!
    onRequest(
      payload.toString(),
      (answer, changes) =>
        client.publish(responseTopic!, answer, {
          qos: 1,
          properties: { correlationData: correlationData!, ...changes },
        }),
      packet,
    )
  })
  await client.subscribeAsync(topic, { qos: 1 })
  return client
}
