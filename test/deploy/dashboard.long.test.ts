import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { freePort } from '../support/free-port.ts'
import { publish } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const read = (name: string) => readFileSync(join(DEPLOY, name), 'utf8')
const hasPrometheus = spawnSync('prometheus', ['--version']).error === undefined

interface Panel {
  title: string
  type: string
  gridPos: { h: number; w: number; x: number; y: number }
  targets?: { expr: string }[]
}
interface Rule {
  alert: string
  expr: string
  annotations: { summary: string; runbook: string }
}

const { panels } = JSON.parse(read('grafana/dashboards/causeway.json')) as { panels: Panel[] }
const rules = (parse(read('alerts.yml')) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules)

function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8', cwd: DEPLOY })
  expect(status, stdout + stderr).toBe(0)
  return stdout
}

describe.runIf(hasPrometheus)('with promtool', () => {
  test('the configuration and the rules are valid', () => {
    expect(promtool('check', 'config', 'prometheus.yml')).toContain(`SUCCESS: ${rules.length} rules found`)
  })

  test('each alert fires when it should, and not otherwise', () => {
    const file = join(import.meta.dirname, 'alerts.promtool.yml')
    promtool('test', 'rules', file)
    for (const { alert } of rules) {
      const tests = readFileSync(file, 'utf8').matchAll(new RegExp(`alertname="${alert}".*\\n.*\\n.*value: (\\d)`, 'g'))
      expect([alert, ...[...tests].map(([, value]) => value)]).toEqual([alert, '1', '0'])
    }
  })
})

test('each alert has a paragraph that says what to do', () => {
  const page = readFileSync(resolve(DEPLOY, '../docs/alerts.md'), 'utf8')
  expect([...page.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading)).toEqual(rules.map(({ alert }) => alert))
  for (const { alert, annotations } of rules) {
    expect(annotations.runbook).toBe(`docs/alerts.md#${alert.toLowerCase()}`)
    expect(annotations.summary).toContain('{{ $labels.instance }}')
  }
})

test('no panel of the dashboard lies on another', () => {
  const taken = new Map<string, string>()
  for (const { title, gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        expect(x).toBeLessThan(24)
        expect(taken.get(`${x} ${y}`), `${title} at ${x} ${y}`).toBeUndefined()
        taken.set(`${x} ${y}`, title)
      }
    }
  }
})

/** A file with one push target for topic `a`, whose endpoint takes everything. */
async function pushFile(): Promise<string> {
  const endpoint = createServer((request, response) => request.resume().on('end', () => response.end()))
  endpoint.listen(0, '127.0.0.1')
  await once(endpoint, 'listening')
  const directory = mkdtempSync(join(tmpdir(), 'causeway-push-'))
  onTestFinished(() => {
    endpoint.closeAllConnections()
    endpoint.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const url = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`
  const file = join(directory, 'push.json')
  writeFileSync(file, JSON.stringify([{ name: 'one', topics: ['a'], url }]))
  return file
}

/** A Prometheus with the configuration that is shipped, which scrapes this bridge each second. Ends with the test. */
async function startPrometheus(target: string): Promise<(path: string, query?: string) => Promise<any>> {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-prometheus-'))
  const config = parse(read('prometheus.yml'))
  config.global = { scrape_interval: '1s', evaluation_interval: '1s' }
  config.rule_files = [join(DEPLOY, 'alerts.yml')]
  config.scrape_configs[0].static_configs[0].targets = [target]
  writeFileSync(join(directory, 'prometheus.yml'), stringify(config))
  const port = await freePort()
  const child = spawn(
    'prometheus',
    [
      `--config.file=${directory}/prometheus.yml`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: 'ignore' },
  )
  onTestFinished(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    rmSync(directory, { recursive: true, force: true })
  })
  return async (path, query) => {
    const suffix = query === undefined ? '' : `?${new URLSearchParams({ query })}`
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}${suffix}`).catch(() => undefined)
    const body = (await answer?.json().catch(() => undefined)) as
      | { status: string; error?: string; data: any }
      | undefined
    if (body?.status === 'error') throw new Error(`${query}: ${body.error}`)
    return body?.data
  }
}

test.runIf(hasPrometheus && hasMosquitto)(
  'a Prometheus that scrapes a bridge has data for every query of the dashboard and every alert',
  async () => {
    const bridge = await startBridge({
      MQTT_URL: (await startMosquitto()).url,
      ADMIN_PORT: 0,
      PUSH_FILE: await pushFile(),
    })
    const ask = await startPrometheus(new URL(bridge.adminUrl).host)
    const valueOf = async (query: string): Promise<number | undefined> => {
      const value = (await ask('query', query))?.result?.[0]?.value?.[1]
      return value === undefined ? undefined : Number(value)
    }
    await expect.poll(() => valueOf('up'), { timeout: 30_000 }).toBe(1)

    // Something of everything, between two scrapes, so that no percentile is one of nothing.
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    const expected = (query: string) => expect.poll(() => valueOf(query), { timeout: 30_000 })
    await expected('sum(rate(causeway_publish_messages_total[10s]))').toBe(0)
    for (const qos of [0, 1, 2]) expect((await publish(bridge, { topic: 'a', qos })).status).toBeLessThan(300)
    await stream.take(3)
    expect((await fetch(`${bridge.url}/publish?topic=%23`, { method: 'POST' })).status).toBe(400)
    await expected('sum(rate(causeway_publish_ack_seconds_count[10s])) > 0').toBeGreaterThan(0)
    await expected('sum(rate(causeway_push_deliveries_total{outcome="delivered"}[10s])) > 0').toBeGreaterThan(0)
    await expected('sum(rate(causeway_http_requests_total{status_code="400"}[10s])) > 0').toBeGreaterThan(0)

    const queries = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })))
    expect(queries.length).toBeGreaterThan(40)
    const silent: string[] = []
    for (const { title, expr } of queries) {
      const query = expr
        .replaceAll('$__rate_interval', '30s')
        .replaceAll('$__range', '30s')
        .replaceAll('$job', 'causeway')
        .replaceAll('$instance', '.*')
      const { result } = await ask('query', query)
      const hasData = result.some(({ value }: { value: [number, string] }) => value[1] !== 'NaN')
      if (!hasData) silent.push(`${title}: ${query}`)
    }
    expect(silent).toEqual([])

    const { groups } = await ask('rules')
    expect(groups[0].rules.map(({ name, health }: { name: string; health: string }) => [name, health])).toEqual(
      rules.map(({ alert }) => [alert, 'ok']),
    )
    // Each name that an alert asks for exists: a query of a metric that does not would never fire.
    const names = new Set(rules.flatMap(({ expr }) => expr.match(/\b(causeway|process|nodejs)_\w+|\bup\b/g) ?? []))
    for (const name of names) expect(await valueOf(`count(${name})`), name).toBeGreaterThan(0)
    // And so does each value that it asks a label for.
    const selectors = rules.flatMap(({ expr }) => [...expr.matchAll(/(\w+)\{(\w+)=~?"([^"]+)"\}/g)])
    expect(selectors.length).toBeGreaterThan(4)
    for (const [, name, label, values] of selectors) {
      for (const value of values!.split('|')) {
        const selector = `${name}{${label}="${value}"}`
        expect(await valueOf(`count(${selector})`), selector).toBeGreaterThan(0)
      }
    }
  },
)
