/** What the documents of a broker that the suite does not run say. */
export interface Documented {
  title: string
  /** Where it stands. */
  sources: string[]
  says: string[]
  /** What follows for Causeway; concluded, not run. */
  follows: string[]
}

export const documentedBrokers: Documented[] = [
  {
    title: 'EMQX',
    sources: [
      'https://docs.emqx.com/en/emqx/latest/guides/configuration/mqtt.html',
      'https://docs.emqx.com/en/emqx/latest/design/inflight-window-and-message-queue.html',
    ],
    says: [
      'MQTT 3.1, 3.1.1 and 5, QoS 2, retained messages, wildcards and shared subscriptions, all on by default.',
      '`max_packet_size` is 1 MB and `max_topic_levels` 128 by default.',
      'On their way to a client are `max_inflight` (32) messages, or its Receive Maximum where that is less.',
      'Behind them `max_mqueue_len` (1000) messages wait, and **the oldest is discarded** where more come.',
    ],
    follows: [
      'A message with properties and topic near 1 MB is a 413: CONNACK names Maximum Packet Size.',
      'A session whose reader is away for more than 1000 messages loses the oldest without a word.',
      'Raise `max_mqueue_len` therefore; 0 is no limit.',
      'Over MQTT 3.1.1 it has shared subscriptions: `CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS=true`.',
    ],
  },
  {
    title: 'VerneMQ',
    sources: [
      'https://github.com/vernemq/vernemq/releases/tag/1.6.0',
      'https://github.com/vernemq/vernemq/discussions/2165',
      'https://github.com/vernemq/vernemq/discussions/2229',
    ],
    says: [
      'MQTT 5 in full, shared subscriptions, flow control and subscription identifiers among it.',
      'A listener speaks it where its `allowed_protocol_versions` names 5; without it 3.1 and 3.1.1 alone.',
      '`max_inflight_messages` is for MQTT 3.1.1; for MQTT 5 it is `receive_max_client` and `receive_max_broker`.',
      'A queue holds `max_online_messages` or `max_offline_messages`; what exceeds them is dropped as it is queued.',
      'Messages to topics that begin with `$` are dropped silently.',
    ],
    follows: [
      'Name 5 in `listener.tcp.allowed_protocol_versions`: `auto` falls back to 3.1.1 otherwise.',
      'A session loses what exceeds `max_offline_messages` without a word: set it to -1.',
    ],
  },
  {
    title: 'AWS IoT Core',
    sources: [
      'https://docs.aws.amazon.com/iot/latest/developerguide/mqtt.html',
      'https://docs.aws.amazon.com/general/latest/gr/iot-core.html',
    ],
    says: [
      'MQTT 3.1.1 and 5, over TLS alone, for clients that its policies let in.',
      '**No QoS 2**: over 3.1.1 neither a publish nor a subscription at QoS 2 gets an answer.',
      'No more than 7 slashes in a topic or filter, 8 filters in a SUBSCRIBE, 50 filters a connection.',
      'No more than 128 KB a message and 100 unacknowledged messages each way.',
      'A message may come again under another packet id, and then without DUP.',
      'Delivery may begin some time after SUBACK.',
      'A message that is not acknowledged within an hour is dropped.',
    ],
    follows: [
      'QoS 2 is a 422 over MQTT 5, where CONNACK names Maximum QoS, and a 504 over 3.1.1.',
      'A stream may miss what is published right behind its beginning.',
      'A message that comes again to a session may be unmarked: count with duplicates.',
      'More than 50 filters of all streams together are refused.',
    ],
  },
]

/** Brokers that were run and break MQTT itself, so that no promise holds on them. */
export const unsupportedBrokers: { title: string; faults: string[] }[] = [
  {
    title: 'amqtt 0.12.1 (MQTT 3.1.1)',
    faults: [
      'It loses what it has acknowledged: over a link that was cut for a moment, 19 of 21 messages at QoS 1 did not come.',
      'It keeps nothing for a session whose client is away: 20 of 20 messages did not come.',
      'A message at QoS 1 came twice, and over a link that was cut one at QoS 2 came twice.',
      'It keeps a session that is ended with Clean Session. `DELETE /sessions/{id}` says so, with 502.',
      'It does not close the first connection where a second one comes with the same client id.',
      'It closed the connections of subscribers instead of sending SUBACK, in 2 of 52 checks.',
      'It sends retained messages of any topic behind CONNACK, and does not retain the will.',
    ],
  },
]

/** Brokers that a registry did not hand out where the suite was last run. */
export const unavailableBrokers = [
  'gmqtt: the registry of Go modules does not hand it out.',
  'FlashMQ: none of the registries has it.',
]
