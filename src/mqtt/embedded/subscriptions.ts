import type { QoS } from '../message.ts'
import { parseShare } from '../topic.ts'
import { TopicTree } from '../topic-tree.ts'
import type { BrokerMessage } from './broker-message.ts'
import type { MqttSession } from './mqtt-session.ts'

export interface Subscription {
  session: MqttSession
  /** As it was subscribed to: `$share/GROUP/FILTER` for a shared one. */
  filter: string
  qos: QoS
  /** The session does not get what it publishes itself. */
  noLocal: boolean
  /** Messages keep the retain flag that they were published with. */
  retainAsPublished: boolean
  identifier: number | undefined
}

/** The subscriptions to one filter. */
interface AtFilter {
  plain: Map<MqttSession, Subscription>
  groups: Map<string, SharedGroup>
}

/** The subscriptions of all sessions, found by topic. */
export class Subscriptions {
  readonly #tree = new TopicTree<AtFilter>()

  /** Replaces the session's subscription to the same filter. */
  add(subscription: Subscription): void {
    const { group, filter } = partsOf(subscription.filter)
    let at = this.#tree.get(filter)
    if (at === undefined) this.#tree.set(filter, (at = { plain: new Map(), groups: new Map() }))
    if (group === undefined) {
      at.plain.set(subscription.session, subscription)
      return
    }
    let shared = at.groups.get(group)
    if (shared === undefined) at.groups.set(group, (shared = new SharedGroup()))
    shared.add(subscription)
  }

  remove(subscription: Subscription): void {
    const { group, filter } = partsOf(subscription.filter)
    const at = this.#tree.get(filter)
    if (at === undefined) return
    if (group === undefined) at.plain.delete(subscription.session)
    else if (at.groups.get(group)?.remove(subscription.session) === 'empty') at.groups.delete(group)
    if (at.plain.size === 0 && at.groups.size === 0) this.#tree.delete(filter)
  }

  /**
   * Hands the message to all who subscribe. A session gets it once, however many of its filters match, with the highest
   * QoS of them and all their identifiers [MQTT-3.3.4-2]; and once for each shared subscription that it is chosen for.
   * @param from the session that publishes it
   * @returns whether there is anybody
   */
  deliver(message: BrokerMessage, from: MqttSession | undefined): boolean {
    const plain = new Map<MqttSession, { qos: QoS; retain: boolean; identifiers: number[] }>()
    let isMatched = false
    for (const { plain: subscriptions, groups } of this.#tree.match(message.topic)) {
      for (const { session, qos, noLocal, retainAsPublished, identifier } of subscriptions.values()) {
        if (noLocal && session === from) continue
        let copy = plain.get(session)
        if (copy === undefined) plain.set(session, (copy = { qos: 0, retain: false, identifiers: [] }))
        copy.qos = Math.max(copy.qos, Math.min(qos, message.qos)) as QoS
        copy.retain ||= retainAsPublished && message.retain
        if (identifier !== undefined) copy.identifiers.push(identifier)
      }
      for (const group of groups.values()) {
        group.deliver(message, false)
        isMatched = true
      }
    }
    for (const [session, copy] of plain) session.deliver({ message, ...copy })
    return isMatched || plain.size > 0
  }
}

/** One shared subscription (MQTT 5 section 4.8.2): each message goes to one of its members. */
export class SharedGroup {
  readonly #members: Subscription[] = []
  #turn = 0

  add(subscription: Subscription): void {
    const at = this.#members.findIndex(({ session }) => session === subscription.session)
    if (at === -1) this.#members.push(subscription)
    else this.#members[at] = subscription
  }

  remove(session: MqttSession): 'empty' | undefined {
    const at = this.#members.findIndex((member) => member.session === session)
    if (at !== -1) this.#members.splice(at, 1)
    return this.#members.length === 0 ? 'empty' : undefined
  }

  /**
   * The members take turns. Those that are away get a message only where all are.
   * @param isRepeated whether another member may have had it
   */
  deliver(message: BrokerMessage, isRepeated: boolean): void {
    const count = this.#members.length
    const inTurn = this.#members.map((_, index) => this.#members[(this.#turn + index) % count]!)
    const chosen = inTurn.find(({ session }) => session.isConnected) ?? inTurn[0]
    if (chosen === undefined) return
    this.#turn = this.#members.indexOf(chosen) + 1
    const { session, qos, retainAsPublished, identifier } = chosen
    session.deliver({
      message,
      qos: Math.min(qos, message.qos) as QoS,
      retain: retainAsPublished && message.retain,
      identifiers: identifier === undefined ? [] : [identifier],
      group: this,
      isRepeated,
    })
  }
}

function partsOf(filter: string): { group: string | undefined; filter: string } {
  return parseShare(filter) ?? { group: undefined, filter }
}
