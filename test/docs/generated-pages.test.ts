import { expect, test } from 'vitest'
import { generatedPages } from '../../docs/generate.ts'

test('the tables of settings, problems and metrics are what the code says', async () => {
  for (const { page, committed, generated } of await generatedPages()) expect(committed, page).toBe(generated)
})

test('a generated table names what it is of', async () => {
  const rows = Object.fromEntries((await generatedPages()).map(({ page, generated }) => [page, generated.split('\n')]))
  expect(rows['configuration.md']).toContain(
    '| `CAUSEWAY_HTTP_PORT` | `8080` | Port to listen on; 0 for any free port |',
  )
  expect(rows['configuration.md']!.find((row) => row.startsWith('| `CAUSEWAY_ADMIN_PORT` | – |'))).toBeDefined()
  expect(rows['errors.md']).toContain(
    '| `no-reply` | 504 | yes | Nobody replied in time | Nobody replied within 5000 ms |',
  )
  expect(rows['errors.md']).toContain('| 0x87 | Not authorized | 403 | `not-authorized` |')
  expect(rows['metrics.md']).toContain('| `causeway_mqtt_reconnects_total` | `role` | Reconnects to the broker |')
})
