import { expect, test } from 'vitest'
import { COST_NAMES, costs } from '../../bench/cpu-profile.ts'

const frame = (id: number, functionName: string, url = '', children: number[] = []) => ({
  id,
  callFrame: { functionName, url },
  children,
})
const costOf = (all: number[], name: string) => all[COST_NAMES.findIndex((title) => title.includes(name))]

test('costs are those of the seconds looked at, each by what it was spent on', () => {
  const nodes = [
    frame(1, 'parserOnHeadersComplete', 'node:_http_common', [7]),
    frame(7, 'route', 'file:///a/node_modules/fastify/lib/route.js'),
    frame(2, 'writev'),
    frame(3, '(idle)'),
    frame(4, 'publish', 'file:///a/dist/mqtt.js'),
    frame(5, 'parse', 'file:///a/node_modules/mqtt-packet/parser.js'),
    frame(6, 'compile', 'file:///a/node_modules/ajv/dist/core.js'),
  ]
  // Start-up, the first request, a second to warm up, and then two seconds.
  const samples = [6, 7, 4, 2, 4, 5, 3, 2]
  const timeDeltas = [5e6, 1000, 0.9e6, 0.2e6, 0.6e6, 0.4e6, 0.5e6, 9e6]
  const found = costs({ nodes, samples, timeDeltas }, { skipS: 1, seconds: 2 })
  expect(found).toHaveLength(COST_NAMES.length)
  expect(['answers', 'queues', 'mqtt-packet', 'Fastify', 'Node’s HTTP'].map((name) => costOf(found, name))).toEqual([
    0.1e6, 0.3e6, 0.2e6, 0, 0,
  ])
})
