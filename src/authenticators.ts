import type { BaseLogger } from 'pino'
import type { Admission, Authenticator } from './auth/authenticator.ts'
import { ANYONE } from './auth/identity.ts'
import { parseTokenFile, TokenFileError } from './auth/token-file.ts'
import { Tokens } from './auth/tokens.ts'
import type { Config } from './config.ts'

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
  return { authenticate: async (): Promise<Admission> => ({ identity: ANYONE }), reload: () => {} }
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

function explain(error: unknown): string {
  return error instanceof TokenFileError ? error.message : `expected a readable file (${(error as NodeJS.ErrnoException).code ?? error})`
}
