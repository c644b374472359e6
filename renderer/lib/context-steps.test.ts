import { expect, test } from 'vitest'
import { contextStepsUpTo, nearestStep } from './context-steps.ts'

test('the limit of the model is the last stop, power of two or not', () => {
  expect(contextStepsUpTo(1024)).toEqual([256, 512, 1024])
  expect(contextStepsUpTo(40_960)).toEqual([256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 40_960])
  expect(contextStepsUpTo(100)).toEqual([100])
})

test('the nearest stop is the nearest by ratio', () => {
  const steps = contextStepsUpTo(4096)
  expect([100, 700, 740, 4096, 1_000_000].map((tokens) => steps[nearestStep(steps, tokens)])).toEqual([256, 512, 1024, 4096, 4096])
})
