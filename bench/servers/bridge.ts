import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Stage } from '../stage.ts'

export interface Bridge {
  port: number
  pid: number
}

/**
 * Starts the built bridge with its default settings and these. Resolves when it listens.
 * @param dist the folder of the build
 * @param nodeOptions in addition to those of the stage
 */
export async function startBridge(
  stage: Stage,
  settings: Record<string, string | number>,
  dist = stage.dist,
  nodeOptions: readonly string[] = [],
): Promise<Bridge> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CAUSEWAY_'))
  const own = Object.entries({ HTTP_PORT: 0, ...settings }).map(([name, value]) => [`CAUSEWAY_${name}`, String(value)])
  const child = spawn(stage.node, [...stage.nodeOptions, ...nodeOptions, join(dist, 'main.js')], {
    env: Object.fromEntries([...inherited, ...own]),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  stage.child(child)
  let stdout = ''
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      const found = /metrics: +http:\/\/127\.0\.0\.1:(\d+)\/metrics/.exec(stdout)
      if (found !== null) resolve(Number(found[1]))
    })
    child.once('exit', (code) => reject(new Error(`the bridge exited with ${code}:\n${stdout}`)))
  })
  return { port, pid: child.pid! }
}
