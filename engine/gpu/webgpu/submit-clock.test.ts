import { expect, test } from 'vitest'
import { SubmitClock } from './submit-clock.ts'

test('a step goes out in as many submits as keep each within the limit', () => {
  const clock = new SubmitClock(400, 300)
  // Nothing measured: a few layers each.
  expect([1, 16, 512].map((tokens) => clock.submits(tokens))).toEqual([5, 5, 5])
  clock.observe(16, 100)
  expect(clock.submits(16)).toBe(1)
  // Five doublings of a hundred milliseconds, measured then.
  expect(clock.submits(512)).toBe(8)
  clock.observe(512, 900)
  expect(clock.submits(600)).toBe(3)
  // The context has grown.
  clock.observe(16, 2100)
  expect(clock.submits(17)).toBe(6)
  clock.observe(16, 1e9)
  expect(clock.submits(16)).toBe(300)
  expect(new SubmitClock(400, 0).submits(4)).toBe(1)
})
