import { fileURLToPath } from 'node:url'
import { inject } from 'vitest'

/**
 * The path of a built file, such as `main.js`. `build.ts` has built `dist/` before the first test.
 * @throws what the compiler said, where `src/` does not compile
 */
export function distFile(name: string): string {
  const error = inject('buildError')
  if (error !== '') throw new Error(`This test runs dist/, and \`npm run build\` fails:\n${error}`)
  return fileURLToPath(new URL(`../../dist/${name}`, import.meta.url))
}
