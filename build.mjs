/*
 * Builds `dist/`: the bridge for Node, and in `dist/console/` the page for browsers with the files that it loads. Writes
 * nothing of a part that does not compile. Exits with 1 then.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = import.meta.dirname
const PAGE = join(ROOT, 'dist/console')
const UPLOT = 'node_modules/uplot'

for (const project of ['tsconfig.build.json', 'src/console/tsconfig.json']) {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [compiler, '-p', project, '--noEmitOnError'], {
    cwd: ROOT,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(1)
}
mkdirSync(PAGE, { recursive: true })
for (const name of ['index.html', 'style.css', 'icon.svg']) {
  copyFileSync(join(ROOT, 'src/console', name), join(PAGE, name))
}
for (const [from, to] of [
  ['dist/uPlot.iife.min.js', 'uplot.js'],
  ['dist/uPlot.min.css', 'uplot.css'],
  ['LICENSE', 'uplot-license.txt'],
]) {
  copyFileSync(join(ROOT, UPLOT, from), join(PAGE, to))
}
