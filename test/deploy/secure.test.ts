import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { connectOnce } from '../support/mqtt-client.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const read = (name: string) => readFileSync(join(DEPLOY, name), 'utf8')
const hasOpenssl = spawnSync('openssl', ['version']).error === undefined

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-deploy-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function create(secrets: string): ReturnType<typeof spawnSync> {
  return spawnSync(join(DEPLOY, 'secure/create'), [secrets], { encoding: 'utf8' })
}

async function post(url: string, ca: string, token?: string): Promise<number> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  return await new Promise((done, failed) => {
    request(`${url}/publish?topic=devices/a/temp`, { method: 'POST', ca, headers }, ({ statusCode }) =>
      done(statusCode!),
    )
      .on('error', failed)
      .end('21.5')
  })
}

describe.runIf(hasMosquitto && hasOpenssl)('the variant with accounts and TLS', () => {
  test('lets in who has the password or the token that were created, and nobody else', async () => {
    const secrets = join(temporaryDirectory(), 'secrets')
    const created = create(secrets)
    expect([created.status, created.stderr]).toEqual([0, ''])
    expect(statSync(secrets).mode & 0o077).toBe(0)
    expect(create(secrets).status).toBe(1)
    const secret = (name: string) => readFileSync(join(secrets, name), 'utf8')
    const ca = secret('ca.crt')

    const broker = await startMosquitto({
      wholeConfig(port, directory) {
        writeFileSync(join(directory, 'acl'), read('secure/acl'))
        return read('secure/mosquitto.conf')
          .replace('listener 8883\n', `listener ${port} 127.0.0.1\n`)
          .replace('/mosquitto/config/acl', join(directory, 'acl'))
          .replaceAll('/mosquitto/config', secrets)
          .replace('/mosquitto/data/', `${directory}/`)
      },
    })
    const mqtts = broker.url.replace('mqtt:', 'mqtts:')
    await expect(connectOnce(mqtts, { ca })).rejects.toThrow()
    await expect(connectOnce(mqtts, { ca, username: 'causeway', password: 'wrong' })).rejects.toThrow()

    const { environment } = parse(read('secure/compose.yml')).services.causeway as {
      environment: Record<string, string>
    }
    const settings = Object.fromEntries(
      Object.entries(environment).map(([name, value]) => [
        name.replace('CAUSEWAY_', ''),
        value.replace('/run/secrets', secrets).replace('mqtts://mosquitto:8883', mqtts),
      ]),
    )
    const bridge = spawnBridge({ ...settings, HTTP_HOST: '127.0.0.1', HTTP_PORT: 0, ADMIN_PORT: 0, DRAIN_MS: 0 })
    await bridge.url
    const url = /'(https:\S+?)\/publish/.exec(bridge.stdout())![1]!
    expect(await post(url, ca)).toBe(401)
    expect(await post(url, ca, 'wrong')).toBe(401)
    expect(await post(url, ca, secret('token'))).toBe(200)
    expect(bridge.stdout()).not.toContain(secret('mqtt-password'))
  })
})

describe.runIf(spawnSync('systemd-analyze', ['--version']).error === undefined)('the systemd unit', () => {
  test('is one, and gives Causeway enough time to end', () => {
    const file = join(temporaryDirectory(), 'causeway.service')
    const unit = read('causeway.service')
    writeFileSync(file, unit.replace('/usr/bin/node', process.execPath))
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' })
    expect([status, stdout + stderr]).toEqual([0, ''])
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)![1])).toBeGreaterThan(10)
  })
})
