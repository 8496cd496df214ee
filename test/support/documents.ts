import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export interface Page {
  /** Its path from the root of the repository. */
  path: string
  text: string
}

export interface Fence {
  /** Where it begins, as `docs/tls.md:12`. */
  place: string
  language: string
  /** What follows the language in the first line. */
  mark: string
  text: string
}

/** The documents for users: the README, the pages in `docs`, and the README of each folder that has one. */
export function pages(): Page[] {
  const inDocs = readdirSync(`${ROOT}docs`).filter((name) => name.endsWith('.md'))
  const paths = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'bench/README.md']
  paths.push('examples/README.md', ...inDocs.map((name) => `docs/${name}`))
  return paths.map((path) => ({ path, text: readFileSync(ROOT + path, 'utf8') }))
}

export function fencesOf({ path, text }: Page): Fence[] {
  return [...text.matchAll(/^( *)```(\S*) ?(.*)\n((?:.*\n)*?)\1```$/gm)].map(
    ([, indent, language, mark, body], index, all) => ({
      place: `${path}:${text.slice(0, all[index]!.index).split('\n').length}`,
      language: language!,
      mark: mark!,
      text: body!.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
    }),
  )
}
