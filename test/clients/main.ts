import { checkClient } from './checks.ts'
import { createGround } from './ground.ts'
import { KINDS } from './kinds.ts'
import { type ClientRun, readRuns, writeRuns } from './results.ts'

/*
 * npm run test:clients [-- NAME…]: runs every client, or those whose name contains one of these, and keeps the results,
 * from which `npm run docs` makes the table in docs/clients.md.
 */
const wanted = process.argv.slice(2).map((name) => name.toLowerCase())
const chosen = KINDS.filter(
  ({ name }) => wanted.length === 0 || wanted.some((part) => name.toLowerCase().includes(part)),
)
const runs = new Map<string, ClientRun>(readRuns().map((run) => [run.name, run]))

for (const { name, install } of chosen) {
  const installed = install()
  if (typeof installed === 'string') {
    console.log(`${name}: not run, ${installed}`)
    process.exitCode = 1
    continue
  }
  const ground = await createGround()
  try {
    const outcomes = await checkClient(installed.command, ground)
    runs.set(name, { name, version: installed.version, day: new Date().toISOString().slice(0, 10), outcomes })
    console.log(`${name} ${installed.version}: ${JSON.stringify(outcomes)}`)
  } catch (error) {
    console.log(`${name} ${installed.version}: failed: ${(error as Error).message}`)
    process.exitCode = 1
  } finally {
    await ground.end()
  }
}
writeRuns(KINDS.flatMap(({ name }) => runs.get(name) ?? []))
