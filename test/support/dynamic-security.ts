import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { hasMosquitto, type Mosquitto, startMosquitto } from './broker.ts'

const PLUGIN = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib']
  .map((path) => `${path}/mosquitto_dynamic_security.so`)
  .find(existsSync)

/**
 * Whether the plugin is installed with which Mosquitto refuses a SUBSCRIBE. With an ACL file it grants every
 * subscription and only drops messages.
 */
export const canRefuseSubscriptions = hasMosquitto && PLUGIN !== undefined
if (!canRefuseSubscriptions && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('mosquitto_dynamic_security.so is required and not installed')
}

export interface RefusingMosquitto extends Mosquitto {
  /** Replaces the refused filters, from the next start of the broker on. */
  refuse(filters: string[]): void
}

/** A Mosquitto that refuses subscriptions to these filters. It ends with the test. */
export async function startRefusingMosquitto(filters: string[]): Promise<RefusingMosquitto> {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-security-'))
  const file = join(directory, 'dynamic-security.json')
  function refuse(refused: string[]): void {
    const acls = [
      ...refused.map((topic) => ({ acltype: 'subscribeLiteral', topic, priority: 10, allow: false })),
      { acltype: 'subscribePattern', topic: '#', priority: 1, allow: true },
    ]
    writeFileSync(
      file,
      JSON.stringify({
        defaultACLAccess: { publishClientSend: true, publishClientReceive: true, subscribe: false, unsubscribe: true },
        clients: [],
        groups: [{ groupname: 'everyone', roles: [{ rolename: 'everyone' }] }],
        roles: [{ rolename: 'everyone', acls }],
        anonymousGroup: 'everyone',
      }),
    )
  }
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  refuse(filters)
  const broker = await startMosquitto({ config: [`plugin ${PLUGIN}`, `plugin_opt_config_file ${file}`] })
  return { ...broker, refuse }
}

/** A Mosquitto that accepts only these accounts, and refuses each one subscriptions to its `refused` filters. */
export async function startMosquittoWithRoles(
  accounts: Record<string, { password: string; refused: string[] }>,
): Promise<Mosquitto> {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-security-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const file = join(directory, 'dynamic-security.json')
  const allowed = [{ acltype: 'subscribePattern', topic: '#', priority: 1, allow: true }]
  writeFileSync(
    file,
    JSON.stringify({
      defaultACLAccess: { publishClientSend: true, publishClientReceive: true, subscribe: false, unsubscribe: true },
      clients: Object.entries(accounts).map(([username, { password }]) => {
        const salt = randomBytes(12)
        return {
          username,
          roles: [{ rolename: username }],
          password: pbkdf2Sync(password, salt, 101, 64, 'sha512').toString('base64'),
          salt: salt.toString('base64'),
          iterations: 101,
        }
      }),
      roles: Object.entries(accounts).map(([rolename, { refused }]) => ({
        rolename,
        acls: [
          ...refused.map((topic) => ({ acltype: 'subscribeLiteral', topic, priority: 10, allow: false })),
          ...allowed,
        ],
      })),
    }),
  )
  return startMosquitto({
    wholeConfig: (port) =>
      `listener ${port} 127.0.0.1\nallow_anonymous false\nplugin ${PLUGIN}\nplugin_opt_config_file ${file}`,
  })
}
