import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

export interface Example {
  name: string
  command: string
  /** What stands before the arguments of the example. */
  args: string[]
}

export const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url))
const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined

/** The example in Go, built once for all tests. */
function goConsumer(): Example[] {
  if (spawnSync('go', ['version']).error !== undefined) return []
  const folder = join(EXAMPLES, '../node_modules/.cache/examples')
  mkdirSync(folder, { recursive: true })
  const command = join(folder, 'consumer-go')
  const { status, stderr } = spawnSync('go', ['build', '-o', command, '.'], {
    cwd: join(EXAMPLES, 'consumer-go'),
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`examples/consumer-go does not build: ${stderr}`)
  return [{ name: 'consumer-go', command, args: [] }]
}

/** The example consumers whose programs are installed. */
export const consumers = (): Example[] => [
  ...[
    { name: 'consumer.mjs', command: process.execPath, needs: [] },
    { name: 'consumer.py', command: 'python3', needs: ['python3'] },
    { name: 'consumer.sh', command: 'bash', needs: ['curl', 'jq'] },
  ]
    .filter(({ needs }) => needs.every(has))
    .map(({ name, command }) => ({ name, command, args: [join(EXAMPLES, name)] })),
  ...goConsumer(),
]

/** The example endpoints whose programs are installed. */
export const ENDPOINTS = [
  { name: 'endpoint.mjs', command: process.execPath },
  { name: 'endpoint.py', command: 'python3' },
].filter(({ command }) => has(command))

export const examplePath = (name: string) => join(EXAMPLES, name)

/** Runs an example consumer against the bridge at `base`. Its process ends with the test. */
export function startConsumer(example: Example, base: string, token?: string) {
  return startExample(example, [base, 'billing', 'orders/#'], token)
}

/** Runs an example with these arguments. Its process ends with the test. */
export function startExample({ command, args }: Example, given: string[], token?: string) {
  const child = spawn(command, [...args, ...given], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...(token !== undefined && { BEARER_TOKEN: token }) },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
  }
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  // The shell example has child processes: all of the process group are killed.
  const kill = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL')
  }
  onTestFinished(kill)
  return {
    exited,
    kill,
    input: child.stdin,
    output: () => output,
    lines: () =>
      output
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line.startsWith('orders/1')),
  }
}
