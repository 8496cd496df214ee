import type { BaseLogger } from 'pino'
import type { Config } from '../config/config.ts'
import type { MemoryAccount } from '../memory/account.ts'
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
  memory: MemoryAccount
}

export interface ReloadableAuthenticator extends Authenticator {
  /**
   * Reads files and keys again, and verifies remembered tokens again. What cannot be read is logged, and what was read
   * before stays in use. Never rejects.
   */
  reload(): void | Promise<void>
}

/**
 * The authenticator that `CAUSEWAY_AUTH` names. With `broker` it lets nobody in: there callers are authenticated by the
 * links that are opened with their credentials.
 * @throws Error that says why the token file or the JWT rules cannot be used
 */
export function createAuthenticator({
  config,
  readFile,
  logger,
  memory,
}: AuthenticatorOptions): ReloadableAuthenticator {
  const { auth } = config
  switch (auth) {
    case 'none':
      return anonymous()
    case 'token':
      return fromTokenFile(config.authTokensFile!, readFile, logger)
    case 'jwt':
      return jwt(config, logger, memory)
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

function jwt(config: Config, logger: BaseLogger, memory: MemoryAccount): ReloadableAuthenticator {
  const {
    jwtJwksUrl,
    jwtSecret,
    jwtIssuer,
    jwtAudience,
    jwtAlgorithms = jwtSecret === undefined ? 'RS256,ES256,EdDSA' : 'HS256',
    jwtTrustS,
  } = config
  const secret = jwtSecret === undefined ? undefined : new TextEncoder().encode(jwtSecret)
  const keys = secret === undefined ? remoteKeys(jwtJwksUrl!, logger, () => void verifier.verifyAll()) : undefined
  const verifier: Jwt = new Jwt({
    key: keys?.find ?? (async () => secret!),
    issuer: jwtIssuer!,
    audience: jwtAudience!,
    algorithms: jwtAlgorithms.split(','),
    rulesOf: jwtRules(config),
    shareOf: (name) => memory.shareOf(name),
    trustMs: jwtTrustS === undefined ? undefined : jwtTrustS * 1000,
    onRemembered: () => keys?.keepFresh(),
  })
  return {
    authenticate: (credentials) => verifier.authenticate(credentials),
    async reload() {
      await keys?.reload()
      await verifier.verifyAll()
    },
  }
}

function remoteKeys(url: string, logger: BaseLogger, onChanged: () => void): RemoteKeys {
  return new RemoteKeys({
    url,
    onChanged() {
      logger.info('the keys of CAUSEWAY_JWT_JWKS_URL have changed; tokens are verified again')
      onChanged()
    },
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
