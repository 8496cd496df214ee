import type { Scenario } from '../scenario.ts'

const TIMES = {
  check: { warmUp: 0.1, seconds: 1 },
  quick: { warmUp: 0.5, seconds: 1 },
  full: { warmUp: 2, seconds: 5 },
}
const READERS = { check: 10, quick: 1000, full: 1000 }

/** What the load generators reach on servers that do nothing. A figure of the bridge near these is limited by them. */
export const ceilings: Scenario = {
  name: 'ceilings',
  title: 'The load generators by themselves',
  subjects: {
    posts: {
      title: 'posts to a constant answer',
      measure: async (stage, effort) =>
        stage.worker('load/posts.ts').call('run', {
          port: await stage.worker('servers/constant.ts').call('listen'),
          connections: 64,
          qos: 1,
          ...TIMES[effort],
        }),
    },
    readers: {
      title: 'readers of constant events',
      async measure(stage, effort) {
        const server = stage.worker('servers/constant.ts')
        const port = await server.call<number>('listen')
        const readers = stage.worker('load/readers.ts')
        await readers.call('open', { port, paths: ['/'], count: READERS[effort] })
        await server.call('begin')
        await readers.call('count', { seconds: TIMES[effort].warmUp })
        return { rate: await readers.call<number>('count', { seconds: TIMES[effort].seconds }) }
      },
    },
  },
  rows: [
    { what: 'posts, 64 connections', unit: 'requests/s', subject: 'posts', metric: 'rate' },
    { what: 'readers, 1,000', unit: 'events/s', subject: 'readers', metric: 'rate' },
  ],
}
