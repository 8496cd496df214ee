import { expect, test } from 'vitest'
import { checkClient } from './checks.ts'
import { createGround } from './ground.ts'
import { KINDS } from './kinds.ts'
import { readRuns } from './results.ts'

const ofCi = KINDS.filter(({ everywhere }) => everywhere).map((kind) => ({ ...kind, installed: kind.install() }))

test('the clients from Debian and npm are installed where CI runs', () => {
  const missing = ofCi.flatMap(({ installed }) => (typeof installed === 'string' ? [installed] : []))
  if (process.env['CI'] === 'true') expect(missing).toEqual([])
})

// They mostly wait, to come back, and each has a broker and a bridge of its own.
test.concurrent.for(ofCi.filter(({ installed }) => typeof installed === 'object'))(
  '$name does what the table of clients says',
  { timeout: 240_000 },
  async ({ name, installed }, { expect: expectHere, onTestFinished }) => {
    if (typeof installed === 'string') return
    const ground = await createGround()
    onTestFinished(() => ground.end())
    const outcomes = await checkClient(installed.command, ground)
    expectHere(outcomes).toEqual(readRuns().find((run) => run.name === name)?.outcomes)
  },
)
