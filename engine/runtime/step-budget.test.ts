import { describe, expect, it } from 'vitest'
import { FixedStepBudget, TimedStepBudget } from './step-budget.ts'

/** Runs steps on a device that takes `fixedMs + tokens · perTokenMs`, and returns the last step's tokens and time. */
function settle(budget: TimedStepBudget, decoding: boolean, cost: (tokens: number) => number, steps = 20): { tokens: number; ms: number } {
  let tokens = 0
  for (let i = 0; i < steps; i++) {
    tokens = budget.tokens(decoding)
    budget.observe(tokens, cost(tokens))
  }
  return { tokens, ms: cost(tokens) }
}

describe('TimedStepBudget', () => {
  it('starts small and grows at most fourfold a step', () => {
    const budget = new TimedStepBudget(2048, 8)
    const sizes = [0, 1, 2, 3, 4].map(() => {
      const tokens = budget.tokens(false)
      budget.observe(tokens, 0.001)
      return tokens
    })
    expect(sizes).toEqual([16, 64, 256, 1024, 2048])
  })

  it.each([
    { device: 'a fast GPU', cost: (tokens: number) => 2 + tokens * 0.05, decoding: false, most: 400 },
    { device: 'a slow GPU', cost: (tokens: number) => 20 + tokens * 1.5, decoding: false, most: 400 },
    { device: 'a slow GPU while an answer streams', cost: (tokens: number) => 20 + tokens * 1.5, decoding: true, most: 150 },
    { device: 'a processor', cost: (tokens: number) => 5 + tokens * 6, decoding: true, most: 150 },
  ])('keeps steps of $device under $most ms and uses at least half of that, or all it can', ({ cost, decoding, most }) => {
    const { tokens, ms } = settle(new TimedStepBudget(2048, 4), decoding, cost)
    expect(ms).toBeLessThanOrEqual(most)
    expect(ms >= most / 2 || tokens === 2048).toBe(true)
  })

  it('never goes below one tile or one token for each sequence, however slow the device', () => {
    expect(settle(new TimedStepBudget(2048, 4), true, (tokens) => tokens * 500).tokens).toBe(16)
    expect(settle(new TimedStepBudget(2048, 40), true, (tokens) => tokens * 500).tokens).toBe(40)
    expect(settle(new TimedStepBudget(8, 4), true, (tokens) => tokens * 500).tokens).toBe(8)
  })

  it('follows a growing context at once and a shrinking one within a few steps', () => {
    const budget = new TimedStepBudget(2048, 4)
    settle(budget, false, (tokens) => tokens)
    expect(budget.tokens(false)).toBe(400)
    budget.observe(400, 800)
    expect(budget.tokens(false)).toBe(200)
    expect(settle(budget, false, (tokens) => tokens, 15).tokens).toBeGreaterThan(380)
  })

  it('learns nothing from single tokens', () => {
    const budget = new TimedStepBudget(2048, 4)
    settle(budget, false, (tokens) => tokens)
    budget.observe(1, 50)
    expect(budget.tokens(false)).toBe(400)
  })
})

describe('FixedStepBudget', () => {
  it('stays', () => {
    const budget = new FixedStepBudget(7)
    budget.observe()
    expect(budget.tokens()).toBe(7)
  })
})
