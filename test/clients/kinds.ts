import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { CACHE, CLIENTS, PYTHON } from './installed.ts'
import type { Command } from './program.ts'

const EXAMPLES = join(CLIENTS, '../../examples/clients')
const PACKAGES = join(CLIENTS, 'node_modules')

export interface ClientKind {
  name: string
  /** The program that is run, below `examples/clients`; the page of browsers for Chromium. */
  program: string
  /** What the client does wrong, or what one has to know. */
  note: string
  /** Comes from Debian or npm, so CI runs it. */
  everywhere: boolean
  /** What is run, and its version; a sentence where it is not to be had on this machine. */
  install(): { command: Command; version: string } | string
}

const has = (file: string) => spawnSync(file, ['--version']).error === undefined

function versionOfPackage(name: string, from = PACKAGES): string {
  return (JSON.parse(readFileSync(join(from, name, 'package.json'), 'utf8')) as { version: string }).version
}

/** A program in JavaScript, where it finds the packages of `test/clients`. */
function javascript(program: string, packageName: string): () => { command: Command; version: string } | string {
  return () => {
    if (!existsSync(join(PACKAGES, packageName))) return 'run npm run clients:install'
    mkdirSync(CACHE, { recursive: true })
    const file = join(CACHE, program)
    copyFileSync(join(EXAMPLES, program), file)
    return { command: { file: process.execPath, args: [file] }, version: versionOfPackage(packageName) }
  }
}

function python(program: string, packageName: string): () => { command: Command; version: string } | string {
  return () => {
    if (!existsSync(PYTHON)) return 'run npm run test:clients'
    const script = `import importlib.metadata as m; print(m.version("${packageName}"))`
    return {
      command: { file: PYTHON, args: [join(EXAMPLES, program)] },
      version: execFileSync(PYTHON, ['-c', script], { encoding: 'utf8' }).trim(),
    }
  }
}

/** A program in Go, which is built. */
function go(folder: string, module: string): () => { command: Command; version: string } | string {
  return () => {
    // `go --version` is not one of its commands.
    if (spawnSync('go', ['version']).error !== undefined) return 'go is not installed'
    const cwd = join(EXAMPLES, folder)
    const file = join(CACHE, `follow-${folder}`)
    execFileSync('go', ['build', '-o', file, '.'], { cwd, stdio: ['ignore', 'ignore', 'inherit'] })
    const versions = readFileSync(join(cwd, 'go.mod'), 'utf8')
    return { command: { file, args: [] }, version: new RegExp(`${module} v([\\d.]+)`).exec(versions)![1]! }
  }
}

/** Every client, in the order of the table. */
export const KINDS: readonly ClientKind[] = [
  {
    name: 'EventSource of Chromium',
    program: '../../docs/browsers.md',
    everywhere: true,
    note:
      'gives up for good after any answer that is no stream, a 503 as well, and does not say what the answer was; a ' +
      'page has to ask by `fetch` and open it again',
    install() {
      const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync)
      const { resolve } = createRequire(join(CLIENTS, 'main.ts'))
      try {
        resolve('playwright-core')
      } catch {
        return 'playwright-core is not installed'
      }
      if (chromium === undefined) return 'chromium is not installed (apt-get install chromium)'
      const version = /[\d.]+/.exec(execFileSync(chromium, ['--version'], { encoding: 'utf8' }))![0].split('.')[0]!
      return { command: { file: process.execPath, args: [join(CLIENTS, 'chromium.mjs'), chromium] }, version }
    },
  },
  {
    name: 'eventsource (npm)',
    program: 'eventsource.mjs',
    everywhere: true,
    note: 'as in a browser, but its `error` event has the status in `code`',
    install: javascript('eventsource.mjs', 'eventsource'),
  },
  {
    name: 'fetch and eventsource-parser (npm)',
    program: 'eventsource-parser.mjs',
    everywhere: true,
    note: 'does nothing by itself: ids, coming back and giving up are up to you',
    install: javascript('eventsource-parser.mjs', 'eventsource-parser'),
  },
  {
    name: '@microsoft/fetch-event-source (npm)',
    program: 'fetch-event-source.mjs',
    everywhere: true,
    note:
      'takes a clean end for the last word, asks again for ever after a 401, and closes the stream of a hidden page, ' +
      'unless told otherwise',
    install: javascript('fetch-event-source.mjs', '@microsoft/fetch-event-source'),
  },
  {
    name: 'curl and jq',
    program: 'curl.sh',
    everywhere: true,
    note: '`--retry` asks again without the id of the last event, so messages are missing without a gap: do not use it',
    install() {
      if (!has('curl') || !has('jq')) return 'curl or jq is not installed'
      const version = /curl ([\d.]+)/.exec(execFileSync('curl', ['--version'], { encoding: 'utf8' }))![1]!
      return { command: { file: 'bash', args: [join(EXAMPLES, 'curl.sh')] }, version }
    },
  },
  {
    name: 'httpx-sse (Python)',
    program: 'httpx_sse_client.py',
    everywhere: false,
    note: 'ends after 5 silent seconds unless the timeout of httpx is raised; does not come back by itself',
    install: python('httpx_sse_client.py', 'httpx-sse'),
  },
  {
    name: 'sseclient-py (Python)',
    program: 'sseclient_client.py',
    everywhere: false,
    note: 'does not look at the status, and does not come back by itself',
    install: python('sseclient_client.py', 'sseclient-py'),
  },
  {
    name: 'tmaxmax/go-sse (Go)',
    program: 'go/main.go',
    everywhere: false,
    note: 'ends at an event of more than 64 KB unless it gets a larger buffer; returns after a clean end',
    install: go('go', 'go-sse'),
  },
  {
    name: 'okhttp-sse (Java)',
    program: 'java/Follow.java',
    everywhere: false,
    note: 'ends after 10 silent seconds unless the timeout of OkHttp is raised; does not come back by itself',
    install() {
      if (!has('java') || !has('mvn')) return 'java or mvn is not installed'
      const folder = join(EXAMPLES, 'java')
      const libraries = join(CACHE, 'java')
      const goal = ['dependency:copy-dependencies', `-DoutputDirectory=${libraries}`]
      if (!existsSync(libraries)) execFileSync('mvn', ['-q', '-B', '-f', join(folder, 'pom.xml'), ...goal])
      const version = /okhttp-sse<\/artifactId>\s*<version>([\d.]+)/.exec(
        readFileSync(join(folder, 'pom.xml'), 'utf8'),
      )!
      const args = ['-cp', `${libraries}/*`, join(folder, 'Follow.java')]
      return { command: { file: 'java', args }, version: version[1]! }
    },
  },
]
