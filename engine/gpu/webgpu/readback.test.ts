/** The sleep before a map: learns from steps, and never from the slow ones. */
import { expect, it } from 'vitest'
import { StepClock } from './readback.ts'

it('does not sleep before it has seen two steps of a size', () => {
  const clock = new StepClock()
  expect(clock.sleepMs(1)).toBe(0)
  clock.observe(1, 100, 100)
  expect(clock.sleepMs(1)).toBe(0)
  clock.observe(1, 100, 30)
  expect(clock.sleepMs(1)).toBeCloseTo(70)
  expect(clock.sleepMs(128)).toBe(0)
})

it('takes the fastest of the last steps, so that a compile does not slow the ones after', () => {
  const clock = new StepClock()
  clock.observe(1, 8000, 8000)
  clock.observe(1, 10, 10)
  expect(clock.sleepMs(1)).toBeCloseTo(7)
})

it('backs off when the result was already there', () => {
  const clock = new StepClock()
  for (let i = 0; i < 4; i++) clock.observe(1, 100, 30)
  expect(clock.sleepMs(1)).toBeCloseTo(70)
  clock.observe(1, 71, 0.1)
  expect(clock.sleepMs(1)).toBeLessThan(20)
})

it('follows a context that grows', () => {
  const clock = new StepClock()
  for (let ms = 10; ms < 20; ms++) clock.observe(1, ms, 3)
  expect(clock.sleepMs(1)).toBeCloseTo(16 * 0.7)
})

it('sleeps neither below the timer nor beyond its cap', () => {
  const clock = new StepClock()
  for (let i = 0; i < 4; i++) clock.observe(1, 1, 1)
  expect(clock.sleepMs(1)).toBe(0)
  for (let i = 0; i < 4; i++) clock.observe(512, 60_000, 1000)
  expect(clock.sleepMs(512)).toBe(500)
})
