/*
 * Builds `dist/`: the bridge for Node, and in `dist/console/` the page for browsers with the files that it loads. Writes
 * nothing of a part that does not compile. Exits with 1 then.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { rolldown } from 'rolldown'

const ROOT = import.meta.dirname
const SOURCE = join(ROOT, 'src')
const PAGE = join(ROOT, 'dist/console')
const UPLOT = 'node_modules/uplot'

let modulesOfMain, modulesOfServe

for (const project of ['tsconfig.build.json', 'src/console/tsconfig.json']) {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [compiler, '-p', project, '--noEmitOnError'], {
    cwd: ROOT,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(1)
}
await bundle()
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

/**
 * Writes one file for each room of the code instead of one for each module: to find and link 200 modules took Node a
 * fifth of the processor time of a start. Packages are not part of it.
 */
async function bundle() {
  const build = await rolldown({
    cwd: ROOT,
    // The command, and what `exports` in package.json names.
    input: { main: 'src/main.ts', app: 'src/app.ts', 'config/config': 'src/config/config.ts' },
    platform: 'node',
    external: /^[^./]/,
    // With `minify` below: calls such as decodeURIComponent(text), whose result nobody needs and that are there to throw,
    // would be taken out.
    treeshake: false,
    transform: {
      target: 'es2023',
      // Node's global objects of these names have getters, which V8 cannot compile away: each use cost 150 instructions,
      // which was 1 % of a publish.
      inject: { Buffer: ['node:buffer', 'Buffer'], performance: ['node:perf_hooks', 'performance'] },
    },
    preserveEntrySignatures: 'allow-extension',
  })
  const { output } = await build.write({
    dir: join(ROOT, 'dist'),
    sourcemap: true,
    minifyInternalExports: false,
    minify: false,
    // V8 keeps the text of each file in memory, with two bytes for each character where one of them is not Latin-1.
    comments: false,
    charset: 'ascii',
    chunkFileNames: '[name].js',
    codeSplitting: { includeDependenciesRecursively: false, groups: [{ debugName: 'rooms', name: roomOf }] },
  })
  await build.close()
  refuseCycles(
    new Map(output.filter(({ type }) => type === 'chunk').map(({ fileName, imports }) => [fileName, imports])),
  )
}

/**
 * The file that a module goes to: that of its room, if the bridge loads it at each start. All others are left to
 * Rolldown, so that what only one command or one setting needs is loaded there only, and `causeway --help` stays fast.
 */
function roomOf(id, bundle) {
  const path = relative(SOURCE, id)
  modulesOfMain ??= modulesOf('main.ts', bundle)
  modulesOfServe ??= modulesOf('serve.ts', bundle)
  if (modulesOfMain.has(id) || !modulesOfServe.has(id) || path === 'serve.ts' || path === 'app.ts') return null
  // Changes what packages get when they are loaded, so it must be loaded before the rest of its room loads them.
  if (path === 'mqtt/client/silent-packets.ts') return 'silent-packets'
  // The parent of several workers needs nothing else of its room, nor the rooms that this imports.
  if (path === 'metrics/merge.ts') return 'merge'
  return path.split('/')[0].replace(/\.ts$/, '')
}

/** A module of `src` and all modules that it loads, other than by `import()`. */
function modulesOf(path, bundle) {
  const found = new Set([join(SOURCE, path)])
  // A set also iterates over what is added on the way.
  for (const id of found) for (const imported of bundle.getModuleInfo(id)?.importedIds ?? []) found.add(imported)
  return found
}

/** Files that import each other would run in an order that the modules do not expect. */
function refuseCycles(importsOf) {
  const done = new Set()
  function visit(name, path) {
    if (path.includes(name)) throw new Error(`dist/ has a cycle: ${[...path, name].join(' > ')}`)
    if (done.has(name)) return
    for (const imported of importsOf.get(name) ?? []) visit(imported, [...path, name])
    done.add(name)
  }
  for (const name of importsOf.keys()) visit(name, [])
}
