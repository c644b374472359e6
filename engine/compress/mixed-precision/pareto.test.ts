/** The front against trying every combination. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { paretoFront, withinBytes, withinLoss } from './pareto.ts'
import type { Option } from './pareto.ts'

const SEED = 20261129

const units = fc.array(
  fc.array(fc.record({ bytes: fc.integer({ min: 0, max: 50 }), loss: fc.integer({ min: 0, max: 100 }).map((loss) => loss / 8) }), {
    minLength: 1,
    maxLength: 4,
  }),
  { minLength: 1, maxLength: 5 },
)

/** (bytes, loss) of every combination. */
function all(list: readonly (readonly Option[])[]): readonly Option[] {
  return list.reduce<readonly Option[]>(
    (sums, options) => sums.flatMap((sum) => options.map((option) => ({ bytes: sum.bytes + option.bytes, loss: sum.loss + option.loss }))),
    [{ bytes: 0, loss: 0 }],
  )
}

const least = (values: readonly number[]): number | null => (values.length === 0 ? null : Math.min(...values))

describe('multiple-choice knapsack', () => {
  it('finds the least loss for any bytes and the fewest bytes for any loss', () => {
    fc.assert(
      fc.property(units, fc.integer({ min: 0, max: 250 }), fc.double({ min: 0, max: 60, noNaN: true }), (list, bytes, loss) => {
        const front = paretoFront(list)
        const combinations = all(list)
        expect(front.exact).toBe(true)
        expect(withinBytes(front, bytes)?.loss ?? null).toBe(
          least(combinations.filter((each) => each.bytes <= bytes).map((each) => each.loss)),
        )
        expect(withinLoss(front, loss)?.bytes ?? null).toBe(
          least(combinations.filter((each) => each.loss <= loss).map((each) => each.bytes)),
        )
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  it('gives choices that add up to what it says', () => {
    fc.assert(
      fc.property(units, (list) => {
        const front = paretoFront(list)
        front.states.forEach((state, i) => {
          const { choices, bytes, loss } = front.allocation(i)
          expect({ bytes, loss }).toEqual(state)
          expect(choices.reduce((sum, option, unit) => sum + list[unit]![option]!.bytes, 0)).toBe(bytes)
          expect(choices.reduce((sum, option, unit) => sum + list[unit]![option]!.loss, 0)).toBeCloseTo(loss, 9)
        })
      }),
      { seed: SEED, numRuns: 100 },
    )
  })

  it('stays near the optimum, and says so, when states must be thinned', () => {
    const random = fc.sample(fc.tuple(fc.integer({ min: 1000, max: 9000 }), fc.double({ min: 0.1, max: 1, noNaN: true })), {
      seed: SEED,
      numRuns: 40,
    })
    const list = random.map(([size, weight]) => [2, 3, 4, 8].map((bits) => ({ bytes: size * bits, loss: weight * 4 ** -bits })))
    const exact = paretoFront(list, 1 << 20)
    const thin = paretoFront(list, 256)
    expect([exact.exact, thin.exact]).toEqual([true, false])
    const total = random.reduce((sum, [size]) => sum + size, 0)
    for (const bits of [2, 2.5, 3, 4, 6, 8]) {
      const best = withinBytes(exact, total * bits)!
      const found = withinBytes(thin, total * bits)!
      expect(found.bytes).toBeLessThanOrEqual(total * bits)
      expect(found.loss).toBeLessThanOrEqual(best.loss * 1.05)
    }
  })

  it('refuses options that are no numbers', () => {
    expect(() => paretoFront([[]])).toThrow('Unit 0 has no options')
    expect(() => paretoFront([[{ bytes: 1, loss: NaN }]])).toThrow('a loss of NaN')
  })
})
