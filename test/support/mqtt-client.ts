import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { onTestFinished } from 'vitest'

/** A client that connects once: rejects where it does not get CONNACK. The caller ends it. */
export function connectOnce(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  // Without this `false` a connection that closes before CONNACK is waited for for ever.
  return connectAsync(url, { reconnectPeriod: 0, ...options }, false)
}

/** An MQTT client that is not the bridge; it ends with the test. */
export async function mqttClient(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectOnce(url, options)
  onTestFinished(async () => void client.end(true))
  return client
}

/** Subscribes and collects; `next` waits for a message nobody has taken yet. */
export async function collect(
  client: MqttClient,
  filter: string,
  qos: 0 | 1 | 2 = 2,
): Promise<{ packets: IPublishPacket[]; next(): Promise<IPublishPacket> }> {
  const packets: IPublishPacket[] = []
  let taken = 0
  client.on('message', (_topic, _payload, packet) => packets.push(packet))
  await client.subscribeAsync(filter, { qos })
  return {
    packets,
    async next() {
      while (taken >= packets.length) await new Promise((resolve) => client.once('message', resolve))
      taken += 1
      return packets[taken - 1]!
    },
  }
}

/** Whether the broker knows a subscriber of this topic, its PUBACK says so. Needs MQTT 5; a subscriber gets the message. */
export async function hasSubscribers(url: string, topic: string): Promise<boolean> {
  const client = await connectOnce(url, { protocolVersion: 5 })
  const acknowledged = new Promise<boolean>((resolve) => {
    client.on('packetreceive', (packet) => {
      if (packet.cmd === 'puback') resolve(packet.reasonCode !== 0x10)
    })
  })
  await client.publishAsync(topic, 'anybody there?', { qos: 1 })
  const answer = await acknowledged
  await client.endAsync()
  return answer
}
