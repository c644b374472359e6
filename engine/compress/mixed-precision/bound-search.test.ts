/** The search against looking at every state, with measurements that follow predictions only roughly. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { BoundSearch } from './bound-search.ts'
import { paretoFront } from './pareto.ts'

const SEED = 20261130

const fronts = fc
  .array(
    fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 200 }), loss: fc.double({ min: 0.001, max: 1, noNaN: true }) }), {
      minLength: 2,
      maxLength: 4,
    }),
    {
      minLength: 2,
      maxLength: 6,
    },
  )
  // "As it is" loses nothing and takes most.
  .map((units) => paretoFront(units.map((options) => [...options, { bytes: 400, loss: 0 }])))

it('ends at the smallest state that holds, where nothing is near enough before', () => {
  fc.assert(
    fc.property(
      fronts,
      fc.double({ min: 0.01, max: 3, noNaN: true }),
      fc.double({ min: 0.1, max: 20, noNaN: true }),
      (front, share, unit) => {
        // Monotone, in a unit of its own, and bent: sums of losses are not what whole maps lose.
        const measure = (state: number): number => unit * front.states[state]!.loss ** 1.3
        const bound = measure(0) * share
        const search = new BoundSearch(front, bound)
        let measurements = 0
        for (let state = search.next(); state !== null; state = search.next()) {
          search.report(state, measure(state))
          expect(++measurements).toBeLessThanOrEqual(front.states.length)
        }
        const best = front.states.findIndex((_, state) => measure(state) <= bound)
        expect(measure(search.held)).toBeLessThanOrEqual(bound)
        expect(search.held === best || measure(search.held) >= 0.85 * bound).toBe(true)
      },
    ),
    { seed: SEED, numRuns: 300 },
  )
})

it('takes few measurements on a long front', () => {
  const units = Array.from({ length: 24 }, (_, i) =>
    [2, 3, 4, 6, 8].map((bits) => ({ bytes: (i + 3) * bits, loss: (1 + (i % 5)) * 4 ** -bits })),
  )
  const front = paretoFront(units)
  expect(front.states.length).toBeGreaterThan(500)
  for (const share of [0.003, 0.02, 0.1, 0.5, 0.9]) {
    const measure = (state: number): number => 7 * front.states[state]!.loss ** 1.2
    const search = new BoundSearch(front, share * measure(0))
    let count = 0
    for (let state = search.next(); state !== null && count < 7; state = search.next(), count++) search.report(state, measure(state))
    expect(measure(search.held)).toBeLessThanOrEqual(share * measure(0))
    expect(measure(search.held)).toBeGreaterThan(0.6 * share * measure(0))
  }
})

it('what broke is not tried again, and a model without numbers breaks', () => {
  const front = paretoFront([
    [
      { bytes: 1, loss: 1 },
      { bytes: 2, loss: 0.5 },
      { bytes: 3, loss: 0.25 },
      { bytes: 9, loss: 0 },
    ],
  ])
  const search = new BoundSearch(front, 0.1)
  const tried: number[] = []
  for (let state = search.next(); state !== null; state = search.next()) {
    tried.push(state)
    search.report(state, Number.POSITIVE_INFINITY)
  }
  expect(new Set(tried).size).toBe(tried.length)
  expect(search.held).toBe(3)
})
