// Loaded into the bridge process by `--import`: it tells the test, over the IPC channel, what is really held. Garbage is
// collected first, which needs `--expose-gc`; without that a heap says more about the collector than about leaks.
import { monitorEventLoopDelay } from 'node:perf_hooks'

const delay = monitorEventLoopDelay({ resolution: 20 })
delay.enable()

process.on('message', () => {
  globalThis.gc()
  globalThis.gc()
  const { heapUsed, external } = process.memoryUsage()
  process.send({ heapUsed, external, loopMaxMs: Math.round(delay.max / 1e6) })
  delay.reset()
})
// The channel must not keep a bridge alive that has shut down.
process.channel.unref()
