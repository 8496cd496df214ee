import { scrypt } from 'node:crypto'
import { promisify } from 'node:util'
import { CausewayError } from '../../errors.ts'
import { stringFault } from '../../mqtt/topic.ts'
import { eitherScheme, refused } from '../challenge.ts'
import type { Credentials } from '../credentials.ts'

/** The credentials that a caller's own connections to the broker use. */
export interface Login {
  username: string
  password: string
}

/**
 * @param bearerUsername user name to send with a bearer token, which is sent as the password
 * @throws CausewayError `unauthorized` for an empty user name or password, with which a broker might let the caller in
 * as anonymous, and for credentials that MQTT cannot encode
 */
export function loginOf(credentials: Credentials, bearerUsername: string): Login {
  const login =
    credentials.scheme === 'bearer' ? { username: bearerUsername, password: credentials.token } : credentials
  if (login.username === '' || login.password === '') throw refused('User name and password must not be empty')
  if (stringFault(login.username) !== undefined || Buffer.byteLength(login.password) > 65_535) {
    throw refused('The user name or password cannot be sent over MQTT')
  }
  return { username: login.username, password: login.password }
}

/**
 * A name for the caller that is the same on every replica and that no other caller has. It depends on the password too,
 * because some brokers ignore the user name. It becomes part of MQTT client ids, which others may see, so it is a
 * slow hash (scrypt): nobody can guess the password from it.
 */
export async function nameOf({ username, password }: Login): Promise<string> {
  const key = (await promisify(scrypt)(password, JSON.stringify(['causeway', username]), 24)) as Buffer
  return `login:${key.toString('base64url')}`
}

/**
 * What CONNACK says of credentials that it refuses: bad user name or password, and not authorized, in MQTT 5 and 3.1.1.
 * Brokers differ in which one they use for a wrong password: Mosquitto says "not authorized".
 */
const CREDENTIALS_REFUSED = [0x86, 0x87, 0x04, 0x05]

/**
 * The problem for a caller whose credentials the broker refused: 401, whichever reason the broker gave. 403 is for what
 * a known caller may not do. Undefined where the connection failed for another reason.
 */
export function refusalOf(failure: CausewayError | undefined): CausewayError | undefined {
  const mqtt = failure?.details.mqtt
  if (mqtt === undefined || !CREDENTIALS_REFUSED.includes(mqtt.reasonCode)) return undefined
  return new CausewayError('unauthorized', 'The broker refused the user name or password', {
    mqtt,
    challenge: eitherScheme,
  })
}
