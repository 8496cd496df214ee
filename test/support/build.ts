import { spawnSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { TestProject } from 'vitest/node'

const ROOT = resolve(import.meta.dirname, '../..')

declare module 'vitest' {
  interface ProvidedContext {
    /** What the compiler said when `dist/` could not be built; empty when `dist/` is up to date. */
    buildError: string
  }
}

/**
 * Vitest runs this once in its main process, before it starts a worker, so two workers never build at the same time. It
 * builds `dist/` when that is missing or older than `src/`. A build that fails stops only the tests that need it:
 * `distFile` throws in them.
 */
export default function setup(project: TestProject): void {
  project.provide('buildError', build())
  project.onTestsRerun(() => project.provide('buildError', build()))
}

/** Writes nothing where `src/` does not compile, so that `dist/` stays out of date and the next run tries again. */
function build(): string {
  if (isUpToDate()) return ''
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'build.mjs')], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  return status === 0 ? '' : `${stdout}${stderr}`.trim() || `build.mjs ended with status ${status}`
}

function isUpToDate(): boolean {
  const builtAt = modifiedAt('dist/main.js')
  // A folder changes when a file in it is deleted or renamed.
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).map((name) => join('src', name))
  return ['src', 'build.mjs', 'tsconfig.json', 'tsconfig.build.json', ...sources].every(
    (path) => modifiedAt(path) < builtAt,
  )
}

/** Milliseconds; 0 for a file that is missing. */
function modifiedAt(path: string): number {
  return statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? 0
}
