import { brokerUrlFaults, brokerUrls, isEncrypted, isWebSocket } from './broker-url.ts'
import type { Config } from './config.ts'

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/

type VariableName = (key: string) => string

/**
 * Finds settings that are each valid but do not go together.
 * @param given the variable that each setting came from; settings that were not set are missing
 * @returns one line for each fault
 */
export function contradictions(
  config: Config,
  given: ReadonlyMap<string, string>,
  variableName: VariableName,
): string[] {
  return [
    ...addressFaults(config, given),
    ...brokerFaults(config, given, variableName),
    ...authFaults(config, given, variableName),
    ...redisFaults(config, given, variableName),
    ...pushFaults(given),
    ...workerFaults(config),
  ]
}

function workerFaults({ workers, mqttUrl }: Config): string[] {
  if (workers === '1' || mqttUrl !== 'embedded:') return []
  return [
    'CAUSEWAY_WORKERS: expected CAUSEWAY_MQTT_URL with it, as each worker would have an embedded broker of its own, ' +
      'got only one of them',
  ]
}

function addressFaults(
  { auth, authNonePublic, httpHost, httpPort, adminPort }: Config,
  given: ReadonlyMap<string, string>,
): string[] {
  const faults: string[] = []
  if (auth === 'none' && !LOOPBACK.test(httpHost) && !authNonePublic) {
    faults.push(
      `CAUSEWAY_HTTP_HOST: expected a loopback address with CAUSEWAY_AUTH=none, got ${JSON.stringify(httpHost)}, ` +
        'where anyone who can reach it could publish. Set CAUSEWAY_AUTH_NONE_PUBLIC=true if that is intended',
    )
  }
  if (adminPort !== undefined && adminPort !== 0 && adminPort === httpPort && Number.isInteger(httpPort)) {
    faults.push(`CAUSEWAY_ADMIN_PORT: expected a different port than CAUSEWAY_HTTP_PORT, got ${adminPort} for both`)
  }
  if (given.has('adminHost') && adminPort === undefined) {
    faults.push('CAUSEWAY_ADMIN_HOST: expected together with CAUSEWAY_ADMIN_PORT, got only one of them')
  }
  return faults
}

function brokerFaults(config: Config, given: ReadonlyMap<string, string>, variableName: VariableName): string[] {
  const faults: string[] = []
  for (const [one, other] of [
    ['mqttCertFile', 'mqttKeyFile'],
    ['mqttKeyFile', 'mqttCertFile'],
    ['httpCertFile', 'httpKeyFile'],
    ['httpKeyFile', 'httpCertFile'],
  ] as const) {
    if (given.has(one) && !given.has(other)) {
      faults.push(`${variableName(one)}: expected together with ${variableName(other)}, got only one of them`)
    }
  }
  const isKnown = config.mqttUrl === 'embedded:' || brokerUrls(config.mqttUrl) !== undefined
  const urls = brokerUrls(config.mqttUrl) ?? []
  for (const fault of new Set(urls.flatMap((url) => brokerUrlFaults(url)))) {
    faults.push(`${given.get('mqttUrl')}: ${fault}`)
  }
  // What a URL would need that the schema has refused is not known.
  if (isKnown && !urls.some(isEncrypted)) {
    for (const key of ['mqttCaFile', 'mqttCertFile', 'mqttKeyFile', 'mqttServerName'].filter((each) =>
      given.has(each),
    )) {
      faults.push(
        `${variableName(key)}: expected only with an mqtts: or wss: URL, got it with an unencrypted connection`,
      )
    }
  }
  if (isKnown && given.has('mqttWsHeadersFile') && !urls.some(isWebSocket)) {
    faults.push('CAUSEWAY_MQTT_WS_HEADERS_FILE: expected only with a ws: or wss: URL, got it with another one')
  }
  for (const [key, isInUrl] of [
    ['mqttUsername', urls.some(({ username }) => username !== '')],
    ['mqttPassword', urls.some(({ password }) => password !== '')],
  ] as const) {
    if (given.has(key) && isInUrl) {
      faults.push(`${given.get(key)}: expected either this variable or the same in CAUSEWAY_MQTT_URL, got both`)
    }
  }
  if (given.has('mqttPassword') && !given.has('mqttUsername') && !urls.some(({ username }) => username !== '')) {
    faults.push(`${given.get('mqttPassword')}: expected together with CAUSEWAY_MQTT_USERNAME, got no user name`)
  }
  return faults
}

function redisFaults({ redisUrl }: Config, given: ReadonlyMap<string, string>, variableName: VariableName): string[] {
  const faults = (['redisCaFile', 'redisPrefix'] as const)
    .filter((key) => given.has(key) && !given.has('redisUrl'))
    .map((key) => `${variableName(key)}: expected only with CAUSEWAY_REDIS_URL, got it without`)
  if (given.has('redisCaFile') && redisUrl?.startsWith('redis:') === true) {
    faults.push('CAUSEWAY_REDIS_CA_FILE: expected only with a rediss: URL, got it with an unencrypted connection')
  }
  return faults
}

function pushFaults(given: ReadonlyMap<string, string>): string[] {
  if (!given.has('pushCaFile') || given.has('pushFile')) return []
  return ['CAUSEWAY_PUSH_CA_FILE: expected together with CAUSEWAY_PUSH_FILE, got only one of them']
}

interface ModeSettings {
  /** Settings that have no effect in any other mode. */
  own: readonly (keyof Config)[]
  /** Settings without which the mode cannot work. */
  required: readonly (keyof Config)[]
}

/** Typed by the modes there are, so that a new mode cannot be missing here. */
const MODE_SETTINGS: Record<Config['auth'], ModeSettings> = {
  none: { own: [], required: [] },
  token: { own: ['authTokensFile'], required: ['authTokensFile'] },
  jwt: {
    own: [
      'jwtJwksUrl',
      'jwtSecret',
      'jwtIssuer',
      'jwtAudience',
      'jwtAlgorithms',
      'jwtClaim',
      'jwtPublish',
      'jwtSubscribe',
      'jwtTrustS',
    ],
    required: ['jwtIssuer', 'jwtAudience'],
  },
  broker: { own: ['authBearerUsername', 'authRefusedMs', 'authRefusedMax', 'linkMax', 'linkIdleMs'], required: [] },
}

function authFaults(config: Config, given: ReadonlyMap<string, string>, variableName: VariableName): string[] {
  const { auth } = config
  // The schema has refused it, and which settings go with it is not known.
  if (!Object.hasOwn(MODE_SETTINGS, auth)) return []
  const faults = Object.entries(MODE_SETTINGS)
    .filter(([mode]) => mode !== auth)
    .flatMap(([mode, { own }]) =>
      own
        .filter((key) => given.has(key))
        .map((key) => `${given.get(key)}: expected only with CAUSEWAY_AUTH=${mode}, got it with CAUSEWAY_AUTH=${auth}`),
    )
  if (auth === 'none') {
    faults.push(
      ...['authCookie', 'authQueryToken']
        .filter((key) => given.has(key))
        .map((key) => `${given.get(key)}: expected only with authentication, got it with CAUSEWAY_AUTH=none`),
    )
  }
  for (const key of MODE_SETTINGS[auth].required.filter((each) => !given.has(each))) {
    faults.push(`CAUSEWAY_AUTH: expected ${variableName(key)} together with ${auth}, got no such setting`)
  }
  if (auth === 'broker' && config.mqttUrl === 'embedded:') {
    faults.push(
      'CAUSEWAY_AUTH: expected broker only with a broker that authenticates, got CAUSEWAY_MQTT_URL=embedded:, ' +
        'which lets everyone in',
    )
  }
  if (auth === 'jwt') faults.push(...jwtFaults(config, given))
  return faults
}

function jwtFaults({ jwtAlgorithms = '' }: Config, given: ReadonlyMap<string, string>): string[] {
  const faults: string[] = []
  const hasSecret = given.has('jwtSecret')
  if (hasSecret === given.has('jwtJwksUrl')) {
    faults.push(
      'CAUSEWAY_AUTH: expected one of CAUSEWAY_JWT_JWKS_URL and CAUSEWAY_JWT_SECRET together with jwt, ' +
        `got ${hasSecret ? 'both' : 'none'}`,
    )
  }
  // If both kinds were accepted, anyone could sign a token with the public key as if it were the secret.
  const wrong = jwtAlgorithms.split(',').filter((name) => name !== '' && name.startsWith('HS') !== hasSecret)
  if (wrong.length > 0) {
    const expected = hasSecret ? 'algorithms that use a secret' : 'algorithms that use keys'
    faults.push(`CAUSEWAY_JWT_ALGORITHMS: expected only ${expected}, got ${JSON.stringify(wrong.join())}`)
  }
  if (given.has('jwtClaim') && (given.has('jwtPublish') || given.has('jwtSubscribe'))) {
    faults.push(
      'CAUSEWAY_JWT_CLAIM: expected without CAUSEWAY_JWT_PUBLISH and CAUSEWAY_JWT_SUBSCRIBE, which replace it, ' +
        'got both',
    )
  }
  return faults
}
