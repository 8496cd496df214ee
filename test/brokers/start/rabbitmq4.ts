import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokerKind } from '../broker-process.ts'
import { cached, commandPath, printed } from './cache.ts'
import { rabbitmqCommand } from './rabbitmq.ts'

/** Of Debian 13, in a directory of its own that is its root: its Erlang does not run on Debian 12's C library. */
export const rabbitmq4: BrokerKind = {
  name: 'rabbitmq4',
  title: 'RabbitMQ',
  startMs: 120_000,
  async install() {
    if (process.getuid?.() !== 0 || commandPath('debootstrap') === undefined) {
      return 'it needs root and debootstrap, to unpack Debian 13 into a directory'
    }
    const root = await cached('debian-13', async (target, execute) => {
      await execute('debootstrap', ['--variant=minbase', 'trixie', target])
      writeFileSync(join(target, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 })
      await execute('chroot', [target, 'apt-get', 'update', '-qq'])
      const install = ['apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'rabbitmq-server']
      await execute('chroot', [target, ...install], { DEBIAN_FRONTEND: 'noninteractive' })
    })
    const version = /\d+\.\d+\.\d+/.exec(printed('chroot', [root, 'dpkg-query', '-W', 'rabbitmq-server']))?.[0]
    return {
      version: version ?? 'unknown',
      accounts: true,
      async command(place) {
        const { args, env = {} } = await rabbitmqCommand(place)
        mkdirSync(join(root, place.directory), { recursive: true })
        const inside = 'mount --bind "$2" "$1$2" && mount -t proc proc "$1/proc" && exec chroot "$1" sh -c "$3"'
        return {
          file: 'unshare',
          // A mount namespace of its own, so that nothing stays mounted.
          args: ['--mount', 'sh', '-c', inside, 'sh', root, place.directory, args[1]!],
          env,
        }
      },
    }
  },
}
