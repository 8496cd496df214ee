import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { onTestFinished } from 'vitest'

/** An MQTT client that is not the bridge; it ends with the test. */
export async function mqttClient(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(url, { reconnectPeriod: 0, ...options })
  onTestFinished(async () => void client.end(true))
  return client
}

/** Subscribes and collects; `next` waits for a message nobody has taken yet. */
export async function collect(client: MqttClient, filter: string, qos: 0 | 1 | 2 = 2): Promise<{ packets: IPublishPacket[]; next(): Promise<IPublishPacket> }> {
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
