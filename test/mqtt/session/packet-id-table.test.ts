import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PacketIdTable } from '../../../src/mqtt/session/packet-id-table.ts'

test('it holds what a Map would, by identifier', () => {
  const id = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom(1, 255, 256, 257, 65_535))
  const step = fc.record({ id, value: fc.option(fc.nat()) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const [table, map] = [new PacketIdTable<number>(), new Map<number, number>()]
      for (const { id: at, value } of steps) {
        if (value === null) expect(table.delete(at)).toBe(map.delete(at))
        else {
          table.set(at, value)
          map.set(at, value)
        }
        expect(table.get(at)).toBe(map.get(at))
        expect(table.size).toBe(map.size)
      }
      const byId = [...map].toSorted(([a], [b]) => a - b).map(([, value]) => value)
      expect([...table.values()]).toEqual(byId)
      table.clear()
      expect([table.size, ...table.values()]).toEqual([0])
    }),
  )
})
