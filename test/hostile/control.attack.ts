import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startTarget, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

// Were the measuring itself at fault, the other tests would prove nothing.
test.each(WIRES)('without an attack the polite client is served and memory stays: %s', async (wire) => {
  const target = await startTarget({ wire })
  await underAttack(target, async () => delay(1000))
})

// A test that cannot fail is a defect: a bridge that stops for four seconds makes answers late, and that is seen.
test('a delay of four seconds is seen', async () => {
  const target = await startTarget()
  const verdict = underAttack(target, async () => {
    target.kill('SIGSTOP')
    await delay(4000)
    target.kill('SIGCONT')
  })
  await expect(verdict).rejects.toThrow(/livez took/)
})

test('memory that is held, and a process that dies, are seen', async () => {
  const target = await startTarget({ settings: { STREAM_LINGER_MS: 60_000 } })
  const verdict = underAttack(target, async ({ open, heldBelow }) => {
    const { leave } = await open('GET', '/subscribe?topic=attack/%23&retained=false')
    await heldBelow(1)
    leave()
    target.kill('SIGKILL')
  })
  await expect(verdict).rejects.toThrow(/the process died: SIGKILL[^]*more are held/)
})
