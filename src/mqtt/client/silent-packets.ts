import { createRequire } from 'node:module'

/*
 * Spares mqtt-packet its debug lines, unless the environment variable DEBUG asks for them. It calls the library `debug`
 * some forty times for a publish and its acknowledgement. These calls, which do nothing, were 5 % of the instructions
 * of a publish. Every module that imports `mqtt-packet` or `mqtt` imports this one first.
 */
const require = createRequire(createRequire(import.meta.url).resolve('mqtt-packet'))
const path = require.resolve('debug')
type Debug = (namespace: string) => (...values: unknown[]) => void
const debug = require(path) as Debug & { enabled(namespace: string): boolean }

const quiet: Debug = (namespace) =>
  namespace.startsWith('mqtt-packet:') && !debug.enabled(namespace) ? () => {} : debug(namespace)

require.cache[path]!.exports = Object.assign(quiet, debug)
