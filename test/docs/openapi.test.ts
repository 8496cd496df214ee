import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { openApiYaml } from '../../openapi/generate.ts'
import { PROBLEM_KINDS } from '../../src/errors.ts'

const committed = readFileSync(new URL('../../openapi/openapi.yaml', import.meta.url), 'utf8')
const document = parse(committed)
const operations = Object.entries(document.paths as Record<string, Record<string, any>>).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })),
)

test('the committed document is what the code says', async () => {
  expect(await openApiYaml()).toBe(committed)
})

test('every problem has an example with its own status', () => {
  const examples = document.components.examples as Record<string, { value: { code: string; status: number } }>
  expect(Object.entries(examples).map(([code, { value }]) => [code, value.code, value.status])).toEqual([...PROBLEM_KINDS.values()].map(({ code, status }) => [code, code, status]))
})

test.each(operations)('$name has an example of each answer and each body', ({ operation }) => {
  const contents = [operation.requestBody, ...Object.values(operation.responses)].flatMap((part) => Object.values(part?.content ?? {})) as any[]
  expect(contents.length).toBeGreaterThan(0)
  for (const content of contents) expect(content.examples ?? content.example ?? content.schema?.examples ?? content.schema?.example, JSON.stringify(content)).toBeDefined()
})

test('every reference resolves', () => {
  for (const [, path] of committed.matchAll(/\$ref: "?#\/([\w/]+)/g)) {
    expect(path!.split('/').reduce((node, key) => node?.[key], document), path).toBeDefined()
  }
})
