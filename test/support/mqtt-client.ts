import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { onTestFinished } from 'vitest'

/** Connects once, and rejects when no CONNACK comes. The caller ends the client. */
export function connectOnce(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  // `false` stands for `allowRetries`. With the default the promise never settles when the connection closes before
  // CONNACK.
  return connectAsync(url, { reconnectPeriod: 0, ...options }, false)
}

/** An MQTT client beside the bridge. It ends with the test. */
export async function mqttClient(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectOnce(url, options)
  onTestFinished(async () => void client.end(true))
  return client
}

/**
 * Subscribes, and collects what the client receives, without what bridges write to themselves and to each other. `next` waits for the next message
 * after those already taken.
 */
export async function collect(
  client: MqttClient,
  filter: string,
  qos: 0 | 1 | 2 = 2,
): Promise<{ packets: IPublishPacket[]; next(): Promise<IPublishPacket> }> {
  const packets: IPublishPacket[] = []
  let taken = 0
  client.on('message', (topic, _payload, packet) => /^causeway\/(marker|cluster)\//.test(topic) || packets.push(packet))
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

/**
 * Whether the broker has a subscriber for this topic, by the reason code of its PUBACK (0x10: no matching subscribers).
 * Needs MQTT 5. A subscriber gets the message that asks.
 */
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
