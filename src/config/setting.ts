import { ConfigSchema, variableName } from './config.ts'

/** A setting as people meet it: as a flag of the command and as a variable of the environment. */
export interface Setting {
  key: string
  /** Such as `--http-port`. */
  flag: string
  /** Such as `CAUSEWAY_HTTP_PORT`. */
  variable: string
  type: 'text' | 'integer' | 'boolean'
  description: string
  /** What it is where it is not set; undefined where there is no such value. */
  fallback: string | undefined
  choices: readonly string[] | undefined
  /** May also come from a file: `--mqtt-password-file` and `CAUSEWAY_MQTT_PASSWORD_FILE`. */
  isSecret: boolean
  group: string
}

/** Which settings belong together, by the beginning of their key. A setting of no group is one of the process. */
const GROUPS: readonly (readonly [title: string, keys: RegExp])[] = [
  ['Broker', /^(mqtt|embedded|status|broker|marker|allowDollar)/],
  ['HTTP', /^(http|admin|headers|body|keepalive|trust|rate|cors|console)/],
  ['Publishing', /^(publish|batch|idempotency|request|reply)/],
  ['Streams and retained messages', /^(subscribe|stream|retained|topicLevels)/],
  ['Sessions', /^session/],
  ['Push', /^push/],
  ['Replicas', /^(cluster|redis)/],
  ['Authentication', /^(auth|jwt|link)/],
]
const OTHERS = 'Process'

interface PropertySchema {
  type?: string
  enum?: string[]
  default?: unknown
  description?: string
  secret?: boolean
}

/** All settings, group by group, in a group as in the schema. */
export function allSettings(): Setting[] {
  const settings = Object.entries(ConfigSchema.properties as Record<string, PropertySchema>).map(
    ([key, schema]): Setting => ({
      key,
      flag: flagName(variableName(key)),
      variable: variableName(key),
      type: schema.type === 'integer' || schema.type === 'boolean' ? schema.type : 'text',
      description: schema.description!,
      fallback: schema.default === undefined ? undefined : String(schema.default),
      choices: schema.enum,
      isSecret: schema.secret === true,
      group: GROUPS.find(([, keys]) => keys.test(key))?.[0] ?? OTHERS,
    }),
  )
  return [...GROUPS.map(([title]) => title), OTHERS].flatMap((title) => settings.filter(({ group }) => group === title))
}

/** The flag of a variable: `--http-port` of `CAUSEWAY_HTTP_PORT`. */
export function flagName(variable: string): string {
  return `--${variable
    .replace(/^CAUSEWAY_/, '')
    .toLowerCase()
    .replaceAll('_', '-')}`
}
