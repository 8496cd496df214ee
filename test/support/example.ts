import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

export interface Example {
  name: string
  command: string
}

/** The example consumers whose programs are installed. */
export const CONSUMERS: Example[] = [
  { name: 'consumer.mjs', command: process.execPath, needs: [] },
  { name: 'consumer.py', command: 'python3', needs: ['python3'] },
  { name: 'consumer.sh', command: 'bash', needs: ['curl', 'jq'] },
].filter(({ needs }) => needs.every((tool) => spawnSync(tool, ['--version']).error === undefined))

/** The example endpoints whose programs are installed. */
export const ENDPOINTS: Example[] = [
  { name: 'endpoint.mjs', command: process.execPath },
  { name: 'endpoint.py', command: 'python3' },
].filter(({ command }) => spawnSync(command, ['--version']).error === undefined)

export const examplePath = (name: string) => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url))

/** Runs an example consumer against the bridge at `base`. Its process ends with the test. */
export function startConsumer({ command, name }: Example, base: string) {
  const child = spawn(command, [examplePath(name), base, 'billing', 'orders/#'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
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
    output: () => output,
    lines: () =>
      output
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line.startsWith('orders/1')),
  }
}
