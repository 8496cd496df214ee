import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cached, commandPath } from './cache.ts'

interface GoBroker {
  name: string
  version: string
  module: string
  /** A file of `go/` that embeds it, else the module's own. Its arguments: port, directory, user name, password. */
  program?: string
  /** The folder of the module's own program, where it is not at the top. */
  command?: string
}

/** The path of the built program. @throws where it cannot be fetched or built */
export async function fromGo({ name, version, module, program, command = '' }: GoBroker): Promise<string | undefined> {
  if (commandPath('go') === undefined) return undefined
  const directory = await cached(`${name}-${version}`, async (target, execute) => {
    writeFileSync(join(target, 'go.mod'), 'module causeway\n\ngo 1.24\n')
    await execute('go', ['get', `${module}${command}@v${version}`])
    if (program !== undefined) {
      copyFileSync(fileURLToPath(new URL(`go/${program}`, import.meta.url)), join(target, 'main.go'))
      await execute('go', ['mod', 'tidy'])
    }
    await execute('go', ['build', '-o', 'broker', program === undefined ? `${module}${command}` : '.'])
  })
  return join(directory, 'broker')
}
