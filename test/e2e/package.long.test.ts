import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { distFile } from '../support/dist.ts'
import { plainEnvironment } from '../support/plain-environment.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const run = promisify(execFile)

async function packed(into: string): Promise<{ filename: string; paths: string[] }> {
  // Vitest has built `dist`; to build it anew would take it away from the other tests.
  distFile('main.js')
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', into]
  const { stdout } = await run('npm', args, { cwd: ROOT })
  const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }]
  return { filename, paths: files.map(({ path }) => path) }
}

test('the package installs into an empty folder, and has the command, its page and types, and no tests', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-package-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const { filename, paths } = await packed(folder)
  expect(
    paths.filter((path) => !/^dist\/(.*\.(js|d\.ts)|console\/[\w-]+\.(html|css|svg|txt))$/.test(path)).sort(),
  ).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'package.json'])
  expect(paths.filter((path) => /test/.test(path))).toEqual([])

  const env = { ...plainEnvironment(), CAUSEWAY_HTTP_PORT: '0' }
  writeFileSync(join(folder, 'package.json'), '{}')
  const options = ['--prefer-offline', '--no-audit', '--no-fund']
  await run('npm', ['install', ...options, join(folder, filename)], { cwd: folder, env })

  const child = spawn('npx', ['causeway', '--embedded-port', '0', '--no-allow-dollar-topics'], {
    cwd: folder,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    // npx starts the bridge in a process of its own, so the group of both is ended.
    detached: true,
  })
  onTestFinished(() => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL')
  })
  let url: string | undefined
  for await (const line of createInterface(child.stdout)) {
    url = /metrics: +(http:\S+)\/metrics/.exec(line)?.[1]
    if (url !== undefined) break
  }
  const answer = await fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'x' })
  expect(answer.status).toBe(200)
  for (const path of ['/', '/console/main.js', '/console/uplot.js']) {
    expect((await fetch(`${url}${path}`)).status, path).toBe(200)
  }
  const exited = once(child, 'exit')
  process.kill(-child.pid!, 'SIGTERM')
  await exited

  const program = `
    import { startApp } from '@causeway-mqtt/bridge'
    import { loadConfig } from '@causeway-mqtt/bridge/config'
    console.log(typeof startApp, loadConfig({}, () => '').httpPort)`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: folder })
  expect(stdout).toBe('function 8080\n')
})
