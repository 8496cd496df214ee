/** A value that is created when it is first needed. */
export class Lazy<Value> {
  readonly #create: () => Value
  #value: Value | undefined

  constructor(create: () => Value) {
    this.#create = create
  }

  get(): Value {
    return (this.#value ??= this.#create())
  }

  /** The value if it was created, without creating it. */
  get existing(): Value | undefined {
    return this.#value
  }
}
