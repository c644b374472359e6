import { describe, expect, test } from 'vitest'
import type { Fit } from '../../engine/contract/index.ts'
import { describeFit, fitOf } from './fit.ts'

const MIB = 1024 ** 2
const base: Fit = {
  weightBytes: 300 * MIB,
  kvBytes: 100 * MIB,
  activationBytes: 20 * MIB,
  budgetBytes: 1024 * MIB,
  contextTokens: 4096,
  verdict: 'fits',
}

function verdict(weightMib: number, kvPerToken: number, budgetMib: number | null): Fit['verdict'] {
  return fitOf({
    weightBytes: weightMib * MIB,
    kvBytesPerToken: kvPerToken,
    contextTokens: 1024,
    budgetBytes: budgetMib === null ? null : budgetMib * MIB,
  }).verdict
}

describe('verdicts', () => {
  test('from parts: green, amber from 80 %, and two different reds', () => {
    expect([
      verdict(100, 1024, 200),
      verdict(165, 1024, 200),
      verdict(150, 100 * 1024, 200),
      verdict(201, 0, 200),
      verdict(201, 0, null),
    ]).toEqual(['fits', 'tight', 'context', 'weights', 'unknown'])
  })

  test('a model whose KV size is unknown is judged by its weights', () => {
    expect(fitOf({ weightBytes: 10, kvBytesPerToken: null, contextTokens: 8192, budgetBytes: 100 })).toEqual({
      weightBytes: 10,
      kvBytes: 0,
      activationBytes: 0,
      budgetBytes: 100,
      contextTokens: 8192,
      verdict: 'fits',
    })
  })
})

describe('words', () => {
  test('each warning names its own remedy with the figures', () => {
    expect(describeFit(base)).toEqual({
      tone: 'positive',
      label: 'Fits',
      sentence: 'Needs 420 MiB of 1.00 GiB with 4,096 tokens of context.',
      totalBytes: 420 * MIB,
      scaleBytes: 1024 * MIB,
    })
    expect(describeFit({ ...base, kvBytes: 900 * MIB, verdict: 'context' }).sentence).toBe(
      'The weights fit, but 4,096 tokens of context bring the need to 1.19 GiB of 1.00 GiB. Choose a shorter context.',
    )
    expect(describeFit({ ...base, residentBytes: 900 * MIB, verdict: 'weights' })).toMatchObject({
      sentence:
        'Other models in use hold 900 MiB, which brings the need to 1.29 GiB of 1.00 GiB. Stop what uses them, or choose a smaller preset.',
      totalBytes: 1320 * MIB,
    })
    expect(describeFit({ ...base, weightBytes: 2048 * MIB, verdict: 'weights' })).toMatchObject({
      tone: 'danger',
      sentence: 'The weights alone need 2.00 GiB of 1.00 GiB. Choose a smaller preset.',
      scaleBytes: 2168 * MIB,
    })
    expect(describeFit({ ...base, budgetBytes: null, verdict: 'unknown' })).toMatchObject({ tone: 'neutral', scaleBytes: 420 * MIB })
  })
})
