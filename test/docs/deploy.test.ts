import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
const { services } = parse(read('docker-compose.yml')) as { services: Record<string, { environment?: Record<string, string>; ports?: string[]; volumes?: string[] }> }

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
  expect(jobs[0].static_configs[0].targets).toEqual([`causeway:${services['causeway']!.environment!['CAUSEWAY_ADMIN_PORT']}`])
})

describe.skipIf(spawnSync('promtool', ['--version']).error !== undefined)('with promtool', () => {
  test('Prometheus takes its configuration', () => {
    const { status, stderr } = spawnSync('promtool', ['check', 'config', 'deploy/prometheus.yml'], { encoding: 'utf8', cwd: new URL('../..', import.meta.url) })
    expect(status, stderr).toBe(0)
  })
})

describe.skipIf(!hasMosquitto)('with Mosquitto', () => {
  test('Mosquitto takes its configuration', async () => {
    const lines = read('deploy/mosquitto.conf').split('\n').filter((line) => !/^(listener|allow_anonymous|persistence)/.test(line))
    await expect(startMosquitto({ config: lines, persistence: true })).resolves.toBeDefined()
  })
})
