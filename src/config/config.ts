import { isIP } from 'node:net'
import type { Static } from 'typebox'
import { Type } from '../schema-type.ts'
import { BROKER_URL_EXPECTED, brokerUrls } from './broker-url.ts'
import { didYouMean } from './closest.ts'
import { contradictions } from './contradictions.ts'

const PREFIX = 'CAUSEWAY_'
/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

const text = (description: string, extra: object = {}) =>
  Type.Optional(Type.String({ minLength: 1, description, ...extra }))
const secret = (description: string, minLength = 1) => text(description, { secret: true, minLength })
const integer = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ default: fallback, minimum, maximum, description })
const optionalInteger = (minimum: number, maximum: number, description: string) =>
  Type.Optional(Type.Integer({ minimum, maximum, description }))
const choice = <Value extends string>(values: readonly Value[], fallback: NoInfer<Value>, description: string) =>
  Type.Enum<Value[]>(values, { default: fallback, description })
const flag = (description: string, fallback = false) => Type.Boolean({ default: fallback, description })

/**
 * Every setting. The name of the variable is `CAUSEWAY_` and the key in capitals: `httpPort` is `CAUSEWAY_HTTP_PORT`.
 * A `secret` may also come from a file, whose path is in `…_FILE`.
 */
export const ConfigSchema = Type.Object(
  {
    mqttUrl: Type.String({
      default: 'embedded:',
      format: 'broker-url',
      secret: true,
      description:
        'URL of the broker: `mqtt:` `mqtts:` `ws:` `wss:`, `mqtt+unix:///PATH` for a Unix socket, or `embedded:` for ' +
        'a broker in this process. Several URLs, separated by commas, are tried in this order',
    }),
    mqttUsername: text('User name for the broker'),
    mqttPassword: secret('Password for the broker'),
    mqttClientId: text(
      'Prefix of the MQTT client ids of this bridge; no other client of the broker may use it. Random if not set',
    ),
    mqttProtocol: choice(
      ['auto', '5', '3.1.1'],
      'auto',
      'MQTT version: `auto`, `5` or `3.1.1`. `auto` uses 5, and 3.1.1 if the broker refuses 5 or does not answer it',
    ),
    mqttSharedSubscriptions: choice(
      ['auto', 'true'],
      'auto',
      'Whether the broker supports `$share`. `auto` uses what it says over MQTT 5, and means no over 3.1.1. ' +
        '`true` is for 3.1.1 brokers that do (Mosquitto, EMQX)',
    ),
    mqttCaFile: text('PEM file of the CA that signed the broker’s certificate. Read again on SIGHUP'),
    mqttCertFile: text('PEM file of the client certificate for the broker. Read again on SIGHUP'),
    mqttKeyFile: text('PEM file of the client certificate’s private key. Read again on SIGHUP'),
    mqttServerName: text('Host name that the broker’s certificate has to be for, if it is not the host of the URL'),
    mqttWsHeadersFile: text(
      'File with headers for the WebSocket upgrade, one `Name: value` on each line. Read again on SIGHUP',
    ),
    mqttKeepaliveS: integer(
      30,
      1,
      65_535,
      'Seconds between two MQTT pings. A broker that sends nothing is noticed after 1.5 times as long',
    ),
    mqttConnectTimeoutMs: integer(
      5000,
      1,
      MAX_TIMER_MS,
      'How long one attempt to connect to the broker may take, from the look-up of its name to its CONNACK',
    ),
    mqttMaxPacketBytes: integer(
      16_777_216,
      1024,
      268_435_460,
      'Largest packet that the broker may send. MQTT 5 brokers are told; a connection on which a larger one comes is ' +
        'closed before it is read',
    ),
    embeddedPort: integer(1883, 0, 65_535, 'Loopback port of the embedded broker; 0 for any free port'),
    statusTopic: text(
      'Topic with the retained message `online` while a bridge runs and `offline` afterwards, also after a crash ' +
        '(Last Will). Each bridge also has its own below it, named for its client id',
      { format: 'mqtt-topic' },
    ),
    allowDollarTopics: flag('Allow publishing and subscribing to topics that begin with `$`, such as `$SYS`'),
    httpHost: Type.String({
      default: '127.0.0.1',
      minLength: 1,
      description: 'Address to listen on; `localhost` means 127.0.0.1',
    }),
    httpPort: integer(8080, 0, 65_535, 'Port to listen on; 0 for any free port'),
    adminPort: optionalInteger(0, 65_535, 'Separate port for `/livez`, `/readyz` and `/metrics`'),
    adminHost: text('Address for the admin port to listen on. If not set, the one of `CAUSEWAY_HTTP_HOST`'),
    console: flag(
      'Serve the page at `/`, to publish, follow and see the state. It shows only what its caller may',
      true,
    ),
    httpConnectionsMax: integer(
      20_000,
      1,
      1_000_000,
      'Most open connections of each listener; further connections are closed. The default is lowered where ' +
        '`ulimit -n` allows fewer',
    ),
    httpConnectionsMaxAddress: integer(
      0,
      0,
      1_000_000,
      'Most open connections of one IPv4 address or IPv6 /64, proxies of `CAUSEWAY_TRUST_PROXY` aside; 0 for no limit',
    ),
    keepaliveTimeoutMs: integer(
      75_000,
      1,
      MAX_TIMER_MS,
      'How long a connection without a request is kept open. Longer than a balancer in front keeps it, or its ' +
        'requests may meet a connection that is just being closed',
    ),
    headersLimitBytes: integer(16_384, 1024, 1_048_576, 'Largest headers of a request'),
    headersTimeoutMs: integer(
      15_000,
      1,
      MAX_TIMER_MS,
      'Longest time for the headers of a request to arrive, checked every 5 seconds',
    ),
    bodyTimeoutMs: integer(
      60_000,
      1,
      MAX_TIMER_MS,
      'Longest time for the body of a request to arrive, checked every second. Not for NDJSON batches',
    ),
    trustProxy: text(
      'Proxies whose `X-Forwarded-For` is believed: addresses or networks like `10.0.0.0/8`, separated by commas',
      { format: 'networks' },
    ),
    rateIdentity: optionalInteger(
      0,
      1_000_000,
      'Most requests a second of one caller; 0 for no limit. If not set, 1000 with authentication and no limit without',
    ),
    rateAddress: integer(
      0,
      0,
      1_000_000,
      'Most requests a second of one IPv4 address or IPv6 /64, checked before authentication; 0 for no limit',
    ),
    httpCertFile: text(
      'PEM file of the certificate for HTTPS, followed by its intermediate certificates. Read again on SIGHUP',
    ),
    httpKeyFile: text('PEM file of that certificate’s private key, without a passphrase. Read again on SIGHUP'),
    publishConnections: integer(
      2,
      1,
      64,
      'Number of MQTT connections that publish. Each topic always uses the same one',
    ),
    publishMaxInFlight: integer(
      1000,
      1,
      65_535,
      'Most publishes in flight (not yet answered) on each connection. Batches use three quarters of it at most',
    ),
    publishMaxInFlightBytes: integer(
      67_108_864,
      1024,
      2 ** 40,
      'Most payload bytes of the publishes in flight on each connection',
    ),
    publishWaitMs: integer(
      500,
      1,
      MAX_TIMER_MS,
      'How long a publish may have to wait for others until it is sent to the broker, as its last acknowledgements ' +
        'say. Where it would be longer, the answer is 503 at once; batches wait instead',
    ),
    publishTimeoutMs: integer(
      10_000,
      1,
      MAX_TIMER_MS,
      'How long to wait for the broker to acknowledge a publish or a subscription',
    ),
    subscribeConnectionsMax: integer(
      16,
      1,
      1024,
      'Most MQTT connections that subscribe. One is enough with MQTT 5; over 3.1.1, filters that overlap cannot ' +
        'share one',
    ),
    retainedMax: integer(10_000, 1, 2 ** 24, 'Most retained messages that are read for one request'),
    retainedMaxBytes: integer(
      16_777_216,
      1024,
      2 ** 32,
      'Most bytes of payloads and properties of the retained messages of one request',
    ),
    bodyLimitBytes: integer(
      1_048_576,
      1,
      268_435_455,
      'Largest payload of a message. Bodies and NDJSON lines in JSON may be six times as long and 1 MiB more, as ' +
        'JSON may need that for such a payload',
    ),
    batchMax: integer(1000, 1, 1_000_000, 'Most messages in a JSON batch. NDJSON batches have no limit'),
    idempotencyKeysMax: integer(10_000, 1, 2 ** 24, 'Most Idempotency-Keys that are remembered'),
    idempotencyKeysMaxIdentity: optionalInteger(
      1,
      2 ** 24,
      'Most Idempotency-Keys of one caller. If not set, 1000 with authentication and no extra limit without',
    ),
    idempotencyTtlS: integer(86_400, 1, 2 ** 31, 'Seconds for which the answer to an Idempotency-Key is remembered'),
    redisUrl: text(
      'URL of a Redis or Valkey that all replicas use: `redis:` or `rediss:`, with the number of a database as path. ' +
        'It keeps Idempotency-Keys and counts requests for `CAUSEWAY_RATE_IDENTITY` and `CAUSEWAY_RATE_ADDRESS`',
      { format: 'redis-url', secret: true },
    ),
    redisCaFile: text('PEM file of the CA that signed the certificate of Redis'),
    redisPrefix: text('Begins the name of every key in Redis, the same on all replicas', { default: 'causeway:' }),
    requestsMax: integer(
      1000,
      1,
      1_000_000,
      'Most `POST /request` calls that wait for a reply at the same time. One caller may have as many as are left ' +
        'for the others',
    ),
    replyTopic: text('Replies to `POST /request` are received on random topics below this one', {
      default: 'causeway/reply',
      format: 'mqtt-topic',
    }),
    markerTopic: text(
      'The bridge publishes messages to itself on random topics below this one, to see what came before them. No ' +
        'stream delivers them',
      { default: 'causeway/marker', format: 'mqtt-topic' },
    ),
    clusterTopic: text(
      'Replicas write to each other below this topic, the same for all of them: it hands over what reached another ' +
        'replica than the one with the session. Callers can neither publish nor subscribe there',
      { default: 'causeway/cluster', format: 'mqtt-topic' },
    ),
    brokerQueueMax: integer(
      1000,
      0,
      2 ** 31,
      'Messages that the broker keeps for a client while it is away (Mosquitto: `max_queued_messages`). If about so ' +
        'many have waited there, streams and sessions get the gap `broker-queue`. `0`: no limit',
    ),
    topicLevelsMax: integer(
      100,
      1,
      65_535,
      'Most levels in a topic or filter. Brokers close the connection over too many levels',
    ),
    streamLogBytes: integer(
      4_194_304,
      1024,
      2 ** 40,
      'Most bytes of events that each channel keeps for slow and returning readers',
    ),
    streamLogMessages: integer(4096, 1, 2 ** 24, 'Most events that each channel keeps'),
    streamLingerMs: integer(60_000, 0, MAX_TIMER_MS, 'How long a channel is kept after its last reader has left'),
    streamHeartbeatMs: integer(15_000, 10, MAX_TIMER_MS, 'Interval of heartbeats on a stream'),
    streamStallMs: integer(
      300_000,
      10,
      MAX_TIMER_MS,
      'A client that reads nothing of its stream or answer for this long is disconnected, and an NDJSON batch that ' +
        'sends nothing for this long is ended',
    ),
    subscribeWaitMs: integer(
      10_000,
      0,
      MAX_TIMER_MS,
      'How long a subscription waits for the broker while it cannot be reached, before it is answered with 503. ' +
        'Browsers do not reconnect after a 503',
    ),
    streamMax: integer(10_000, 1, 1_000_000, 'Most open streams'),
    streamMaxIdentity: optionalInteger(
      0,
      1_000_000,
      'Most open streams of one caller; 0 for no limit. If not set, 1000 with authentication and no limit without',
    ),
    streamMaxAddress: integer(0, 0, 1_000_000, 'Most open streams of one IPv4 address or IPv6 /64; 0 for no limit'),
    streamFiltersMax: integer(100, 1, 10_000, 'Most filters of one stream'),
    sessionExpiryS: integer(
      3600,
      1,
      4_294_967_295,
      'Seconds for which the broker keeps a durable session without a reader; 4294967295 for ever',
    ),
    sessionClientId: text(
      'Prefix of the MQTT client ids of durable sessions, the same on all replicas; unset, CAUSEWAY_MQTT_CLIENT_ID ' +
        'and `-session-`, or `causeway-session-`',
    ),
    sessionSecret: secret(
      'Secret that makes the client ids of durable sessions impossible to guess, and signs what replicas write to ' +
        'each other; the same on all replicas',
      32,
    ),
    sessionMaxUnacked: integer(100, 1, 65_535, 'Most messages of a session that its reader has not acknowledged'),
    sessionMax: integer(2000, 1, 1_000_000, 'Most open sessions'),
    pushFile: text(
      'File with the targets of pushes, a JSON array: the HTTP endpoints that messages are delivered to. Read again ' +
        'on SIGHUP',
    ),
    pushCaFile: text(
      'PEM file of a CA that signed certificates of push endpoints, in addition to the public ones. Read again on ' +
        'SIGHUP',
    ),
    auth: choice(
      ['none', 'token', 'jwt', 'broker'],
      'none',
      'Who may call. `none`: everyone who can connect; `token`: callers with a token of the token file; `jwt`: ' +
        'callers with a JSON Web Token; `broker`: callers whose credentials the broker accepts',
    ),
    authTokensFile: text(
      'Token file, a JSON array of `{name, sha256, publish: [filter], subscribe: [filter], rate, streams}`. ' +
        'Read again on SIGHUP',
    ),
    jwtJwksUrl: text('URL of the JWKS with the issuer’s public keys', { format: 'http-url', secret: true }),
    jwtSecret: secret('Secret that the tokens are signed with, if they are not signed with a private key', 32),
    jwtIssuer: text('Value that `iss` of the tokens must have'),
    jwtAudience: text('Value that `aud` of the tokens must contain'),
    jwtAlgorithms: text(
      'Accepted signature algorithms, separated by commas. If not set, `RS256,ES256,EdDSA` with keys and `HS256` ' +
        'with a secret',
      { format: 'algorithms' },
    ),
    jwtClaim: text('Claim that contains the topic rules: `{publish: [filter], subscribe: [filter]}`', {
      default: 'mqtt',
    }),
    jwtPublish: text(
      'Publish rules that replace those of the claim: filters separated by commas, in which `${sub}` or another ' +
        'claim may be part of a level',
    ),
    jwtSubscribe: text('Subscribe rules that replace those of the claim, in the same form'),
    jwtTrustS: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_TIMER_MS / 1000,
        description:
          'Seconds after which a verified token is verified again; unset, when it expires, when the keys change, ' +
          'and on SIGHUP',
      }),
    ),
    authBearerUsername: text(
      'With `CAUSEWAY_AUTH=broker`, the user name for the broker that is sent with a bearer token as password',
      { default: 'bearer' },
    ),
    authRefusedMs: integer(10_000, 1, MAX_TIMER_MS, 'How long credentials that the broker refused are remembered'),
    authRefusedMax: integer(20, 1, 1_000_000, 'Most refused credentials of one IPv4 address or IPv6 /64 in that time'),
    linkMax: integer(100, 1, 100_000, 'Most callers that have their own connections to the broker'),
    linkIdleMs: integer(
      60_000,
      0,
      MAX_TIMER_MS,
      'How long a caller’s connections are kept after its last request; at least `CAUSEWAY_STREAM_LINGER_MS`',
    ),
    authCookie: flag('Enable `POST /cookie`, which keeps credentials in a cookie for `EventSource`'),
    authQueryToken: flag(
      'Also accept a token in the URL, as `access_token`. URLs end up in browser histories and in the logs of proxies',
    ),
    corsOrigins: text('Origins whose pages may call, separated by commas: `https://app.example`', {
      format: 'origins',
    }),
    authNonePublic: flag('Confirm that the bridge may listen on other addresses than loopback without authentication'),
    memoryBytes: integer(
      201_326_592,
      16_777_216,
      2 ** 40,
      'Most bytes held for all callers together: bodies, publishes in flight, logs, answers and the like. One caller ' +
        'may hold as much as is left free for the others. The default fits a heap of 512 MB',
    ),
    drainMs: integer(
      0,
      0,
      600_000,
      'How long everything is still served after SIGTERM, while `/readyz` says 503: as long as balancers take to ' +
        'notice',
    ),
    shutdownMs: integer(10_000, 0, MAX_TIMER_MS, 'Longest time from SIGTERM, or from the end of draining, to exit'),
    logFormat: choice(
      ['auto', 'json', 'pretty'],
      'auto',
      'How log lines are written: `json`, `pretty` for people, or `auto`: pretty on a terminal, JSON elsewhere',
    ),
    workers: Type.String({
      default: '1',
      format: 'workers',
      description:
        'How many processes share the port: a number, or `auto` for one a core. Each is a whole bridge with limits ' +
        'of its own, and to each other they are replicas',
    }),
    logLevel: choice(
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
      'info',
      'Lowest level that is logged: `fatal`, `error`, `warn`, `info`, `debug`, `trace` or `silent`',
    ),
  },
  { additionalProperties: false },
)

export type Config = Readonly<Static<typeof ConfigSchema>>

/** The name of a setting's environment variable. */
export function variableName(key: string): string {
  return PREFIX + key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
}

/** All that is wrong with the environment, one line for each fault. No line contains the value of a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly faults: readonly string[]

  constructor(faults: string[]) {
    super(`Configuration is not valid:\n${faults.map((fault) => `  ${fault}`).join('\n')}`)
    this.faults = faults
  }
}

/** Of the keywords of JSON Schema, the schema of a setting has these. `isValid` and `expectation` know each of them. */
interface PropertySchema {
  type?: string
  default?: unknown
  enum?: string[]
  minimum?: number
  maximum?: number
  format?: string
  minLength?: number
  secret?: boolean
}

const properties = ConfigSchema.properties as Record<string, PropertySchema>
const keys = Object.keys(properties)
/** Settings by the variable that holds their value. */
const VALUES = new Map(keys.map((key) => [variableName(key), key]))
/** Settings by the variable that holds the path of a file with their value. */
const FILES = new Map(keys.filter((key) => properties[key]!.secret).map((key) => [`${variableName(key)}_FILE`, key]))
const FORMATS: Record<string, { expected: string; validate: (value: string) => boolean }> = {
  'broker-url': {
    expected: BROKER_URL_EXPECTED,
    validate: (value) => value === 'embedded:' || brokerUrls(value) !== undefined,
  },
  'redis-url': {
    expected: 'a URL like redis://USER:PASSWORD@HOST:6379/0, or rediss: for TLS',
    validate: (value) => /^rediss?:\/\/[^/]/.test(value) && URL.canParse(value),
  },
  'http-url': {
    expected: 'an https:// or http:// URL without credentials',
    validate: (value) => /^https?:\/\/[^@]*$/.test(value) && URL.canParse(value),
  },
  workers: {
    expected: 'a number of processes from 1 to 64, or auto',
    validate: (value) => value === 'auto' || (/^[1-9]\d?$/.test(value) && Number(value) <= 64),
  },
  origins: {
    expected: 'origins like https://app.example, separated by commas',
    validate: (value) => value.split(',').every(isOrigin),
  },
  algorithms: {
    expected:
      'some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, ' +
      'separated by commas',
    validate: (value) => value.split(',').every((name) => /^((RS|PS|ES|HS)(256|384|512)|EdDSA)$/.test(name)),
  },
  networks: {
    expected: 'IP addresses or networks like 10.0.0.0/8, separated by commas',
    validate: (value) => value.split(',').every((network) => isNetwork(network)),
  },
  'mqtt-topic': {
    expected: 'a topic without wildcards, control characters or leading $',
    validate: (value) =>
      !/^\$|[+#\p{Cc}\p{Noncharacter_Code_Point}]/u.test(value) &&
      value.isWellFormed() &&
      Buffer.byteLength(value) <= 65_535,
  },
}

/** A setting on the command line. */
export interface Flag {
  /** As it was written, for faults: `--http-port`. */
  name: string
  /** The variable that it stands for, which may be the one of a file: `CAUSEWAY_MQTT_PASSWORD_FILE`. */
  variable: string
  text: string
}

/**
 * Reads the configuration from an environment and a command line. An empty variable counts as not set, because compose
 * files leave such.
 *
 * @param readFile reads the files that `…_FILE` variables name
 * @param flags win over the variables of the same settings
 * @throws ConfigError with all faults
 */
export function loadConfig(
  env: Record<string, string | undefined>,
  readFile: (path: string) => string,
  flags: readonly Flag[] = [],
): Config {
  const faults: string[] = []
  const values: Record<string, unknown> = {}
  /** The flag or variable that each setting came from, and its text there. */
  const sources = new Map<string, string>()
  const texts = new Map<string, string>()
  const flagged = new Set(flags.map(({ variable }) => keyOf(variable)))
  const variables = Object.entries(env)
    .filter(([name, text]) => name.startsWith(PREFIX) && text && !flagged.has(keyOf(name) ?? ''))
    .map(([name, text]): Flag => ({ name, variable: name, text: text! }))
  for (const { name, variable, text } of [...flags, ...variables]) {
    const key = keyOf(variable)
    if (key === undefined) {
      const hint = didYouMean(name, [...VALUES.keys(), ...FILES.keys()])
      faults.push(`${name}: expected the name of a setting (see causeway --help), got an unknown one${hint}`)
    } else if (sources.has(key)) {
      faults.push(`${name}: expected either this ${kindOf(name)} or ${sources.get(key)}, got both`)
    } else {
      sources.set(key, name)
      texts.set(key, text)
      try {
        // Editors and `echo` add a line break that is not part of the secret. Spaces may be part of it.
        values[key] = VALUES.has(variable) ? typed(text, properties[key]!.type) : readFile(text).replace(/\r?\n$/, '')
      } catch (error) {
        const why = (error as NodeJS.ErrnoException).code ?? error
        faults.push(`${name}: expected a readable file, got ${JSON.stringify(text)} (${why})`)
      }
    }
  }
  for (const [key, schema] of Object.entries(properties)) {
    if (values[key] !== undefined) {
      if (!isValid(values[key], schema)) faults.push(faultOf(key, sources.get(key)!, texts.get(key)!))
    } else if (schema.default !== undefined) {
      values[key] = schema.default
    }
  }
  const config = values as Static<typeof ConfigSchema>
  faults.push(...contradictions(config, sources, variableName))
  if (faults.length > 0) throw new ConfigError(faults)
  return config
}

/** The setting of a variable that holds its value or the path of a file with it. */
function keyOf(variable: string): string | undefined {
  return VALUES.get(variable) ?? FILES.get(variable)
}

function kindOf(name: string): string {
  return name.startsWith('-') ? 'flag' : 'variable'
}

/** Also of apps and browser extensions: `capacitor://localhost`, `chrome-extension://ID`. */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, origin, host } = new URL(text)
  return origin === 'null' ? host !== '' && protocol !== 'file:' && text === `${protocol}//${host}` : origin === text
}

function isNetwork(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/')
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)]!
  return bits > 0 && rest.length === 0 && (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits))
}

/**
 * The value of an integer or boolean setting. Other text stays text and fails validation, such as `1e3` and ` 80`.
 */
function typed(value: string, type: string | undefined): string | number | boolean {
  if (type === 'integer' && /^\d{1,15}$/.test(value)) return Number(value)
  if (type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true'
  return value
}

/** Ajv would do the same, but to load it and to compile the schema took a sixth of the processor time of a start. */
function isValid(value: unknown, { type, enum: choices, minimum, maximum, minLength = 0, format }: PropertySchema) {
  if (choices !== undefined) return choices.includes(value as string)
  if (type === 'integer') return typeof value === 'number' && value >= minimum! && value <= maximum!
  if (type === 'boolean') return typeof value === 'boolean'
  const text = value as string
  return [...text].length >= minLength && (format === undefined || FORMATS[format]!.validate(text))
}

function faultOf(key: string, source: string, text: string): string {
  const schema = properties[key]!
  const got = schema.secret ? 'another value, not shown as it may contain a secret' : JSON.stringify(text)
  return `${source}: expected ${expectation(schema)}, got ${got}`
}

function expectation(schema: PropertySchema): string {
  if (schema.enum !== undefined) return schema.enum.length === 1 ? schema.enum[0]! : `one of ${schema.enum.join(', ')}`
  if (schema.type === 'integer') return `an integer from ${schema.minimum} to ${schema.maximum}`
  if (schema.type === 'boolean') return 'true or false'
  if (schema.format !== undefined) return FORMATS[schema.format]!.expected
  return schema.minLength === 1 ? 'a text that is not empty' : `a text of at least ${schema.minLength} characters`
}
