import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command, Place } from '../broker-process.ts'
import { cached, commandPath } from './cache.ts'

/** Of a broker that is embedded in a Java program of ours. */
interface JavaBroker {
  name: string
  version: string
  /** `group:artifact:version` */
  artifacts: string[]
  /** `group:artifact` of what the artifacts ask for in vain. */
  exclusions?: string[]
  /** A file of `java/`, whose arguments are port, directory, and user name and password where there is an account. */
  program: string
  jvmOptions?: string[]
}

/** How to start it; a sentence where it cannot be had. */
export async function fromMaven({
  name,
  version,
  artifacts,
  exclusions = [],
  program,
  jvmOptions = [],
}: JavaBroker): Promise<((place: Place) => Command) | string> {
  const java = commandPath('java')
  if (java === undefined || commandPath('mvn') === undefined) return 'it needs Java and Maven'
  const left = exclusions.map((each) => {
    const [group, artifact] = each.split(':')
    return `<exclusion><groupId>${group}</groupId><artifactId>${artifact}</artifactId></exclusion>`
  })
  const dependencies = artifacts.map((each) => {
    const [group, artifact, artifactVersion] = each.split(':')
    return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId>
<version>${artifactVersion}</version><exclusions>${left.join('')}</exclusions></dependency>`
  })
  const directory = await cached(`${name}-${version}`, async (target, execute) => {
    writeFileSync(
      join(target, 'pom.xml'),
      `<project><modelVersion>4.0.0</modelVersion><groupId>causeway</groupId><artifactId>${name}</artifactId>
<version>1</version><dependencies>${dependencies.join('\n')}</dependencies></project>`,
    )
    await execute('mvn', [
      '-q',
      '-B',
      'dependency:copy-dependencies',
      '-DoutputDirectory=lib',
      '-DincludeScope=runtime',
    ])
  })
  const source = fileURLToPath(new URL(`java/${program}`, import.meta.url))
  return ({ port, directory: place, account }) => ({
    file: java,
    args: [
      '-Xmx512m',
      ...jvmOptions,
      '-cp',
      `${join(directory, 'lib')}/*`,
      source,
      String(port),
      place,
      ...(account === undefined ? [] : [account.username, account.password]),
    ],
  })
}
