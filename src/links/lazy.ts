/** Something that is made when it is first needed. */
export class Lazy<Value> {
  readonly #make: () => Value
  #made: Value | undefined

  constructor(make: () => Value) {
    this.#make = make
  }

  get(): Value {
    return (this.#made ??= this.#make())
  }

  get made(): Value | undefined {
    return this.#made
  }

  /** It, once it is made. */
  get list(): Value[] {
    return this.#made === undefined ? [] : [this.#made]
  }
}
