import { isIP } from 'node:net'
import { Ajv } from 'ajv'
import Type, { type Static } from 'typebox'
import { contradictions, networkUrl } from './contradictions.ts'

const PREFIX = 'CAUSEWAY_'
const MAX_TIMER_MS = 2 ** 31 - 1

const text = (description: string, extra: object = {}) =>
  Type.Optional(Type.String({ minLength: 1, description, ...extra }))
const secret = (description: string, minLength = 1) => text(description, { secret: true, minLength })
const file = (description: string) => text(description, { secret: true, fileOnly: true })
const integer = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ default: fallback, minimum, maximum, description })
const choice = <const Values extends string[]>(values: Values, fallback: Values[number], description: string) =>
  Type.Enum(values, { default: fallback, description })
const flag = (description: string) => Type.Boolean({ default: false, description })

/**
 * Every setting. The variable's name is `CAUSEWAY_` and the key in capitals: `httpPort` is `CAUSEWAY_HTTP_PORT`.
 * A secret may also come from the file that `…_FILE` names; what is `fileOnly` comes from there alone.
 */
export const ConfigSchema = Type.Object(
  {
    mqttUrl: Type.String({
      default: 'embedded:',
      format: 'broker-url',
      secret: true,
      description: 'Broker: `mqtt:` `mqtts:` `ws:` `wss:`, or `embedded:` for one in this process',
    }),
    mqttUsername: text('User name for the broker'),
    mqttPassword: secret('Password for the broker'),
    mqttClientId: text('Prefix of this bridge’s MQTT client ids; random unless set. Never the same on two bridges'),
    mqttProtocol: choice(
      ['auto', '5', '3.1.1'],
      'auto',
      '`auto`, `5` or `3.1.1`; `auto` falls back to 3.1.1 where the broker refuses 5',
    ),
    mqttSharedSubscriptions: choice(
      ['auto', 'true'],
      'auto',
      '`auto` believes CONNACK (MQTT 5) and says no over 3.1.1; `true` for 3.1.1 brokers that have them (Mosquitto, EMQX)',
    ),
    mqttCa: file('PEM file of the CA that signed the broker’s certificate'),
    mqttCert: file('PEM file of the client certificate'),
    mqttKey: file('PEM file of the client certificate’s key'),
    mqttServerName: text(
      'Name to ask the broker for and to find in its certificate, where that is not the host of the URL',
    ),
    mqttKeepaliveS: integer(30, 1, 65_535, 'Seconds between pings; a frozen broker is noticed after 1.5 times that'),
    embeddedPort: integer(1883, 0, 65_535, 'Loopback port of the embedded broker; 0 for any free one'),
    statusTopic: text('Retained `online` / `offline` here, `offline` also as Last Will', { format: 'mqtt-topic' }),
    allowDollarTopics: flag('Allow publishing and subscribing to topics that begin with `$`, `$SYS` included'),
    httpHost: Type.String({
      default: '127.0.0.1',
      minLength: 1,
      description: 'Address to listen on; `localhost` is 127.0.0.1',
    }),
    httpPort: integer(8080, 0, 65_535, 'Port to listen on; 0 for any free one'),
    adminPort: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 65_535,
        description: 'Moves `/livez`, `/readyz` and `/metrics` to a listener of their own',
      }),
    ),
    httpConnectionsMax: integer(20_000, 1, 1_000_000, 'Most connections to each listener; further ones are closed'),
    headersLimitBytes: integer(16_384, 1024, 1_048_576, 'Largest head of a request'),
    headersTimeoutMs: integer(
      15_000,
      1,
      MAX_TIMER_MS,
      'Longest time for the head of a request to arrive, looked at every few seconds',
    ),
    bodyTimeoutMs: integer(
      60_000,
      1,
      MAX_TIMER_MS,
      'Longest time for its body to arrive, looked at every second; an NDJSON batch may take for ever',
    ),
    trustProxy: text(
      'Proxies whose `X-Forwarded-For` says who calls, with commas: addresses, or networks like `10.0.0.0/8`',
      { format: 'networks' },
    ),
    rateIdentity: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 1_000_000,
        description:
          'Most requests a second of one caller, 0 for no limit; unset, 1000 with authentication and no limit without',
      }),
    ),
    rateAddress: integer(
      0,
      0,
      1_000_000,
      'The same of one address, or IPv6 /64, before anyone is authenticated; 0 for no limit',
    ),
    httpCertFile: text(
      'PEM file of the certificate to serve HTTPS with, those that lead to its CA behind it; read again on SIGHUP',
    ),
    httpKeyFile: text('PEM file of the key of that certificate, without a passphrase'),
    publishConnections: integer(2, 1, 64, 'MQTT connections that publish; a topic always takes the same one'),
    publishMaxInFlight: integer(1000, 1, 65_535, 'Publishes accepted and not yet answered, per connection'),
    publishMaxInFlightBytes: integer(67_108_864, 1024, 2 ** 40, 'The same in bytes of payload, per connection'),
    publishTimeoutMs: integer(
      10_000,
      1,
      MAX_TIMER_MS,
      'How long to wait for the broker’s acknowledgement, of subscriptions too',
    ),
    subscribeConnectionsMax: integer(
      16,
      1,
      1024,
      'Most MQTT connections that subscribe; one is enough, but over 3.1.1 filters that overlap need one each',
    ),
    retainedMax: integer(10_000, 1, 2 ** 24, 'Most retained messages read at once'),
    retainedMaxBytes: integer(16_777_216, 1024, 2 ** 32, 'The same in bytes of payload'),
    bodyLimitBytes: integer(1_048_576, 1, 268_435_455, 'Largest request body'),
    batchMax: integer(1000, 1, 1_000_000, 'Most messages in a JSON array; NDJSON has no end'),
    idempotencyKeysMax: integer(10_000, 1, 2 ** 24, 'Most Idempotency-Keys remembered'),
    idempotencyKeysMaxIdentity: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 2 ** 24,
        description: 'Most of one caller; unset, 1000 with authentication and no limit of its own without',
      }),
    ),
    idempotencyTtlS: integer(86_400, 1, 2 ** 31, 'Seconds for which the answer to an Idempotency-Key is kept'),
    requestsMax: integer(1000, 1, 1_000_000, 'Most requests waiting for a reply'),
    replyTopic: text('Replies go to a topic of this bridge below this one', {
      default: 'causeway/reply',
      format: 'mqtt-topic',
    }),
    topicLevelsMax: integer(
      100,
      1,
      65_535,
      'Most levels in a topic or filter; brokers close the connection over too many',
    ),
    streamLogBytes: integer(
      4_194_304,
      1024,
      2 ** 40,
      'Bytes of events kept per channel for slow and returning readers',
    ),
    streamLogMessages: integer(4096, 1, 2 ** 24, 'Number of events kept per channel'),
    streamLingerMs: integer(60_000, 0, MAX_TIMER_MS, 'How long a channel lives on after its last reader'),
    streamHeartbeatMs: integer(15_000, 10, MAX_TIMER_MS, 'Between two comments on a stream'),
    streamStallMs: integer(
      300_000,
      10,
      MAX_TIMER_MS,
      'A client that has read nothing of its stream or answer for so long is cut off, and an NDJSON batch ended that has brought nothing',
    ),
    streamMax: integer(10_000, 1, 1_000_000, 'Most streams open at once'),
    streamMaxIdentity: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 1_000_000,
        description: 'Most streams of one caller, 0 for no limit; unset, 1000 with authentication and no limit without',
      }),
    ),
    streamMaxAddress: integer(0, 0, 1_000_000, 'Most streams of one address, or IPv6 /64; 0 for no limit'),
    streamFiltersMax: integer(100, 1, 10_000, 'Most filters of one stream'),
    sessionExpiryS: integer(
      3600,
      1,
      4_294_967_295,
      'Seconds for which the broker keeps a session whose reader is away; 4294967295 for ever',
    ),
    sessionMaxUnacked: integer(100, 1, 65_535, 'Most messages a session’s reader has unacknowledged'),
    sessionMax: integer(1000, 1, 1_000_000, 'Most sessions open at once'),
    auth: choice(
      ['none', 'token', 'jwt', 'broker'],
      'none',
      'Who may call: `none` is everyone who can connect, `token` who has one of the tokens of a file, `jwt` who has a JSON Web Token, `broker` whom the broker lets in',
    ),
    authTokensFile: text(
      'JSON file of tokens: an array of `{name, sha256, publish: [filter], subscribe: [filter], rate, streams}`; read again on SIGHUP',
    ),
    jwtJwksUrl: text('Where the keys of the tokens’ issuer are', { format: 'http-url', secret: true }),
    jwtSecret: secret('Secret the tokens are signed with, where they are not signed with keys', 32),
    jwtIssuer: text('The tokens’ `iss`'),
    jwtAudience: text('What the tokens’ `aud` has to contain'),
    jwtAlgorithms: text(
      'Signature algorithms that are taken, with commas; `RS256,ES256,EdDSA` with keys and `HS256` with a secret, unless set',
      { format: 'algorithms' },
    ),
    jwtClaim: text('Claim with the topic rules: `{publish: [filter], subscribe: [filter]}`', { default: 'mqtt' }),
    jwtPublish: text(
      'Rules to publish in place of those of the claim, with commas: filters with `${sub}` or another claim in a level',
    ),
    jwtSubscribe: text('The same to subscribe'),
    authBearerUsername: text('User name for the broker that goes with a bearer token as its password, with `broker`', {
      default: 'bearer',
    }),
    authRefusedMs: integer(10_000, 1, MAX_TIMER_MS, 'How long credentials that the broker refused are remembered'),
    authRefusedMax: integer(20, 1, 1_000_000, 'Most refused credentials of one address, or IPv6 /64, in that time'),
    linkMax: integer(100, 1, 100_000, 'Most callers with connections to the broker of their own'),
    linkIdleMs: integer(
      60_000,
      0,
      MAX_TIMER_MS,
      'How long a caller’s connections stay behind its last request; at least `CAUSEWAY_STREAM_LINGER_MS`',
    ),
    authCookie: flag('Offer `POST /cookie`, which keeps credentials in a cookie for `EventSource`'),
    authQueryToken: flag(
      'Take a token in the URL too, as `access_token`; it ends up in histories and in the logs of proxies',
    ),
    corsOrigins: text('Origins whose pages may call from a browser, with commas: `https://app.example`', {
      format: 'origins',
    }),
    authNonePublic: flag('Serve without authentication off loopback, on purpose'),
    shutdownMs: integer(10_000, 0, MAX_TIMER_MS, 'Longest time from SIGTERM to exit'),
    logLevel: choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info', 'Least severe log level'),
  },
  { additionalProperties: false },
)

export type Config = Readonly<Static<typeof ConfigSchema>>

/** The name of the environment variable behind a setting. */
export function variableName(key: string): string {
  const name = PREFIX + key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
  return properties[key]?.fileOnly ? `${name}_FILE` : name
}

/** All that is wrong with the environment: one line a variable, none with a secret's value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly faults: readonly string[]

  constructor(faults: string[]) {
    super(`Configuration is not valid:\n${faults.map((fault) => `  ${fault}`).join('\n')}`)
    this.faults = faults
  }
}

interface PropertySchema {
  type?: string
  enum?: string[]
  minimum?: number
  maximum?: number
  format?: string
  minLength?: number
  secret?: boolean
  fileOnly?: boolean
}

const properties = ConfigSchema.properties as Record<string, PropertySchema>
const keys = Object.keys(properties)
const VALUES = new Map(keys.filter((key) => !properties[key]!.fileOnly).map((key) => [variableName(key), key]))
const FILES = new Map(
  keys.filter((key) => properties[key]!.secret).map((key) => [variableName(key).replace(/(_FILE)?$/, '_FILE'), key]),
)
const FORMATS: Record<string, { expected: string; validate: (value: string) => boolean }> = {
  'broker-url': {
    expected: 'embedded: or a mqtt://, mqtts://, ws:// or wss:// URL with a host',
    validate: (value) => value === 'embedded:' || networkUrl(value) !== undefined,
  },
  'http-url': {
    expected: 'an https:// or http:// URL without credentials',
    validate: (value) => /^https?:\/\/[^@]*$/.test(value) && URL.canParse(value),
  },
  origins: {
    expected: 'origins like https://app.example, with commas',
    validate: (value) => value.split(',').every((origin) => URL.canParse(origin) && new URL(origin).origin === origin),
  },
  algorithms: {
    expected:
      'some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, with commas',
    validate: (value) => value.split(',').every((name) => /^((RS|PS|ES|HS)(256|384|512)|EdDSA)$/.test(name)),
  },
  networks: {
    expected: 'IP addresses or networks like 10.0.0.0/8, with commas',
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
const formats = Object.fromEntries(Object.entries(FORMATS).map(([name, format]) => [name, format.validate]))
const validate = new Ajv({ allErrors: true, useDefaults: true, strict: false, formats }).compile<
  Static<typeof ConfigSchema>
>(ConfigSchema)

/**
 * Reads the configuration from an environment. Pure but for `readFile`, which secrets in `…_FILE` need.
 * Variables set to nothing count as unset, as compose files leave them.
 *
 * @throws ConfigError with every fault at once
 */
export function loadConfig(env: Record<string, string | undefined>, readFile: (path: string) => string): Config {
  const faults: string[] = []
  const values: Record<string, unknown> = {}
  /** The variable each setting came from. */
  const sources = new Map<string, string>()
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || !text) continue
    const key = VALUES.get(name) ?? FILES.get(name)
    if (key === undefined) {
      faults.push(`${name}: expected a setting of the list in the README, got an unknown one`)
    } else if (sources.has(key)) {
      faults.push(`${name}: expected only one of it and ${sources.get(key)}, got both`)
    } else {
      sources.set(key, name)
      try {
        // Editors and `echo` end a file with a line break that is no part of the secret; spaces may be.
        values[key] = VALUES.has(name) ? typed(text, properties[key]!.type) : readFile(text).replace(/\r?\n$/, '')
      } catch (error) {
        faults.push(
          `${name}: expected a readable file, got ${JSON.stringify(text)} (${(error as NodeJS.ErrnoException).code ?? error})`,
        )
      }
    }
  }
  if (!validate(values)) {
    const wrong = new Set(validate.errors!.map(({ instancePath }) => instancePath.slice(1)))
    for (const key of wrong) faults.push(describe(key, sources.get(key)!, env))
  }
  const config = values as Static<typeof ConfigSchema>
  faults.push(...contradictions(config, sources, variableName))
  if (faults.length > 0) throw new ConfigError(faults)
  return config
}

function isNetwork(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/')
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)]!
  return bits > 0 && rest.length === 0 && (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits))
}

/** The value of an integer or boolean setting; what is none stays text, and so fails validation. Stricter than coercion: no `1e3`, no ` 80`. */
function typed(value: string, type: string | undefined): string | number | boolean {
  if (type === 'integer' && /^\d{1,15}$/.test(value)) return Number(value)
  if (type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true'
  return value
}

function describe(key: string, source: string, env: Record<string, string | undefined>): string {
  const schema = properties[key]!
  const got = schema.secret ? 'something else, not shown as it may hold a secret' : JSON.stringify(env[source])
  return `${source}: expected ${expectation(schema)}, got ${got}`
}

function expectation(schema: PropertySchema): string {
  if (schema.enum !== undefined) return schema.enum.length === 1 ? schema.enum[0]! : `one of ${schema.enum.join(', ')}`
  if (schema.type === 'integer') return `an integer from ${schema.minimum} to ${schema.maximum}`
  if (schema.type === 'boolean') return 'true or false'
  if (schema.format !== undefined) return FORMATS[schema.format]!.expected
  return schema.minLength === 1
    ? 'a text of one character at least'
    : `a text of ${schema.minLength} characters at least`
}
