import { expect, test } from 'vitest'
import { growthPerThousand } from './memory-growth.ts'

test('the slope after the warm-up, per thousand requests', () => {
  const samples = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => ({
    requests: 500 * i,
    memory: { rss: i < 3 ? 100 * i : 400 + 2 * i, heapUsed: 20 + (i % 2), malloc: null },
  }))
  const slopes = growthPerThousand(samples)!
  expect(slopes['rss']).toBeCloseTo(4)
  expect(Math.abs(slopes['heapUsed']!)).toBeLessThan(0.2)
  expect(slopes['malloc']).toBe(0)
  expect(growthPerThousand(samples.slice(0, 3))).toBeNull()
})
