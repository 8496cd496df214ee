import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { freePort } from './free-port.ts'

export interface DeployedProxy {
  name: string
  /** The file below `deploy`. */
  file: string
  command: string
  /** Where it listens, in the file and in the test. */
  listener: RegExp
  listensAt(address: string): string
  arguments(file: string, directory: string): string[]
  /** What ends it at once, whatever it still has open. */
  stop: NodeJS.Signals
}

const PROXIES: DeployedProxy[] = [
  {
    name: 'nginx',
    file: 'nginx.conf',
    command: 'nginx',
    listener: /listen 8000;/,
    listensAt: (address: string) => `listen ${address};`,
    arguments: (file: string, directory: string) => [
      '-c',
      file,
      '-e',
      `${directory}/error`,
      '-g',
      `daemon off; pid ${directory}/pid;`,
    ],
    stop: 'SIGTERM',
  },
  {
    name: 'HAProxy',
    file: 'haproxy.cfg',
    command: 'haproxy',
    listener: /bind :8000/,
    listensAt: (address: string) => `bind ${address}`,
    arguments: (file: string) => ['-f', file],
    stop: 'SIGTERM',
  },
  {
    name: 'Caddy',
    file: 'Caddyfile',
    command: 'caddy',
    listener: /^:8000/m,
    // For an address without a scheme Caddy would serve HTTPS.
    listensAt: (address: string) => `http://${address}`,
    arguments: (file: string) => ['run', '--adapter', 'caddyfile', '--config', file],
    // With SIGTERM it waits for the end of all answers, also of a stream whose reader is gone: it sees that only as it
    // writes the next comment, up to a minute later.
    stop: 'SIGQUIT',
  },
]

/** The proxies that have a configuration in `deploy` and are installed. */
export const DEPLOYED_PROXIES = PROXIES.filter(({ command }) => spawnSync(command, ['-v']).error === undefined)

/** Starts a proxy with its configuration of `deploy` in front of these bridges. It ends with the test. */
export async function startDeployedProxy(proxy: DeployedProxy, upstreams: readonly number[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-proxy-'))
  // nginx, started by root, has workers of another user.
  chmodSync(directory, 0o755)
  const port = await freePort()
  const file = join(directory, proxy.file)
  writeFileSync(file, here(proxy, port, upstreams, directory))
  const child: ChildProcess = spawn(proxy.command, proxy.arguments(file, directory), {
    stdio: 'ignore',
    env: { ...process.env, HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory },
  })
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') showErrors(directory)
    if (child.exitCode === null) {
      const exited = once(child, 'exit')
      child.kill(proxy.stop)
      await exited
    }
    rmSync(directory, { recursive: true, force: true })
  })
  const url = `http://127.0.0.1:${port}`
  const answers = () =>
    fetch(`${url}/readyz`).then(
      ({ status }) => status,
      () => `${proxy.command} does not answer`,
    )
  await expect.poll(answers, { timeout: 20_000 }).toBe(200)
  return url
}

/** Prints what nginx says about upstreams: an answer of its own, such as 502, does not give its reason. */
function showErrors(directory: string): void {
  const file = join(directory, 'error')
  if (!existsSync(file)) return
  const lines = readFileSync(file, 'utf8').split('\n')
  process.stderr.write(lines.filter((line) => line.includes('upstream')).join('\n') + '\n')
}

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']

/** The configuration with the ports of this test, and as many replicas as there are. */
function here(proxy: DeployedProxy, port: number, upstreams: readonly number[], directory: string): string {
  const text = readFileSync(new URL(`../../deploy/${proxy.file}`, import.meta.url), 'utf8')
  const paths = TEMPORARY.map((name) => `${name}_temp_path ${directory}/${name};\n`).join('')
  const errors = `error_log ${directory}/error info;\n`
  const changed = text
    .replaceAll(/^\s*#.*\n/gm, '')
    .replace(proxy.listener, proxy.listensAt(`127.0.0.1:${port}`))
    .replace(/^http {\n/m, (begin) => begin + errors + paths)
    // One line for each replica, or one line for all.
    .replaceAll(/^ *server .*causeway-(\d):8080.*\n/gm, (line, number) =>
      Number(number) > upstreams.length ? '' : line,
    )
    .replaceAll(/ causeway-(\d):8080/g, (_name, number) => {
      const upstream = upstreams[Number(number) - 1]
      return upstream === undefined ? '' : ` 127.0.0.1:${upstream}`
    })
  expect(changed).not.toMatch(/\b80[08]0\b/)
  return changed
}
