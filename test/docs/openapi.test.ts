import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { openApiYaml } from '../../openapi/generate.ts'
import { PROBLEM_KINDS } from '../../src/errors.ts'

const committed = readFileSync(new URL('../../openapi/openapi.yaml', import.meta.url), 'utf8')
const document = parse(committed)
const operations = Object.entries(document.paths as Record<string, Record<string, any>>).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })),
)

const parametersOf = (operation: any): any[] => operation.parameters ?? []

test('the committed document is what the code says', async () => {
  expect(await openApiYaml()).toBe(committed)
})

test('every problem has an example with its own status', () => {
  const examples = document.components.examples as Record<string, { value: { code: string; status: number } }>
  expect(Object.entries(examples).map(([code, { value }]) => [code, value.code, value.status])).toEqual(
    [...PROBLEM_KINDS.values()].map(({ code, status }) => [code, code, status]),
  )
})

test.each(operations)('$name has an example of each answer, each body and each parameter it needs', ({ operation }) => {
  const contents = [operation.requestBody, ...Object.values(operation.responses)].flatMap((part) =>
    Object.values(part?.content ?? {}),
  ) as any[]
  expect(contents.length).toBeGreaterThan(0)
  for (const content of contents) {
    expect(
      content.examples ?? content.example ?? content.schema?.examples ?? content.schema?.example,
      JSON.stringify(content),
    ).toBeDefined()
  }
  for (const parameter of parametersOf(operation).filter(({ required }) => required)) {
    expect(parameter.example, parameter.name).toBeDefined()
  }
})

// The bridge does not check its schemas at the start: a misspelt type or a wrong bound would only let requests through.
test('every schema is a valid one of JSON Schema 2020-12', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  const schemas: unknown[] = Object.values(document.components.schemas)
  JSON.stringify(document.paths, (key, value) => {
    if (key === 'schema') schemas.push(value)
    return value
  })
  expect(schemas.length).toBeGreaterThan(operations.length)
  for (const schema of schemas) expect(ajv.validateSchema(schema as object), JSON.stringify(schema)).toBe(true)
  expect(ajv.validateSchema({ type: 'strnig' })).toBe(false)
})

test('a parameter with a default may be left out, and every one says what it is of', () => {
  const parameters = operations.flatMap(({ operation }) => parametersOf(operation))
  expect(parameters.some(({ schema }) => schema.default !== undefined)).toBe(true)
  for (const { name, required, schema, description } of parameters) {
    expect({ name, type: schema.type, description }).toEqual({
      name,
      type: expect.any(String),
      description: expect.any(String),
    })
    if (schema.default !== undefined) expect({ name, required }).toEqual({ name, required: false })
  }
})

test('a filter may be repeated', () => {
  const filter = parametersOf(document.paths['/subscribe'].get).find(({ name }) => name === 'topic')
  expect(filter).toMatchObject({ in: 'query', required: true, explode: true, schema: { type: 'array' } })
})

test('every reference resolves', () => {
  const references = [...committed.matchAll(/\$ref: "#\/([^"]+)"/g)].map(([, path]) => path!)
  expect(references.length).toBe(committed.split('$ref').length - 1)
  for (const path of references) {
    expect(
      path.split('/').reduce((node, key) => node?.[key], document),
      path,
    ).toBeDefined()
  }
})

test('the page at /docs and its description are of one origin', () => {
  expect(document.servers).toEqual([{ url: '/' }])
})

test('each operation has a name of its own, and a tag that is described', () => {
  const tags = (document.tags as { name: string; description: string }[]).map(({ name }) => name)
  const names = operations.map(({ operation }) => operation.operationId as string)
  expect(new Set(names).size).toBe(names.length)
  for (const { name, operation } of operations) {
    expect(operation.operationId, name).toMatch(/^[a-z][A-Za-z]+$/)
    expect(
      operation.tags.filter((tag: string) => !tags.includes(tag)),
      name,
    ).toEqual([])
    expect(operation.tags, name).toHaveLength(1)
  }
})

test('messages, events, results and problems have names, by which operations refer to them', () => {
  const schemaOf = (path: string, method: string, status: string, type = 'application/json') =>
    document.paths[path][method].responses[status].content[type].schema
  const named = (name: string) => ({ $ref: `#/components/schemas/${name}` })
  expect(document.paths['/publish'].post.requestBody.content['application/json'].schema).toEqual(named('Message'))
  expect(schemaOf('/publish', 'post', '200')).toMatchObject(named('PublishResult'))
  expect(schemaOf('/publish/batch', 'post', '207').items).toEqual(named('BatchResult'))
  expect(schemaOf('/retained', 'get', '200').items).toEqual(named('Message'))
  expect(schemaOf('/retained', 'get', '200', 'application/octet-stream').format).toBe('binary')
  expect(schemaOf('/subscribe', 'get', '200', 'application/x-ndjson').contentSchema).toEqual(named('Event'))
  for (const { name, operation } of operations) {
    expect(operation.responses.default, name).toEqual({ $ref: '#/components/responses/Problem' })
  }
  // A client that knows the default need not send it.
  expect(document.components.schemas.Message.required).toEqual(['topic'])
  expect(JSON.stringify(document.components.schemas)).not.toMatch(/"(default|if|then|else|\$id)":/)
})
