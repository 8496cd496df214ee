import type { BaseLogger } from 'pino'
import type { Admission, Authenticator } from './authenticator.ts'
import { ANYONE } from './identity.ts'
import { Jwt } from './jwt/jwt.ts'
import { RemoteKeys } from './jwt/keys.ts'
import { fromClaim, fromTemplates, type RulesOf } from './jwt/rules-of-claims.ts'
import { parseTokenFile, TokenFileError } from './token/token-file.ts'
import { Tokens } from './token/tokens.ts'
import type { Config } from '../config/config.ts'

export interface AuthenticatorOptions {
  config: Config
  readFile(path: string): string
  logger: BaseLogger
}

/** An authenticator and what it has read. */
export interface ReloadableAuthenticator extends Authenticator {
  /** Reads its files again; keeps what it has where they cannot be used, and logs why. */
  reload(): void
}

/**
 * The authenticator that `CAUSEWAY_AUTH` names, for callers that share one link.
 * @throws Error that says why the file of tokens cannot be used
 */
export function createAuthenticator({ config, readFile, logger }: AuthenticatorOptions): ReloadableAuthenticator {
  if (config.auth === 'token') return fromTokenFile(config.authTokensFile!, readFile, logger)
  if (config.auth === 'jwt') return { ...jwt(config, logger), reload: () => {} }
  const admission: Admission = { identity: ANYONE }
  return { authenticate: () => admission, reload: () => {} }
}

function fromTokenFile(path: string, readFile: (path: string) => string, logger: BaseLogger): ReloadableAuthenticator {
  const read = () => parseTokenFile(readFile(path))
  const tokens = new Tokens(attempt())

  function attempt(): ReturnType<typeof read> {
    try {
      return read()
    } catch (error) {
      throw new Error(`CAUSEWAY_AUTH_TOKENS_FILE ${path}: ${explain(error)}`, { cause: error })
    }
  }

  return {
    authenticate: (credentials) => tokens.authenticate(credentials),
    reload() {
      try {
        const entries = attempt()
        tokens.replace(entries)
        logger.info(`${entries.length} tokens read from ${path}`)
      } catch (error) {
        logger.error(`the tokens stay as they were: ${(error as Error).message}`)
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
