import type { BaseLogger } from 'pino'
import type { Config } from '../config/config.ts'
import type { Admission, Authenticator } from './authenticator.ts'
import { ANYONE } from './identity.ts'
import { Jwt } from './jwt/jwt.ts'
import { RemoteKeys } from './jwt/keys.ts'
import { fromClaim, fromTemplates, type RulesOf } from './jwt/rules-of-claims.ts'
import { parseTokenFile, TokenFileError } from './token/token-file.ts'
import { Tokens } from './token/tokens.ts'

export interface AuthenticatorOptions {
  config: Config
  readFile(path: string): string
  logger: BaseLogger
}

export interface ReloadableAuthenticator extends Authenticator {
  /** Reads the files again. One that cannot be used is logged, and what was read before stays in use. */
  reload(): void
}

/**
 * The authenticator that `CAUSEWAY_AUTH` names. With `broker` it lets nobody in: there callers are authenticated by the
 * links that are opened with their credentials.
 * @throws Error that says why the token file or the JWT rules cannot be used
 */
export function createAuthenticator({ config, readFile, logger }: AuthenticatorOptions): ReloadableAuthenticator {
  const { auth } = config
  switch (auth) {
    case 'none':
      return anonymous()
    case 'token':
      return fromTokenFile(config.authTokensFile!, readFile, logger)
    case 'jwt':
      return { ...jwt(config, logger), reload: () => {} }
    case 'broker':
      return authenticatedElsewhere()
    default:
      // The compiler refuses this line while a mode is missing above: `auth` is `never` only if all are handled.
      throw new Error(`unknown authentication mode ${JSON.stringify(auth satisfies never)}`)
  }
}

function anonymous(): ReloadableAuthenticator {
  const admission: Admission = { identity: ANYONE }
  return { authenticate: () => admission, reload: () => {} }
}

function authenticatedElsewhere(): ReloadableAuthenticator {
  return {
    authenticate() {
      throw new Error('with CAUSEWAY_AUTH=broker callers are authenticated by their links')
    },
    reload: () => {},
  }
}

function fromTokenFile(path: string, readFile: (path: string) => string, logger: BaseLogger): ReloadableAuthenticator {
  const tokens = new Tokens(read())

  function read(): ReturnType<typeof parseTokenFile> {
    try {
      return parseTokenFile(readFile(path))
    } catch (error) {
      throw new Error(`CAUSEWAY_AUTH_TOKENS_FILE ${path}: ${explain(error)}`, { cause: error })
    }
  }

  return {
    authenticate: (credentials) => tokens.authenticate(credentials),
    reload() {
      try {
        const entries = read()
        tokens.replace(entries)
        logger.info(`${entries.length} tokens read from ${path}`)
      } catch (error) {
        logger.error(`tokens not reloaded, the current ones stay in use: ${(error as Error).message}`)
      }
    },
  }
}

function jwt(config: Config, logger: BaseLogger): Authenticator {
  const {
    jwtJwksUrl,
    jwtSecret,
    jwtIssuer,
    jwtAudience,
    jwtAlgorithms = jwtSecret === undefined ? 'RS256,ES256,EdDSA' : 'HS256',
  } = config
  const secret = jwtSecret === undefined ? undefined : new TextEncoder().encode(jwtSecret)
  const key = secret === undefined ? remoteKeys(jwtJwksUrl!, logger).find : async () => secret
  const verifier = new Jwt({
    key,
    issuer: jwtIssuer!,
    audience: jwtAudience!,
    algorithms: jwtAlgorithms.split(','),
    rulesOf: jwtRules(config),
  })
  return { authenticate: (credentials) => verifier.authenticate(credentials) }
}

function remoteKeys(url: string, logger: BaseLogger): RemoteKeys {
  return new RemoteKeys({
    url,
    onState(available, cause) {
      if (available) logger.info('the keys of CAUSEWAY_JWT_JWKS_URL can be fetched again')
      else {
        logger.warn(
          { reason: (cause as Error).message },
          'the keys of CAUSEWAY_JWT_JWKS_URL cannot be fetched; trying again when a token needs one',
        )
      }
    },
  })
}

function jwtRules({ jwtClaim, jwtPublish, jwtSubscribe }: Config): RulesOf {
  if (jwtPublish === undefined && jwtSubscribe === undefined) return fromClaim(jwtClaim!)
  const templates = { publish: jwtPublish?.split(',') ?? [], subscribe: jwtSubscribe?.split(',') ?? [] }
  try {
    return fromTemplates(templates)
  } catch (error) {
    throw new Error(`CAUSEWAY_JWT_PUBLISH, CAUSEWAY_JWT_SUBSCRIBE: ${(error as Error).message}`, { cause: error })
  }
}

function explain(error: unknown): string {
  return error instanceof TokenFileError
    ? error.message
    : `expected a readable file (${(error as NodeJS.ErrnoException).code ?? error})`
}
