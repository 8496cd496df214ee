import { spawn } from 'node:child_process'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { ENDPOINTS, examplePath } from '../support/example.ts'
import { publish } from '../support/http.ts'
import { pushFile, untilPush } from '../support/push-endpoint.ts'

const SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`
const OTHER = `whsec_${Buffer.alloc(32, 6).toString('base64')}`

test.each(ENDPOINTS)(
  'the example $name takes what is signed with its secret, and nothing else',
  async ({ name, command }) => {
    const child = spawn(command, [examplePath(name), '0'], { env: { ...process.env, WEBHOOK_SECRET: SECRET } })
    onTestFinished(() => void child.kill('SIGKILL'))
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
    const listening = await vi.waitUntil(() => /listening on (http:\S+)/.exec(stderr), { timeout: 30_000 })
    const url = `${listening[1]}/`
    const { path } = pushFile([
      { name: 'forged', topics: ['a'], url, secret: OTHER },
      // As while the secret is changed.
      { name: 'hook', topics: ['a'], url, secret: `${OTHER} ${SECRET}` },
      { name: 'batch', topics: ['b'], url, secret: SECRET, batch: 10 },
    ])
    const bridge = await startBridge({ PUSH_FILE: path })
    for (const target of ['forged', 'hook', 'batch']) await untilPush(bridge, 'active', target)
    await publish(bridge, { topic: 'a', payload: 'ü' })
    await publish(bridge, { topic: 'b', payload: 'two' })
    await expect.poll(() => stdout.split('\n').toSorted()).toEqual(['', 'a ü', 'b two'])
    const refused = () => bridge.logs.filter(({ push }) => push === 'forged').map(({ reason }) => reason)
    await expect.poll(refused).toContain('it answered 401')
  },
)
