import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isPageFile, type PageFile, pageFile, sendPageFile } from './page-files.ts'

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

/**
 * The page at `/`, which calls the other routes with the credentials of its user. Its files need none: they are the
 * same for everybody.
 */
export async function consoleRoutes(app: FastifyInstance, settings: ConsoleRoutes): Promise<void> {
  let files: Map<string, PageFile> | undefined

  /** Read at the first request, as it is not there before the page is built. */
  function find(name: string): PageFile | undefined {
    files ??= new Map([...readFiles(), ['settings.json', settingsFile()]])
    return files.get(name)
  }

  function settingsFile(): PageFile {
    // At the first request all routes are registered, also those behind this one.
    const push = app.hasRoute({ method: 'GET', url: '/push' })
    return pageFile('settings.json', Buffer.from(JSON.stringify({ ...settings, push })))
  }

  function send(name: string, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    return sendPageFile(find(name), request, reply)
  }

  app.get('/', { schema: { hide: true } }, (request, reply) => send('index.html', request, reply.headers(PAGE_HEADERS)))
  app.get<{ Params: { name: string } }>('/console/:name', { schema: { hide: true } }, (request, reply) =>
    send(request.params.name, request, reply),
  )
}

function readFiles(): [string, PageFile][] {
  return readdirSync(FOLDER)
    .filter(isPageFile)
    .map((name) => [name, pageFile(name, readFileSync(new URL(name, FOLDER)))])
}
