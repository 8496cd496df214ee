import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasMosquitto, type Mosquitto, startMosquitto } from './broker.ts'

/** Whether Mosquitto and its password tool are installed. */
export const hasAccounts = hasMosquitto && spawnSync('mosquitto_passwd').error === undefined
if (!hasAccounts && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('mosquitto_passwd is required and not installed')
}

export interface Account {
  password: string
  /** Lines of its part of the ACL file. Everything is allowed when they are left out. */
  acl?: string[]
}

export interface MosquittoWithAccounts extends Mosquitto {
  /** Replaces all accounts, from the next start of the broker on. */
  write(accounts: Record<string, Account>): void
  /** Replaces all accounts at once. Mosquitto disconnects clients whose password is no longer valid. */
  change(accounts: Record<string, Account>): void
}

/** A Mosquitto that accepts only these accounts. It ends with the test. */
export async function startMosquittoWithAccounts(accounts: Record<string, Account>): Promise<MosquittoWithAccounts> {
  let files!: { passwords: string; acl: string }
  const broker = await startMosquitto({
    wholeConfig(port, directory) {
      files = { passwords: join(directory, 'passwords'), acl: join(directory, 'acl') }
      write(accounts)
      return [
        `listener ${port} 127.0.0.1`,
        'allow_anonymous false',
        `password_file ${files.passwords}`,
        `acl_file ${files.acl}`,
      ].join('\n')
    },
  })

  function write(some: Record<string, Account>): void {
    writeFileSync(
      files.passwords,
      Object.entries(some)
        .map(([name, { password }]) => `${name}:${password}\n`)
        .join(''),
    )
    if (Object.keys(some).length > 0) spawnSync('mosquitto_passwd', ['-U', files.passwords])
    writeFileSync(
      files.acl,
      Object.entries(some)
        .map(([name, { acl = ['topic readwrite #'] }]) => `user ${name}\n${acl.join('\n')}\n`)
        .join(''),
    )
  }

  return {
    ...broker,
    write,
    change(some) {
      write(some)
      broker.reload()
    },
  }
}

export const basic = (username: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
})
