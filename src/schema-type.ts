import type TypeBox from 'typebox'

interface Schema {
  [keyword: string]: unknown
}

/** Marks a member that may be missing. Not enumerable, so it is not in the JSON. */
const OPTIONAL = Symbol('optional')

const constructors = {
  Array: (items: Schema, options?: Schema): Schema => ({ type: 'array', items, ...options }),
  Boolean: (options?: Schema): Schema => ({ type: 'boolean', ...options }),
  Enum: (values: readonly unknown[], options?: Schema): Schema => ({ enum: values, ...options }),
  Integer: (options?: Schema): Schema => ({ type: 'integer', ...options }),
  Object(properties: Record<string, Schema>, options?: Schema): Schema {
    const required = Object.keys(properties).filter((name) => !(OPTIONAL in properties[name]!))
    return { type: 'object', ...(required.length > 0 && { required }), properties, ...options }
  },
  Optional: (schema: Schema): Schema => Object.defineProperty({ ...schema }, OPTIONAL, { value: true }),
  String: (options?: Schema): Schema => ({ type: 'string', ...options }),
  Union: (anyOf: readonly Schema[], options?: Schema): Schema => ({ anyOf, ...options }),
  Unknown: (options?: Schema): Schema => ({ ...options }),
  Unsafe: (schema: Schema): Schema => schema,
}

/**
 * The constructors of TypeBox that the bridge uses, with TypeBox's types. Each returns a plain JSON Schema. TypeBox
 * itself takes 140 ms of processor time and 19 MB at each start, for types that only the compiler needs.
 */
export const Type = constructors as unknown as Pick<typeof TypeBox, keyof typeof constructors>
