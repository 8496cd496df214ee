import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT, type Stage } from '../stage.ts'
import type { Bridge } from './bridge.ts'

const NODE_RED = join(ROOT, 'bench/others/node_modules/node-red/red.js')

/** Whether it is installed (`npm run bench:install`) and runs on this Node: version 5 needs Node 22.9. */
export function hasNodeRed(node: string): boolean {
  return existsSync(NODE_RED) && spawnSync(node, [NODE_RED, '--help'], { stdio: 'ignore' }).status === 0
}

/** A post waits for nothing, as most flows have it, or until the node *mqtt out* has completed its message: PUBACK. */
export type Answers = 'at once' | 'complete'

/**
 * What a palette and an editor without network need, and nothing that changes how flows run. The rest is as in the
 * settings.js that Node-RED copies into a new user directory: the editor is there, and a lost broker is tried again
 * after `mqttReconnectTime`.
 */
function settingsOf(port: number): object {
  return {
    flowFile: 'flows.json',
    uiHost: '127.0.0.1',
    uiPort: port,
    credentialSecret: false,
    mqttReconnectTime: 15_000,
    telemetry: { enabled: false, updateNotification: false },
    externalModules: { autoInstall: false, palette: { allowInstall: false }, modules: { allowInstall: false } },
    editorTheme: { tours: false, palette: { catalogues: [] } },
    functionExternalModules: false,
    logging: { console: { level: 'warn', metrics: false, audit: false } },
  }
}

/** Opens a stream. `msg.res._res` is the response of Express: so does @tq-bit/node-red-contrib-server-sent-events. */
const OPEN_STREAM = `
const response = msg.res._res
response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache', Connection: 'keep-alive' })
response.write(': open\\n\\n')
const readers = flow.get('readers') || new Set()
readers.add(response)
flow.set('readers', readers)
response.on('close', () => readers.delete(response))
`
const WRITE_EVENT = `
const event = 'data: ' + JSON.stringify({ topic: msg.topic, payload: msg.payload }) + '\\n\\n'
for (const response of flow.get('readers') || []) response.write(event)
`

/** The two flows. Fields that are not there have the values that the editor gives to a new node. */
function flowsOf(mqttPort: number, topic: string, answers: Answers): object[] {
  const broker = {
    id: 'broker',
    type: 'mqtt-broker',
    broker: '127.0.0.1',
    port: String(mqttPort),
    clientid: '',
    autoConnect: true,
    protocolVersion: '4',
    keepalive: '60',
    cleansession: true,
  }
  const publish = [
    { id: 'post', type: 'http in', url: '/publish', method: 'post', wires: [['message']] },
    {
      id: 'message',
      type: 'change',
      rules: [
        { t: 'set', p: 'topic', pt: 'msg', to: 'payload.topic', tot: 'msg' },
        { t: 'set', p: 'payload', pt: 'msg', to: 'payload.payload', tot: 'msg' },
      ],
      wires: [answers === 'at once' ? ['out', 'answer'] : ['out']],
    },
    { id: 'out', type: 'mqtt out', topic: '', qos: '1', retain: '', broker: 'broker', wires: [] },
    ...(answers === 'complete' ? [{ id: 'done', type: 'complete', scope: ['out'], wires: [['answer']] }] : []),
    { id: 'answer', type: 'http response', statusCode: '200', headers: {}, wires: [] },
  ]
  const subscribe = [
    { id: 'get', type: 'http in', url: '/subscribe', method: 'get', wires: [['open']] },
    { id: 'open', type: 'function', func: OPEN_STREAM, outputs: 1, wires: [[]] },
    {
      id: 'in',
      type: 'mqtt in',
      topic,
      qos: '2',
      datatype: 'auto-detect',
      broker: 'broker',
      rap: true,
      rh: 0,
      wires: [['write']],
    },
    { id: 'write', type: 'function', func: WRITE_EVENT, outputs: 1, wires: [[]] },
  ]
  // A node without a place on its tab would be taken for a configuration.
  const onTab = [...publish, ...subscribe].map((node, index) => ({ ...node, z: 'tab', x: 200, y: 60 * index }))
  return [{ id: 'tab', type: 'tab', label: 'bridge' }, broker, ...onTab]
}

/**
 * Starts Node-RED with a flow that publishes what is posted to `/publish`, and one that streams a topic at `/subscribe`.
 * Resolves when it listens.
 */
export async function startNodeRed(
  stage: Stage,
  { port, mqttPort, topic, answers }: { port: number; mqttPort: number; topic: string; answers: Answers },
): Promise<Bridge> {
  const directory = stage.directory()
  const settings = join(directory, 'settings.js')
  writeFileSync(settings, `module.exports = ${JSON.stringify(settingsOf(port))}\n`)
  writeFileSync(join(directory, 'flows.json'), JSON.stringify(flowsOf(mqttPort, topic, answers)))
  const args = [...stage.nodeOptions, NODE_RED, '--no-telemetry', '--userDir', directory, '--settings', settings]
  const { pid } = await stage.program(stage.node, args, port)
  return { port, pid: pid! }
}
