import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Copy, DockerfileParser } from 'dockerfile-ast'
import { validate } from 'dockerfile-utils'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { plainEnvironment } from '../support/plain-environment.ts'

/** `true` builds the image with OpenTelemetry. */
const TRACING = process.env['CAUSEWAY_TEST_TRACING'] ?? 'false'
const ROOT = resolve(import.meta.dirname, '../..')
const text = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
/** `node` of the image. As root the bridge runs as that user, as the image does. */
const USER = process.getuid?.() === 0 ? { uid: 1000, gid: 1000 } : {}

/**
 * What `docker build` does in the clean file system of each stage, without an engine: COPY and, in the first stage, RUN.
 * What the last stage removes from its base image is not there.
 */
function build(): string {
  const root = mkdtempSync(join(tmpdir(), 'causeway-image-'))
  onTestFinished(() => {
    execFileSync('chmod', ['-R', 'u+w', root])
    rmSync(root, { recursive: true, force: true })
  })
  chmodSync(root, 0o755)
  const stages: string[] = []
  let directory = ''
  for (const instruction of DockerfileParser.parse(text).getInstructions()) {
    const keyword = instruction.getKeyword()
    const words = instruction.getArguments().map((argument) => argument.getValue())
    const content = instruction.getRawArgumentsContent() ?? ''
    if (keyword === 'FROM') stages.push(join(root, `stage-${stages.length}`))
    if (keyword === 'WORKDIR') {
      directory = join(stages.at(-1)!, words[0]!)
      mkdirSync(directory, { recursive: true })
    }
    if (keyword === 'COPY') {
      const from = (instruction as Copy).getFromFlag()?.getValue() === 'build' ? stages[0]! : ROOT
      const target = words.at(-1)!
      for (const source of words.slice(0, -1)) {
        if (from === ROOT) expect(ignored(source), `${source} is in .dockerignore`).toBe(false)
        const name = target === './' ? source.split('/').at(-1)! : target
        cpSync(join(from, source), join(directory, name), { recursive: true })
      }
    }
    if (keyword === 'RUN' && stages.length === 1) {
      const env = { ...plainEnvironment(), npm_config_prefer_offline: 'true', TRACING }
      execFileSync('sh', ['-ec', content], { cwd: directory, env, stdio: ['ignore', 'ignore', 'inherit'] })
    }
  }
  return directory
}

/** Whether .dockerignore, which allows paths one by one, leaves a path out. */
function ignored(path: string): boolean {
  return !readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n').includes(`!${path}`)
}

test('the Dockerfile has no mistakes that a linter sees', () => {
  expect(validate(text).map(({ message, range }) => `${range.start.line + 1}: ${message}`)).toEqual([])
})

// It installs everything, as the image does: on a busy machine that takes minutes.
test(
  'the image has what production needs and no more, and runs as anybody on a read-only tree',
  { timeout: 600_000 },
  async () => {
    const app = build()
    expect(readdirSync(app).toSorted()).toEqual([
      'LICENSE',
      'dist',
      'healthcheck',
      'node_modules',
      'package.json',
      'sbom.json',
    ])
    const { packages } = JSON.parse(readFileSync(join(app, 'node_modules/.package-lock.json'), 'utf8')) as {
      packages: Record<string, { dev?: boolean; optional?: boolean }>
    }
    expect(Object.entries(packages).filter(([, { dev, optional }]) => dev || optional)).toEqual([])
    expect(existsSync(join(app, 'node_modules/@opentelemetry/sdk-node'))).toBe(TRACING === 'true')
    for (const name of ['typescript', 'vitest']) {
      expect(existsSync(join(app, 'node_modules', name)), name).toBe(false)
    }
    const { components } = JSON.parse(readFileSync(join(app, 'sbom.json'), 'utf8')) as {
      components: { name: string; purl: string; licenses?: object[] }[]
    }
    const installed = Object.keys(packages).map((path) => path.replace(/^.*node_modules\//, ''))
    expect([...new Set(components.map(({ name }) => name))].toSorted()).toEqual([...new Set(installed)].toSorted())
    for (const { name, licenses } of components) expect(licenses, name).toBeDefined()

    execFileSync('chmod', ['-R', 'a-w,a+rX', app])
    const port = await freePort()
    const env = {
      ...plainEnvironment(),
      NODE_ENV: 'production',
      CAUSEWAY_HTTP_PORT: `${port}`,
      CAUSEWAY_EMBEDDED_PORT: '0',
    }
    const command = JSON.parse(/^CMD (.+)$/m.exec(text)![1]!) as string[]
    const bridge = spawn(process.execPath, command.slice(1), {
      cwd: app,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...USER,
    })
    onTestFinished(() => void bridge.kill('SIGKILL'))
    let log = ''
    for (const output of [bridge.stdout, bridge.stderr]) output.setEncoding('utf8').on('data', (line) => (log += line))
    const exited = once(bridge, 'exit')
    const check = async () => (await once(spawn(join(app, 'healthcheck'), { env, ...USER }), 'exit'))[0] as number
    await expect.poll(check, { timeout: 30_000, message: log }).toBe(0)
    const answer = await fetch(`http://127.0.0.1:${port}/publish?topic=a`, { method: 'POST', body: 'x' })
    expect([answer.status, log]).toEqual([200, expect.not.stringContaining('EACCES')])
    bridge.kill('SIGTERM')
    expect(await exited).toEqual([0, null])
    expect(await check()).toBeGreaterThan(0)
  },
)
