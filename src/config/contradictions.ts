import type { Config } from './config.ts'

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/

/**
 * What is wrong with settings that are each valid, one line a fault.
 * @param given the variable each setting came from, where it was set
 */
export function contradictions(
  config: Config,
  given: ReadonlyMap<string, string>,
  variableName: (key: string) => string,
): string[] {
  return [
    ...addressFaults(config),
    ...brokerFaults(config, given, variableName),
    ...authFaults(config, given, variableName),
  ]
}

export function networkUrl(value: string): URL | undefined {
  if (!/^(mqtts?|wss?):\/\/\S+$/.test(value) || !URL.canParse(value)) return undefined
  const url = new URL(value)
  return url.hostname === '' ? undefined : url
}

function addressFaults({ auth, authNonePublic, httpHost, httpPort, adminPort }: Config): string[] {
  const faults: string[] = []
  if (auth === 'none' && !LOOPBACK.test(httpHost) && authNonePublic !== true) {
    faults.push(
      `CAUSEWAY_HTTP_HOST: expected a loopback address while CAUSEWAY_AUTH is none, got ${JSON.stringify(httpHost)}; anyone who reaches it could publish. Set CAUSEWAY_AUTH_NONE_PUBLIC=true to mean it`,
    )
  }
  if (adminPort !== undefined && adminPort !== 0 && adminPort === httpPort && Number.isInteger(httpPort)) {
    faults.push(`CAUSEWAY_ADMIN_PORT: expected another port than CAUSEWAY_HTTP_PORT, got ${adminPort} for both`)
  }
  return faults
}

function brokerFaults(
  config: Config,
  given: ReadonlyMap<string, string>,
  variableName: (key: string) => string,
): string[] {
  const faults: string[] = []
  for (const [one, other] of [
    ['mqttCert', 'mqttKey'],
    ['mqttKey', 'mqttCert'],
    ['httpCertFile', 'httpKeyFile'],
    ['httpKeyFile', 'httpCertFile'],
  ] as const) {
    if (given.has(one) && !given.has(other)) {
      faults.push(`${variableName(one)}: expected together with ${variableName(other)}, got only one of them`)
    }
  }
  const url = networkUrl(config.mqttUrl)
  if (/^(mqtt|ws|embedded):/.test(config.mqttUrl)) {
    for (const key of ['mqttCa', 'mqttCert', 'mqttKey', 'mqttServerName'].filter((each) => given.has(each))) {
      faults.push(
        `${variableName(key)}: expected with an mqtts: or wss: URL, got it with a connection that is not encrypted`,
      )
    }
  }
  for (const [key, inUrl] of [
    ['mqttUsername', url?.username],
    ['mqttPassword', url?.password],
  ] as const) {
    if (given.has(key) && inUrl) {
      faults.push(`${given.get(key)}: expected only one of it and a URL that names it too, got both`)
    }
  }
  if (given.has('mqttPassword') && !given.has('mqttUsername') && !url?.username) {
    faults.push(`${given.get('mqttPassword')}: expected CAUSEWAY_MQTT_USERNAME with it, got no user name`)
  }
  return faults
}

/** The settings of each way to authenticate; they mean nothing without it. */
const SETTINGS_OF = {
  token: ['authTokensFile'],
  jwt: [
    'jwtJwksUrl',
    'jwtSecret',
    'jwtIssuer',
    'jwtAudience',
    'jwtAlgorithms',
    'jwtClaim',
    'jwtPublish',
    'jwtSubscribe',
  ],
  broker: ['authBearerUsername', 'authRefusedMs', 'authRefusedMax', 'linkMax', 'linkIdleMs'],
} as const

function authFaults(
  config: Config,
  given: ReadonlyMap<string, string>,
  variableName: (key: string) => string,
): string[] {
  const faults = Object.entries(SETTINGS_OF)
    .filter(([auth]) => auth !== config.auth)
    .flatMap(([auth, settings]) =>
      settings
        .filter((key) => given.has(key))
        .map(
          (key) => `${given.get(key)}: expected with CAUSEWAY_AUTH=${auth}, got it with ${JSON.stringify(config.auth)}`,
        ),
    )
  if (config.auth === 'none') {
    faults.push(
      ...['authCookie', 'authQueryToken']
        .filter((key) => given.has(key))
        .map((key) => `${given.get(key)}: expected with another CAUSEWAY_AUTH than none, got it with none`),
    )
  }
  const needed =
    config.auth === 'token' ? ['authTokensFile'] : config.auth === 'jwt' ? ['jwtIssuer', 'jwtAudience'] : []
  for (const key of needed.filter((each) => !given.has(each))) {
    faults.push(`CAUSEWAY_AUTH: expected ${variableName(key)} with ${config.auth}, got no such setting`)
  }
  if (config.auth === 'broker' && config.mqttUrl === 'embedded:') {
    faults.push(
      'CAUSEWAY_AUTH: expected another broker than the embedded one with broker, which lets everyone in, got CAUSEWAY_MQTT_URL=embedded:',
    )
  }
  if (config.auth === 'jwt') faults.push(...jwtFaults(config, given))
  return faults
}

function jwtFaults({ jwtAlgorithms = '' }: Config, given: ReadonlyMap<string, string>): string[] {
  const faults: string[] = []
  const hasSecret = given.has('jwtSecret')
  if (hasSecret === given.has('jwtJwksUrl')) {
    faults.push(
      `CAUSEWAY_AUTH: expected one of CAUSEWAY_JWT_JWKS_URL and CAUSEWAY_JWT_SECRET with jwt, got ${hasSecret ? 'both' : 'none'}`,
    )
  }
  // With both kinds, a token could be signed with a public key as if that were the secret.
  const wrong = jwtAlgorithms.split(',').filter((name) => name !== '' && name.startsWith('HS') !== hasSecret)
  if (wrong.length > 0) {
    faults.push(
      `CAUSEWAY_JWT_ALGORITHMS: expected algorithms ${hasSecret ? 'with a secret' : 'with keys'}, got ${JSON.stringify(wrong.join())}`,
    )
  }
  if (given.has('jwtClaim') && (given.has('jwtPublish') || given.has('jwtSubscribe'))) {
    faults.push('CAUSEWAY_JWT_CLAIM: expected without CAUSEWAY_JWT_PUBLISH and CAUSEWAY_JWT_SUBSCRIBE, got both')
  }
  return faults
}
