import { newToken } from './auth/token/new-token.ts'

// Prints a new token and its entry for `CAUSEWAY_AUTH_TOKENS_FILE`. The token is not stored anywhere.
const [name, ...more] = process.argv.slice(2)
if (!name || more.length > 0) {
  process.stderr.write('usage: npm run --silent token -- NAME\n')
  process.exit(1)
}
const { token, entry } = newToken(name)
process.stdout.write(`${token}\n${JSON.stringify(entry)}\n`)
