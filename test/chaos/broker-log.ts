import { payloadLength, type Qos } from './load.ts'
import type { Publication } from './ledger.ts'

/** What Mosquitto's own log says of the messages it received. */
export interface BrokerLog {
  /** How often it received this message. Undefined where the log cannot tell. */
  received(publication: Publication): number | undefined
  /** Whether it received and acknowledged this message. */
  acknowledged(publication: Publication): boolean
  /** Whether it ever sent this message to the client whose id ends so. Undefined where the log cannot tell. */
  sentTo(clientIdEnd: string, publication: Publication): boolean | undefined
}

const RECEIVED = /Received PUBLISH from (\S+) \(d\d, q(\d), r\d, m(\d+), '([^']+)', \.\.\. \((\d+) bytes\)\)/
const SENT = /Sending PUBLISH to (\S+) \(d\d, q\d, r\d, m\d+, '([^']+)', \.\.\. \((\d+) bytes\)\)/
const ANSWERED = /Sending PUB(?:ACK|COMP) to (\S+) \(m(\d+)/

/** @param isSized whether the length of a payload tells which message it is */
export function readBrokerLog(text: string, isSized: boolean): BrokerLog {
  const received = new Map<string, number>()
  const acknowledged = new Set<string>()
  /** What was sent, by client id. */
  const sent = new Map<string, Set<string>>()
  /** The newest message that each client sent under each packet id. */
  const underWay = new Map<string, string>()
  if (isSized) {
    for (const line of text.split('\n')) {
      const publish = RECEIVED.exec(line)
      if (publish !== null) {
        const [, client, qos, packetId, topic, bytes] = publish
        const message = `${topic} ${bytes}`
        received.set(message, (received.get(message) ?? 0) + 1)
        if ((Number(qos) as Qos) > 0) underWay.set(`${client} ${packetId}`, message)
        continue
      }
      const delivery = SENT.exec(line)
      if (delivery !== null) {
        const [, client, topic, bytes] = delivery
        if (!sent.has(client!)) sent.set(client!, new Set())
        sent.get(client!)!.add(`${topic} ${bytes}`)
        continue
      }
      const answer = ANSWERED.exec(line)
      const message = answer === null ? undefined : underWay.get(`${answer[1]} ${answer[2]}`)
      if (message !== undefined) acknowledged.add(message)
    }
  }
  const nameOf = ({ topic, number }: Publication) => `${topic} ${payloadLength(number)}`
  return {
    received: (publication) => (isSized ? (received.get(nameOf(publication)) ?? 0) : undefined),
    acknowledged: (publication) => acknowledged.has(nameOf(publication)),
    sentTo(clientIdEnd, publication) {
      const client = [...sent.keys()].find((id) => id.endsWith(clientIdEnd))
      return client === undefined ? undefined : sent.get(client)!.has(nameOf(publication))
    },
  }
}
