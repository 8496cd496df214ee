import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../support/free-port.ts'
import type { BrokerKind, Command, Place } from '../broker-process.ts'
import { printed } from './cache.ts'

const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server'

export const rabbitmq: BrokerKind = {
  name: 'rabbitmq',
  title: 'RabbitMQ',
  everywhere: true,
  startMs: 120_000,
  async install() {
    if (!existsSync(SERVER)) return 'rabbitmq-server is not installed (apt-get install rabbitmq-server)'
    const version = /\d+\.\d+\.\d+/.exec(printed('dpkg-query', ['-W', 'rabbitmq-server']))?.[0] ?? 'unknown'
    return { version, accounts: true, command: (place) => rabbitmqCommand(place) }
  },
}

/**
 * RabbitMQ with its MQTT plugin, all its files in the broker's directory.
 *
 * Its nodes find each other by epmd, a process that outlives them: it gets one of its own, which ends with its group.
 */
export async function rabbitmqCommand({ port, directory, account }: Place): Promise<Command> {
  const [epmd, distribution] = [await freePort(), await freePort()]
  const config = join(directory, 'rabbitmq.conf')
  writeFileSync(
    config,
    [
      'listeners.tcp = none',
      `mqtt.listeners.tcp.default = 127.0.0.1:${port}`,
      ...(account === undefined
        ? ['mqtt.allow_anonymous = true']
        : ['mqtt.allow_anonymous = false', `default_user = ${account.username}`, `default_pass = ${account.password}`]),
      'loopback_users = none',
      '',
    ].join('\n'),
  )
  writeFileSync(join(directory, 'enabled_plugins'), '[rabbitmq_mqtt].\n')
  return {
    file: 'sh',
    args: ['-c', `epmd -address 127.0.0.1 -port ${epmd} & exec ${SERVER}`],
    env: {
      HOME: directory,
      ERL_EPMD_PORT: String(epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `causeway${port}@localhost`,
      RABBITMQ_DIST_PORT: String(distribution),
      RABBITMQ_CONFIG_FILE: config,
      RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
      RABBITMQ_MNESIA_BASE: join(directory, 'mnesia'),
      RABBITMQ_LOG_BASE: directory,
      RABBITMQ_LOGS: '-',
      RABBITMQ_PID_FILE: join(directory, 'pid'),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    },
  }
}
