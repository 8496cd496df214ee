import { scrypt } from 'node:crypto'
import { promisify } from 'node:util'
import { CausewayError } from '../../errors.ts'
import { stringFault } from '../../mqtt/topic.ts'
import { eitherScheme, refused } from '../challenge.ts'
import type { Credentials } from '../credentials.ts'

/** As whom a caller connects to the broker. */
export interface Login {
  username: string
  password: string
}

/**
 * @param bearerUsername goes with a token as its password
 * @throws CausewayError where the broker would take them for none: that would make the caller anonymous
 */
export function loginOf(credentials: Credentials, bearerUsername: string): Login {
  const login =
    credentials.scheme === 'bearer' ? { username: bearerUsername, password: credentials.token } : credentials
  if (login.username === '' || login.password === '') throw refused('User name and password must not be empty')
  if (stringFault(login.username) !== undefined || Buffer.byteLength(login.password) > 65_535) {
    throw refused('The user name or password is none that MQTT can carry')
  }
  return { username: login.username, password: login.password }
}

/**
 * A name that is the same wherever these credentials are used and nobody else's: some brokers do not look at the user
 * name. It becomes part of client ids, so it is made as slow to guess a password from as it can be.
 */
export async function nameOf({ username, password }: Login): Promise<string> {
  const key = (await promisify(scrypt)(password, JSON.stringify(['causeway', username]), 24)) as Buffer
  return `login:${key.toString('base64url')}`
}

/** What CONNACK says of credentials, in MQTT 5 and 3.1.1. */
const UNKNOWN = [0x86, 0x04]
const NOT_AUTHORIZED = [0x87, 0x05]

/** The problem that a caller's own credentials are, or undefined where the connection failed over something else. */
export function refusalOf(failure: CausewayError | undefined): CausewayError | undefined {
  const mqtt = failure?.details.mqtt
  if (mqtt === undefined) return undefined
  const details = { mqtt, challenge: eitherScheme }
  if (UNKNOWN.includes(mqtt.reasonCode)) {
    return new CausewayError('unauthorized', 'The broker does not know these credentials', details)
  }
  if (NOT_AUTHORIZED.includes(mqtt.reasonCode)) {
    return new CausewayError('not-authorized', 'The broker does not let these credentials connect', details)
  }
  return undefined
}
