/** CAUSEWAY_TEST_SEED, or a random one. */
export function seedFromEnvironment(): number {
  const { CAUSEWAY_TEST_SEED } = process.env
  return CAUSEWAY_TEST_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(CAUSEWAY_TEST_SEED)
}
