import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { hasOpenssl } from '../../support/certificates.ts'
import { outcomeOf, PUBLISH } from '../../support/raw-outcome.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

const CONNECTIONS = 20
/** A turn of the event loop that had this to do is not short, and yet shorter than a millisecond. */
const WORK_MS = 0.5

/** Connects in every second turn of the event loop, in which there is something else to do as well. */
function connectInTurns(port: number): Promise<string[]> {
  const outcomes: Promise<string>[] = []
  return new Promise((resolve) => {
    let turns = 0
    function turn(): void {
      turns += 1
      if (turns > 2 * CONNECTIONS) return resolve(Promise.all(outcomes))
      if (turns % 2 === 0) {
        // The kernel accepts the connection before the next callback of this turn.
        const socket = connect(port, '127.0.0.1')
        socket.write(PUBLISH)
        outcomes.push(outcomeOf(socket))
        const untilMs = performance.now() + WORK_MS
        while (performance.now() < untilMs);
      }
      setImmediate(turn)
    }
    setImmediate(turn)
  })
}

test('a connection that the kernel has accepted when the listener closes is served', async () => {
  const bridge = await startBridge()
  const connecting = connectInTurns(Number(new URL(bridge.url).port))
  await bridge.close()
  const outcomes = await connecting
  // Whoever is refused can ask another replica.
  expect(outcomes.filter((outcome) => outcome !== 'ECONNREFUSED' && outcome !== 'HTTP/1.1 200 OK')).toEqual([])
  expect(outcomes).toContain('HTTP/1.1 200 OK')
})

/** What becomes of a request that comes a second after the closing began. */
async function askLate(socket: Socket, close: () => Promise<void>): Promise<string> {
  onTestFinished(() => void socket.destroy())
  const outcome = outcomeOf(socket)
  const closing = close()
  await delay(1000)
  socket.write(PUBLISH)
  await closing
  return outcome
}

test('a connection that was opened just before has time to bring its request', async () => {
  const bridge = await startBridge()
  const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1')
  await once(socket, 'connect')
  expect(await askLate(socket, () => bridge.close())).toBe('HTTP/1.1 200 OK')
})

test.runIf(hasOpenssl)('so has one over TLS', async () => {
  const bridge = await startSecureBridge()
  const socket = connectTls({ host: '127.0.0.1', port: Number(new URL(bridge.url).port), ca: bridge.ca })
  await once(socket, 'secureConnect')
  expect(await askLate(socket, () => bridge.close())).toBe('HTTP/1.1 200 OK')
})
