import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { FastifyInstance } from 'fastify'
import { Lazy } from '../../lazy.ts'
import { sendPieces, slices } from '../message/send-pieces.ts'
import type { DescribedRoute } from './openapi-document.ts'
import { pageFile, sendPageFile } from './page-files.ts'

const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

/** @param folder of the other files, relative to the URL of the page */
const pageHtml = (folder: string): string => `<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>Causeway</title>
    <link rel="stylesheet" href="${folder}/swagger-ui.css" />
    <link rel="stylesheet" href="${folder}/index.css" />
    <link rel="icon" type="image/png" href="${folder}/favicon-32x32.png" />
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="${folder}/swagger-ui-bundle.js"></script>
    <script src="${folder}/swagger-initializer.js"></script>
  </body>
</html>
`

// The page begins as a list of operations, and shows the rest where it is asked to. "Try it out" would wait for the end
// of a stream, which never comes; the page at `/` shows streams.
const INITIALIZER = `SwaggerUIBundle({
  url: new URL('../../openapi.json', document.currentScript.src).href,
  dom_id: '#swagger-ui',
  deepLinking: true,
  layout: 'BaseLayout',
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  plugins: [
    () => ({
      statePlugins: { spec: { wrapSelectors: { allowTryItOutFor: () => (_state, path) => path !== '/subscribe' } } },
    }),
  ],
})
`

/** The files of Swagger UI that the page loads. */
const FILES = ['swagger-ui-bundle.js', 'swagger-ui.css', 'index.css', 'favicon-32x32.png']

/**
 * Serves the OpenAPI document, generated from the schemas that validate requests, and a page that shows it. To be
 * called before the routes are registered: it describes those that come after. What generates the document is loaded
 * with the first request for it: it took an eighth of the processor time of a start, and 8 MB.
 */
export async function docs(app: FastifyInstance, { version }: { version: string }): Promise<void> {
  const { resolve } = createRequire(import.meta.url)
  const routes: DescribedRoute[] = []
  const pages = new Map([
    ['/docs', pageFile('index.html', Buffer.from(pageHtml('docs/static')))],
    ['/docs/', pageFile('index.html', Buffer.from(pageHtml('static')))],
  ])
  const files = new Map([
    ...FILES.map((name) => {
      return [
        name,
        new Lazy(() => pageFile(name, readFileSync(resolve(`@fastify/swagger-ui/static/${name}`)))),
      ] as const
    }),
    ['swagger-initializer.js', new Lazy(() => pageFile('swagger-initializer.js', Buffer.from(INITIALIZER)))],
  ])
  for (const [path, page] of pages) {
    app.get(path, { schema: { hide: true } }, (request, reply) =>
      sendPageFile(page, request, reply.headers(PAGE_HEADERS)),
    )
  }
  app.get<{ Params: { name: string } }>('/docs/static/:name', { schema: { hide: true } }, (request, reply) =>
    sendPageFile(files.get(request.params.name)?.get(), request, reply),
  )

  app.addHook('onRoute', ({ method, url, schema }) => {
    if (method !== 'HEAD') routes.push({ method, url, ...(schema && { schema }) })
  })
  const document = new Lazy(async () => {
    const { openApiDocument } = await import('./openapi-document.ts')
    return Buffer.from(JSON.stringify(await openApiDocument(routes, version)))
  })
  app.get('/openapi.json', { schema: { hide: true } }, async (request, reply) => {
    const bytes = await document.get()
    reply.header('content-length', bytes.length).type('application/json; charset=utf-8')
    return sendPieces(reply, slices(bytes), request.share)
  })
}
