import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { outcomeOf, PUBLISH } from '../support/raw-outcome.ts'
import { startWorkers, workersOf } from '../support/workers.ts'

const CONNECTIONS = 30

/** Whether a process does not run, as the kernel says. */
function isStopped(pid: number): boolean {
  return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
}

/** Stops a process. It goes on at the end of the test, if it is still there. */
async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  await expect.poll(() => isStopped(pid)).toBe(true)
}

/** Connects, and sends a publish at once. */
function publish(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  // Far longer than an answer takes. Without a limit a lost connection would stay open.
  socket.setTimeout(20_000, () => socket.destroy())
  socket.write(PUBLISH)
  return outcomeOf(socket)
}

test('connections that the kernel has accepted are served, even if all workers close meanwhile', async () => {
  const { bridge, url } = await startWorkers()
  const port = Number(new URL(url).port)
  await freeze(bridge.pid)
  const outcomes = Array.from({ length: CONNECTIONS }, () => publish(port))
  for (const pid of workersOf(bridge)) process.kill(pid, 'SIGTERM')
  await expect.poll(() => bridge.stdout().match(/SIGTERM: shutting down/g)).toHaveLength(2)
  // In this time they do all that they can do without their parent.
  await delay(300)
  bridge.kill('SIGCONT')
  expect(new Set(await Promise.all(outcomes))).toEqual(new Set(['HTTP/1.1 200 OK']))
})

test('a connection is served if the worker ends to which it was on its way', async () => {
  const { bridge, url } = await startWorkers()
  const port = Number(new URL(url).port)
  const [pid] = workersOf(bridge)
  await freeze(pid!)
  // One of two is handed to the worker that does not take it.
  const outcomes = [publish(port), publish(port)]
  expect(await Promise.race(outcomes)).toBe('HTTP/1.1 200 OK')
  process.kill(pid!, 'SIGKILL')
  expect(await Promise.all(outcomes)).toEqual(['HTTP/1.1 200 OK', 'HTTP/1.1 200 OK'])
})
