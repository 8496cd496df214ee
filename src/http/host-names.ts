import { isIP } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../errors.ts'

/**
 * Refuses requests that call the bridge by a name that is not its own. A page may have its own name resolve to the
 * loopback address of whoever looks at it, and is then of the bridge's origin as far as any browser can tell.
 * @param names those it has beside `localhost` and addresses, in small letters
 */
export function requireOwnName(app: FastifyInstance, names: ReadonlySet<string>): void {
  app.addHook('onRequest', (request, _reply, done) => {
    // Lower case, and without the brackets of IPv6, as URLs are.
    const name = request.hostname.toLowerCase().replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
    if (name === '' || name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0 || names.has(name)) return done()
    done(new CausewayError('misdirected', `This bridge is not known as ${name}; CAUSEWAY_HTTP_NAMES names what it is known as`))
  })
}
