import type { BrokerKind } from '../broker-process.ts'
import { activemq } from './activemq.ts'
import { amqtt } from './amqtt.ts'
import { artemis } from './artemis.ts'
import { comqtt } from './comqtt.ts'
import { embedded } from './embedded.ts'
import { hivemq } from './hivemq.ts'
import { mochi } from './mochi.ts'
import { moquette } from './moquette.ts'
import { mosquitto } from './mosquitto.ts'
import { nats, natsLatest } from './nats.ts'
import { rabbitmq } from './rabbitmq.ts'
import { rabbitmq4 } from './rabbitmq4.ts'
import { rumqttd } from './rumqttd.ts'

/** Every broker the suite can start, in the order of the report. */
export const brokerKinds: BrokerKind[] = [
  mosquitto,
  embedded,
  rabbitmq,
  nats,
  hivemq,
  mochi,
  rumqttd,
  artemis,
  rabbitmq4,
  natsLatest,
  moquette,
  activemq,
  comqtt,
  amqtt,
]
