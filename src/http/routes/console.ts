import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { extname } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'

export interface ConsoleRoutes {
  version: string
  auth: string
  /** Whether `POST /cookie` keeps credentials. */
  cookie: boolean
  /** Whether `/metrics` and `/readyz` are on the same server. */
  operation: boolean
  heartbeatMs: number
}

/** The built page, whether this module runs from `src` or as a part of a file in `dist`. */
const PACKAGE = pathToFileURL(createRequire(import.meta.url).resolve('@causeway-mqtt/bridge/package.json'))
const FOLDER = new URL('dist/console/', PACKAGE)

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/**
 * Nothing from elsewhere, no script or style in the page itself, and no HTML made of text by a script: what the page
 * shows is what anybody published.
 */
const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; " +
    "trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
}

interface File {
  type: string
  bytes: Buffer
  etag: string
}

/**
 * The page at `/`, which calls the other routes with the credentials of its user. Its files need none: they are the
 * same for everybody.
 */
export async function consoleRoutes(app: FastifyInstance, settings: ConsoleRoutes): Promise<void> {
  let files: Map<string, File> | undefined

  /** Read at the first request, as it is not there before the page is built. */
  function find(name: string): File | undefined {
    files ??= new Map([...readFiles(), ['settings.json', settingsFile()]])
    return files.get(name)
  }

  function settingsFile(): File {
    // At the first request all routes are registered, also those behind this one.
    const push = app.hasRoute({ method: 'GET', url: '/push' })
    return fileOf('.json', Buffer.from(JSON.stringify({ ...settings, push })))
  }

  function send(name: string, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const file = find(name)
    if (file === undefined) throw new CausewayError('not-found', `There is nothing at ${request.url.split('?', 1)[0]}`)
    // Asked for again on each visit, so that a page never has scripts of an older version.
    reply.header('cache-control', 'no-cache').header('etag', file.etag)
    if (request.headers['if-none-match'] === file.etag) return reply.code(304).send()
    return reply.type(file.type).send(file.bytes)
  }

  app.get('/', { schema: { hide: true } }, (request, reply) => send('index.html', request, reply.headers(PAGE_HEADERS)))
  app.get<{ Params: { name: string } }>('/console/:name', { schema: { hide: true } }, (request, reply) =>
    send(request.params.name, request, reply),
  )
}

function readFiles(): [string, File][] {
  return readdirSync(FOLDER)
    .filter((name) => extname(name) in TYPES)
    .map((name) => [name, fileOf(extname(name), readFileSync(new URL(name, FOLDER)))])
}

function fileOf(extension: string, bytes: Buffer): File {
  const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`
  return { type: TYPES[extension] ?? 'application/json; charset=utf-8', bytes, etag }
}
