import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const CLIENTS = fileURLToPath(new URL('.', import.meta.url))
/** Where `npm run test:clients` puts what comes from other registries than npm's. */
export const CACHE = join(CLIENTS, 'node_modules/.cache')
/** The Python of a virtual environment with `requirements.txt`. */
export const PYTHON = join(CACHE, 'python/bin/python')

/** Whether the packages of `test/clients/package.json` are there: after `npm run clients:install`, and always in CI. */
export const hasPackages = existsSync(join(CLIENTS, 'node_modules/openapi-fetch'))
export const hasPython = existsSync(PYTHON)
