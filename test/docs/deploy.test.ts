import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/config.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
const { services } = parse(read('docker-compose.yml')) as {
  services: Record<string, { environment?: Record<string, string>; ports?: string[]; volumes?: string[] }>
}

test('the environment of the compose file is a valid configuration', () => {
  const config = loadConfig(services['causeway']!.environment!, String)
  expect(config).toMatchObject({ mqttUrl: 'mqtt://mosquitto:1883', httpHost: '0.0.0.0', adminPort: 9090 })
})

test('compose publishes every port on loopback only', () => {
  const ports = Object.values(services).flatMap((service) => service.ports ?? [])
  expect(ports.length).toBeGreaterThan(0)
  for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
})

test('Prometheus scrapes the port that Causeway serves metrics on', () => {
  const { scrape_configs: jobs } = parse(read('deploy/prometheus.yml'))
  expect(jobs[0].static_configs[0].targets).toEqual([
    `causeway:${services['causeway']!.environment!['CAUSEWAY_ADMIN_PORT']}`,
  ])
})

describe.skipIf(spawnSync('promtool', ['--version']).error !== undefined)('with promtool', () => {
  test('Prometheus takes its configuration', () => {
    const { status, stderr } = spawnSync('promtool', ['check', 'config', 'deploy/prometheus.yml'], {
      encoding: 'utf8',
      cwd: new URL('../..', import.meta.url),
    })
    expect(status, stderr).toBe(0)
  })
})

describe.skipIf(!hasMosquitto)('with Mosquitto', () => {
  test('Mosquitto accepts its configuration, needs no password and keeps its state in the volume', async () => {
    let kept = ''
    const broker = await startMosquitto({
      wholeConfig(port, directory) {
        kept = join(directory, 'mosquitto.db')
        const text = read('deploy/mosquitto.conf')
        const here = text
          .replace('listener 1883\n', `listener ${port} 127.0.0.1\n`)
          .replace('/mosquitto/data/', `${directory}/`)
        expect(here).not.toMatch(/1883|\/mosquitto\/data/)
        return here
      },
    })
    const publisher = await mqttClient(broker.url)
    await publisher.publishAsync('home/temp', '21.5', { qos: 1, retain: true })
    await broker.stop()
    expect(existsSync(kept)).toBe(true)
    await broker.start()
    const { next } = await collect(await mqttClient(broker.url), 'home/temp')
    expect(String((await next()).payload)).toBe('21.5')
  })
})

test('the data of Mosquitto is in the volume that outlives it', () => {
  const location = /^persistence_location (.+)\/$/m.exec(read('deploy/mosquitto.conf'))![1]
  expect(services['mosquitto']!.volumes).toContain(`mosquitto:${location}`)
})

test('the files that compose mounts are there', () => {
  const files = Object.values(services)
    .flatMap(({ volumes = [] }) => volumes)
    .map((volume) => volume.split(':', 1)[0]!)
    .filter((source) => source.startsWith('.'))
  expect(files.length).toBeGreaterThan(0)
  for (const file of files) expect(existsSync(new URL(`../../${file}`, import.meta.url)), file).toBe(true)
})
