import { randomBytes } from 'node:crypto'
import { pino } from 'pino'
import { createAuthenticator } from '../auth/create.ts'
import { brokerOptions } from '../config/broker-options.ts'
import { readBrokerFiles, readHttpsCertificate } from '../config/certificates.ts'
import { type Config, ConfigError } from '../config/config.ts'
import { MemoryAccount } from '../memory/account.ts'
import { Broker } from '../mqtt/connection/broker.ts'
import { type BrokerDescription, describeBroker } from '../mqtt/connection/describe-broker.ts'
import type { Learnt } from '../mqtt/connection/learnt.ts'
import { startEmbeddedBroker } from '../mqtt/embedded/embedded-broker.ts'
import { learnBroker } from '../mqtt/learn-broker.ts'
import { type Findings, type Trial, tryBroker } from '../mqtt/trial.ts'
import { readPushFiles } from '../push/push-files.ts'
import { Redis } from '../redis/redis.ts'

export interface CheckOptions {
  connect: boolean
  json: boolean
  /** @throws ConfigError */
  settings(): { config: Config; notices: readonly { text: string }[] }
  readFile(path: string): string
}

export interface CheckResult {
  output: string
  verdict: 'done' | 'failed' | 'noConnection'
}

interface Report extends Partial<BrokerDescription> {
  valid: boolean
  faults: readonly string[]
  notices?: string[]
  /** Whether the broker was connected to. Only with `--connect`. */
  connected?: boolean
  /** How Redis is. Only with `--connect`, and where CAUSEWAY_REDIS_URL is set. */
  redis?: Redis['report']
  trial?: Trial
}

/** Checks the configuration with all files that it names and, if asked, connects to the broker and tries it out. */
export async function check(options: CheckOptions): Promise<CheckResult> {
  const report = await examine(options)
  return {
    output: options.json ? `${JSON.stringify(report, null, 2)}\n` : textOf(report),
    verdict: verdictOf(report),
  }
}

function verdictOf({ valid, connected, redis }: Report): CheckResult['verdict'] {
  if (!valid) return 'failed'
  const isRedisAway = redis !== undefined && redis.state !== 'connected'
  return connected === false || isRedisAway ? 'noConnection' : 'done'
}

async function examine({ connect, readFile, settings }: CheckOptions): Promise<Report> {
  try {
    const { config, notices } = settings()
    const memory = new MemoryAccount({ totalBytes: config.memoryBytes })
    const faults = fileFaults(config, readFile, memory)
    if (faults.length > 0) return { valid: false, faults }
    const report: Report = { valid: true, faults, notices: notices.map(({ text }) => text) }
    if (!connect) return report
    const redis = await examineRedis(config, readFile)
    const found = await examineBroker(config, readFile, memory)
    return { ...report, ...found, ...(redis && { redis }) }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { valid: false, faults: error.faults }
  }
}

/** What is wrong with the files that the settings name. Each message begins with the variable. */
function fileFaults(config: Config, readFile: CheckOptions['readFile'], memory: MemoryAccount): string[] {
  const reads = [
    () => createAuthenticator({ config, readFile, memory, logger: pino({ level: 'silent' }) }),
    () => readHttpsCertificate(config, readFile),
    () => readBrokerFiles(config, readFile),
    () => readPushFiles(config, readFile),
  ]
  return reads.flatMap((read) => {
    try {
      read()
      return []
    } catch (error) {
      return [(error as Error).message]
    }
  })
}

async function examineRedis(config: Config, readFile: CheckOptions['readFile']): Promise<Redis['report'] | undefined> {
  const { redisUrl: url, redisCaFile, redisPrefix } = config
  if (url === undefined) return undefined
  const ca = redisCaFile === undefined ? undefined : readFile(redisCaFile)
  const redis = await Redis.connect({ url, ca, prefix: redisPrefix!, onChange() {} })
  const { report } = redis
  await redis.close()
  return report
}

const OWN_ACCOUNT =
  'With CAUSEWAY_AUTH=broker callers log in with their own credentials; a broker may refuse the bridge without them'

async function examineBroker(
  config: Config,
  readFile: CheckOptions['readFile'],
  memory: MemoryAccount,
): Promise<Partial<Report>> {
  // On any port: the bridge itself may be running, and its broker on the port of the setting.
  const embedded =
    config.mqttUrl === 'embedded:'
      ? await startEmbeddedBroker({ port: 0, maxPacketBytes: config.mqttMaxPacketBytes, memory })
      : undefined
  const files = readBrokerFiles(config, readFile)
  const broker = new Broker(brokerOptions(config, embedded?.url ?? config.mqttUrl, () => files))
  const suffix = `check-${randomBytes(6).toString('hex')}`
  const clientId = `${config.mqttClientId ?? 'causeway'}-${suffix}`
  let description: BrokerDescription | undefined
  const trial = await tryBroker(
    {
      broker,
      clientId,
      topic: `${config.markerTopic}/${suffix}`,
      timeoutMs: config.publishTimeoutMs,
      share: memory.shareOf('check'),
    },
    () => (description = describeBroker(broker)),
  )
  if (trial !== undefined) {
    await learnBroker({
      broker,
      clientId,
      markerTopic: config.markerTopic!,
      timeoutMs: config.publishTimeoutMs,
      sharedOver311: config.mqttSharedSubscriptions === 'true',
    })
    description!.broker.learnt = broker.learnt
  }
  await embedded?.close()
  const isOthers = config.auth === 'broker' && trial === undefined
  return {
    ...description,
    connected: trial !== undefined,
    ...(trial && { trial }),
    ...(isOthers && { notices: [OWN_ACCOUNT] }),
  }
}

/** Names of what CONNACK says, for people, in the order of the table. What is new has its own name at the end. */
const LIMIT_NAMES: Record<string, string> = {
  receiveMaximum: 'Unacknowledged publishes',
  maximumPacketSize: 'Largest packet',
  maximumQoS: 'Highest QoS',
  retain: 'Retained messages',
  wildcards: 'Wildcards in filters',
  sharedSubscriptions: 'Shared subscriptions',
  subscriptionIdentifiers: 'Subscription identifiers',
  sessionExpiryS: 'Keeps sessions for',
}
const UNITS: Record<string, string> = {
  receiveMaximum: 'at most',
  maximumPacketSize: 'bytes',
  sessionExpiryS: 'seconds at most',
}
/** What it means that the broker does not say. */
const UNSAID: Record<string, string> = {
  receiveMaximum: 'not said (MQTT 3.1.1)',
  maximumPacketSize: 'no limit',
  sessionExpiryS: 'as long as asked',
}

/** What the bridge has found out, in words: what it means for those who read and publish. */
function learntRows(learnt: Learnt): Row[] {
  const { markers, order, copies, retainedForWildcards, retainedLate, redelivery, retainedWills } = learnt
  const { sessionsEnd, changedCharacters } = learnt
  const say = <Value extends string | boolean>(value: Value | undefined, words: Record<`${Value}`, string>): string =>
    value === undefined ? 'not known' : words[`${value}`]
  return [
    ['Markers', say(markers, { true: 'come back', false: 'do not come back, so some streams begin later' })],
    ['Order', say(order, { kept: 'is kept', mixed: 'is mixed, so the bridge publishes one message after the other' })],
    [
      'Copies of overlaps',
      say(copies, {
        'told-apart': 'say which is which',
        mixed: 'do not say which is which, so filters that overlap get connections of their own',
      }),
    ],
    ['Retained, by wildcard', say(retainedForWildcards, { true: 'read', false: 'not handed on, so 501' })],
    [
      'Retained, last one',
      say(retainedLate, { true: 'does not show, so reads wait until none comes', false: 'shows by a marker' }),
    ],
    [
      'Retained will',
      say(retainedWills, { true: 'is kept', false: 'is not kept, so the status topic says online behind a crash' }),
    ],
    [
      'Not acknowledged',
      say(redelivery, {
        marked: 'comes again, marked',
        unmarked: 'comes again unmarked, so all that waits in a session is marked',
        lost: 'may be lost, so a session that goes on begins with a gap',
      }),
    ],
    ['Sessions', say(sessionsEnd, { true: 'end when told to', false: 'stay when told to end, so DELETE gets 502' })],
    [
      'Characters of topics',
      changedCharacters === undefined
        ? 'not known'
        : changedCharacters === ''
          ? 'stay as they are'
          : `${changedCharacters} become others, so filters with them get 501`,
    ],
  ]
}

type Row = readonly [name: string, value: string]

function textOf(report: Report): string {
  const { valid, faults, notices = [], broker, connections = [], connected, trial, redis } = report
  if (!valid) return `Configuration is not valid:\n${faults.map((fault) => `  ${fault}\n`).join('')}`
  const sections = [
    table('Configuration', [['Settings and files', 'valid'], ...notices.map((text): Row => ['Note', text])]),
  ]
  if (broker !== undefined) {
    const reached = broker.address !== undefined
    sections.push(
      table('Broker', [
        ['Address', broker.address ?? broker.addresses.join(', ')],
        ...(reached
          ? [
              ['Protocol', `MQTT ${broker.protocol}`] as const,
              ['Calls itself', printable(trial?.version ?? 'nothing')] as const,
            ]
          : [['Not connected', reasonOf(connections)] as const]),
      ]),
    )
    if (reached) sections.push(table('What it supports', limitRows(broker.limits ?? {})))
  }
  if (connected && trial !== undefined) {
    sections.push(
      table(`Tried out on ${trial.topic}`, [...trialRows(trial), ...findingRows(trial.findings, broker?.limits)]),
    )
  }
  if (connected) sections.push(table('What the bridge has found out', learntRows(broker?.learnt ?? {})))
  if (redis !== undefined) {
    sections.push(
      table('Redis', [[redis.address, redis.state === 'connected' ? 'answers' : `does not answer: ${redis.reason}`]]),
    )
  }
  return sections.join('\n')
}

/** A broker may send anything as its version, and control characters would reach the terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ').slice(0, 200)
}

function reasonOf(connections: BrokerDescription['connections']): string {
  return String(connections.find(({ reason }) => reason !== undefined)?.['reason'] ?? 'no answer')
}

function limitRows(limits: Record<string, unknown>): Row[] {
  const names = [...new Set([...Object.keys(LIMIT_NAMES), ...Object.keys(limits)])]
  return names.map((name) => [LIMIT_NAMES[name] ?? name, limitText(name, limits[name])])
}

function limitText(name: string, value: unknown): string {
  if (value === undefined) return UNSAID[name] ?? 'not said'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  return `${typeof value === 'object' ? JSON.stringify(value) : value}${UNITS[name] ? ` ${UNITS[name]}` : ''}`
}

function trialRows({ grantedQos, fault, publishes }: Trial): Row[] {
  return [
    ['Subscribe', fault ?? `granted with QoS ${grantedQos}`],
    ...publishes.map(({ qos, acknowledgedMs, reason, arrivedMs, fault: refusal }): Row => {
      if (refusal !== undefined) return [`Publish QoS ${qos}`, refusal]
      const answered = acknowledgedMs === undefined ? 'sent' : `acknowledged after ${acknowledgedMs.toFixed(1)} ms`
      const said = reason === null || reason === undefined ? '' : ` (${reason})`
      const arrived = arrivedMs === undefined ? 'did not arrive' : `arrived after ${arrivedMs.toFixed(1)} ms`
      return [`Publish QoS ${qos}`, `${answered}${said}, ${arrived}`]
    }),
  ]
}

function findingRows(findings: Findings, limits: BrokerDescription['broker']['limits'] = {}): Row[] {
  const { saysNobodySubscribes, sharedSubscriptions, copiesOfOverlaps, retained, retainedForWildcards } = findings
  const answer = (value: boolean | undefined, yes: string, no: string) =>
    value === undefined ? 'no answer, or refused' : value ? yes : no
  // Over MQTT 3.1.1 the bridge believes only the setting.
  const hint =
    limits['sharedSubscriptions'] === false ? '; set CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS=true to use them' : ''
  const copies = ['no copy', 'one copy'][copiesOfOverlaps ?? -1] ?? 'a copy for each filter'
  return [
    ['Topic of nobody', answer(saysNobodySubscribes, 'it says so', 'it does not say so at QoS 1')],
    ['Shared subscription', answer(sharedSubscriptions, `gets messages${hint}`, 'gets none')],
    ['Overlapping filters', copiesOfOverlaps === undefined ? answer(undefined, '', '') : copies],
    ['Retained message', answer(retained, 'comes', 'does not come')],
    ['Retained, by wildcard', answer(retainedForWildcards, 'comes', 'does not come')],
  ]
}

function table(title: string, rows: readonly Row[]): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  return `${title}\n${rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}\n`).join('')}`
}
