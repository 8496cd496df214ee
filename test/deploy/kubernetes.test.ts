import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule'
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor'
import { validate as deploymentV1 } from 'kubernetes-models/_schemas/IoK8sApiAppsV1Deployment'
import { validate as autoscalerV2 } from 'kubernetes-models/_schemas/IoK8sApiAutoscalingV2HorizontalPodAutoscaler'
import { validate as serviceV1 } from 'kubernetes-models/_schemas/IoK8sApiCoreV1Service'
import { validate as serviceAccountV1 } from 'kubernetes-models/_schemas/IoK8sApiCoreV1ServiceAccount'
import { validate as networkPolicyV1 } from 'kubernetes-models/_schemas/IoK8sApiNetworkingV1NetworkPolicy'
import { validate as disruptionBudgetV1 } from 'kubernetes-models/_schemas/IoK8sApiPolicyV1PodDisruptionBudget'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/config.ts'
import { createMetrics } from '../../src/metrics.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const FOLDERS = ['kubernetes', 'kubernetes/monitoring', 'kubernetes/autoscaling']
const read = (name: string) => parse(readFileSync(join(DEPLOY, name), 'utf8'))

/** Checks by the schema of a kind; its `errors` are what is wrong. */
type Validate = ((manifest: unknown) => boolean) & { errors?: { instancePath: string; message?: string }[] | null }

/** For a package that does not hand out its schemas. Its model reads every member, known or not. */
function byModel(Model: new (manifest: never) => { validate(): void }): Validate {
  const validate: Validate = (manifest) => {
    try {
      new Model(manifest as never).validate()
      return true
    } catch (error) {
      validate.errors = [{ instancePath: (error as Error).message }]
      return false
    }
  }
  return validate
}

const SCHEMAS: Record<string, Validate> = {
  'apps/v1 Deployment': deploymentV1,
  'autoscaling/v2 HorizontalPodAutoscaler': autoscalerV2,
  'monitoring.coreos.com/v1 PrometheusRule': byModel(PrometheusRule),
  'monitoring.coreos.com/v1 ServiceMonitor': byModel(ServiceMonitor),
  'networking.k8s.io/v1 NetworkPolicy': networkPolicyV1,
  'policy/v1 PodDisruptionBudget': disruptionBudgetV1,
  'v1 Service': serviceV1,
  'v1 ServiceAccount': serviceAccountV1,
}

const manifests = FOLDERS.flatMap((folder) =>
  (read(`${folder}/kustomization.yaml`).resources as string[]).map((file) => [`${folder}/${file}`] as const),
)
const deployment = read('kubernetes/deployment.yaml')
const pod = deployment.spec.template.spec
const [container] = pod.containers
const env = Object.fromEntries(container.env.map(({ name, value }: { name: string; value: string }) => [name, value]))
const bytes = (text: string) =>
  Number.parseInt(text) * ({ Mi: 2 ** 20, Gi: 2 ** 30 } as Record<string, number>)[text.slice(-2)]!

/**
 * The same value, whose members tell when they are read. The schemas let unknown members pass, but a validator never
 * reads one: `unread` has those.
 */
function watched(value: unknown, path: string, unread: Set<string>): unknown {
  if (typeof value !== 'object' || value === null) return value
  const members = Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, watched(member, `${path}.${name}`, unread)]),
  )
  for (const name of Object.keys(members)) unread.add(`${path}.${name}`)
  const target = Array.isArray(value) ? Object.values(members) : members
  return new Proxy(target, {
    get(object, name, receiver) {
      unread.delete(`${path}.${String(name)}`)
      return Reflect.get(object, name, receiver)
    },
  })
}

function faults(manifest: { apiVersion: string; kind: string }): string[] {
  const validate = SCHEMAS[`${manifest.apiVersion} ${manifest.kind}`]
  if (validate === undefined) return [`there is no schema of ${manifest.apiVersion} ${manifest.kind}`]
  const unread = new Set<string>()
  if (!validate(watched(manifest, '', unread))) return validate.errors!.map(({ instancePath }) => instancePath)
  return [...unread].map((path) => `${path} is unknown`)
}

test.each(manifests)('%s is what the schema of its kind allows, and nothing in it is unknown', (file) => {
  expect(faults(read(file))).toEqual([])
})

test('a slip of the pen in a manifest is seen', () => {
  const { spec, ...others } = deployment
  const changed = (more: object) => faults({ ...others, spec: { ...spec, ...more } })
  expect(changed({ replica: 3 })).toEqual(['.spec.replica is unknown'])
  expect(changed({ replicas: '3' })).toEqual(['/spec/replicas'])
  const template = { ...spec.template, spec: { ...pod, containers: [{ ...container, enw: [] }] } }
  expect(changed({ template })).toEqual(['.spec.template.spec.containers.0.enw is unknown'])
})

test('each manifest belongs to a kustomization', () => {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(join(DEPLOY, folder)).flatMap((name) =>
      name.endsWith('.yaml') && name !== 'kustomization.yaml' ? [`${folder}/${name}`] : [],
    ),
  )
  expect(files.toSorted()).toEqual(manifests.map(([file]) => file).toSorted())
})

test('the settings are known, and the pod has the time and the memory that they need', () => {
  const { NODE_OPTIONS: nodeOptions, ...settings } = env
  const config = loadConfig(settings, () => 'x'.repeat(32))
  expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(config.drainMs + config.shutdownMs)
  // Longer than it takes until the pod is out of the service.
  const { periodSeconds, failureThreshold } = container.readinessProbe
  expect(config.drainMs).toBeGreaterThan(periodSeconds * failureThreshold * 1000)
  const heap = Number(/--max-old-space-size=(\d+)/.exec(nodeOptions)![1]) * 2 ** 20
  expect(heap).toBeGreaterThanOrEqual(2 * config.memoryBytes + 128 * 2 ** 20)
  expect(bytes(container.resources.limits.memory)).toBeGreaterThanOrEqual(2 * heap)
  expect(pod.enableServiceLinks).toBe(false)
})

test('secrets are files, and ports, labels and names fit together', () => {
  const mount = container.volumeMounts[0].mountPath
  const fromFiles = Object.entries(env).filter(([name]) => name.endsWith('_FILE'))
  expect(fromFiles.length).toBe(3)
  for (const [, path] of fromFiles) expect(path).toMatch(new RegExp(`^${mount}/`))
  expect(Object.keys(env).filter((name) => /(PASSWORD|SECRET)$/.test(name))).toEqual([])
  const ports = container.ports.map(({ name }: { name: string }) => name)
  const { spec: service } = read('kubernetes/service.yaml')
  for (const { targetPort } of service.ports) expect(ports).toContain(targetPort)
  const labels = deployment.spec.template.metadata.labels
  for (const selector of [
    service.selector,
    deployment.spec.selector.matchLabels,
    read('kubernetes/poddisruptionbudget.yaml').spec.selector.matchLabels,
    read('kubernetes/networkpolicy.yaml').spec.podSelector.matchLabels,
    read('kubernetes/monitoring/servicemonitor.yaml').spec.selector.matchLabels,
    ...pod.topologySpreadConstraints.map(
      (one: { labelSelector: { matchLabels: object } }) => one.labelSelector.matchLabels,
    ),
  ]) {
    expect(labels).toMatchObject(selector)
  }
})

test('the rules are those of deploy/alerts.yml, and the autoscaler asks for metrics that there are', () => {
  expect(read('kubernetes/monitoring/prometheusrule.yaml').spec.groups).toEqual(read('alerts.yml').groups)
  const { text } = createMetrics('0')
  for (const { pods } of read('kubernetes/autoscaling/horizontalpodautoscaler.yaml').spec.metrics) {
    expect(text.getSingleMetric(pods.metric.name), pods.metric.name).toBeDefined()
  }
})
