import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Fault } from '../fault.ts'

const mosquittoOnly: Fault['skip'] = ({ broker }) =>
  broker === 'mosquitto' ? undefined : 'the embedded broker saves nothing'

export const brokerFaults: readonly Fault[] = [
  {
    name: 'broker-killed',
    what: 'SIGKILL, back after 2 s without its state',
    issue: '18',
    brief: true,
    async strike({ stopBroker, startBroker, seconds }) {
      await stopBroker('SIGKILL')
      await seconds(2)
      await startBroker()
    },
  },
  {
    name: 'broker-restarted',
    what: 'SIGTERM, back after 2 s with its state',
    issue: '18',
    brief: true,
    skip: mosquittoOnly,
    broker: { persistence: true },
    async strike({ stopBroker, startBroker, seconds }) {
      await stopBroker('SIGTERM')
      await seconds(2)
      await startBroker()
    },
  },
  {
    name: 'broker-restarted-forgetful',
    what: 'SIGTERM, back after 2 s without its state',
    issue: '18',
    async strike({ stopBroker, startBroker, seconds }) {
      await stopBroker('SIGTERM')
      await seconds(2)
      await startBroker()
    },
  },
  {
    name: 'broker-restarted-behind-proxy',
    what: 'SIGTERM, back after 2 s with its state; meanwhile a proxy accepts connections and closes them',
    issue: '16.11',
    skip: mosquittoOnly,
    broker: { persistence: true },
    async strike({ broker, seconds, until, witness }) {
      await broker.program.end('SIGTERM')
      await seconds(2)
      await broker.start()
      await until('the witness is subscribed again', 10, witness.isReady)
    },
  },
  {
    name: 'broker-frozen-30s',
    what: 'SIGSTOP for 30 s: its sockets stay open and nothing answers',
    issue: '18',
    withinSeconds: null,
    watchSeconds: 60,
    async strike({ broker, seconds }) {
      broker.program.signal('SIGSTOP')
      await seconds(30)
      broker.program.signal('SIGCONT')
    },
  },
  {
    name: 'broker-disk-full',
    what: 'its disk is full while it is killed after 5 s; back after 2 s, on a disk with room',
    issue: '18',
    skip: (options) =>
      mosquittoOnly(options) ?? (process.getuid?.() === 0 ? undefined : 'needs root for a small disk of its own'),
    brokerForgets: true,
    broker: {
      persistence: true,
      config: ['autosave_interval 1'],
      location(stage) {
        const disk = join(stage.directory, 'disk')
        mkdirSync(disk)
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', disk])
        stage.onEnd(() => execFileSync('umount', [disk]))
        return disk
      },
    },
    async strike({ stage, seconds, stopBroker, startBroker, broker, note }) {
      const filler = join(stage.directory, 'disk', 'filler')
      try {
        writeFileSync(filler, Buffer.alloc(1024 * 1024))
      } catch {
        // It takes what fits.
      }
      await seconds(5)
      await stopBroker('SIGKILL')
      await seconds(2)
      rmSync(filler)
      await startBroker()
      const complaint = broker
        .log()
        .split('\n')
        .find((line) => /No space left|Error saving/i.test(line))
      note(`the broker said: ${complaint?.replace(/^\d+: /, '') ?? 'nothing'}`)
    },
  },
]
