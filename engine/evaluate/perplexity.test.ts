import { describe, expect, test } from 'vitest'
import { measureDrift, measurePerplexity, perplexityProtocolKey } from './perplexity.ts'
import { createTableRuntime, scoreTablePair } from './test/table-runtime.ts'

/** One token per letter a–d; "d" doubles as EOS and so as the rolling prefix. */
const codec = {
  encode: (text: string) => Uint32Array.from(text, (letter) => letter.charCodeAt(0) - 97),
  bosTokenId: null,
  eosTokenId: 3,
}
const uniform = createTableRuntime('uniform', () => [0.25, 0.25, 0.25, 0.25], 4)
const skewed = createTableRuntime('skewed', () => [0.5, 0.25, 0.125, 0.125], 4)
const options = { protocol: 'rolling', window: 4, maxWindows: null } as const
const sample = { name: 'letters', text: 'abcdabcdab' }

describe('perplexity', () => {
  test('of a uniform model is the vocabulary size, whatever the windows', async () => {
    const result = await measurePerplexity(uniform, codec, sample, options)
    expect(result).toMatchObject({ tokens: 10, bytes: 10, window: 4, protocol: 'rolling', note: null })
    expect(result.value).toBeCloseTo(4, 6)
    expect(result.bitsPerByte).toBeCloseTo(2, 6)
    expect(result.standardError).toBeCloseTo(0, 6)
  })

  test('is the exponential of the mean negative log-likelihood over all scored tokens', async () => {
    // 3·a, 3·b, 2·c, 2·d: bits = 3·1 + 3·2 + 2·3 + 2·3 = 21 over 10 tokens.
    const result = await measurePerplexity(skewed, codec, sample, options)
    expect(result.value).toBeCloseTo(2 ** 2.1, 5)
    expect(result.standardError).toBeGreaterThan(0)
  })

  test('a limit on windows is in the protocol key and in the token count', async () => {
    const limited = { ...options, maxWindows: 2 }
    const progress: [number, number][] = []
    const result = await measurePerplexity(skewed, codec, sample, { ...limited, onProgress: (done, total) => progress.push([done, total]) })
    expect(result.tokens).toBe(8)
    expect(progress).toEqual([
      [4, 8],
      [8, 8],
    ])
    expect(perplexityProtocolKey(sample, limited)).not.toBe(perplexityProtocolKey(sample, options))
  })

  test('an impossible token gives null and a note, not infinity', async () => {
    const broken = createTableRuntime('broken', () => [1, 0, 0, 0], 4)
    const result = await measurePerplexity(broken, codec, sample, options)
    expect(result).toMatchObject({ value: null, nll: null, standardError: null })
    expect(result.note).toMatch(/probability 0/)
  })
})

describe('drift', () => {
  test('of a model from itself is exactly zero', async () => {
    const { drift, baseline, candidate } = await measureDrift(
      { baseline: skewed, candidate: skewed, scorePair: scoreTablePair, baselineId: 'skewed' },
      codec,
      sample,
      options,
    )
    expect(drift).toMatchObject({ kldMean: 0, kldP99: 0, kldMax: 0, top1Agreement: 1, deltaPRms: 0, tokens: 10 })
    expect(candidate).toEqual(baseline)
  })

  test('is KL(baseline ‖ candidate), baseline first', async () => {
    const { drift, candidate } = await measureDrift(
      { baseline: skewed, candidate: uniform, scorePair: scoreTablePair, baselineId: 'skewed' },
      codec,
      sample,
      options,
    )
    // Σ p ln(p/q) = ln 4 − H(p) = (2 − 1.75)·ln 2
    expect(drift.kldMean).toBeCloseTo(0.25 * Math.LN2, 5)
    expect(drift.kldMedian).toBeCloseTo(0.25 * Math.LN2, 5)
    // Both have the argmax at token 0 (ties go to the lowest id).
    expect(drift.top1Agreement).toBe(1)
    // Δp: a −0.25, b 0, c and d +0.125, weighted 3, 3, 2, 2 of 10.
    expect(drift.deltaPRms).toBeCloseTo(Math.sqrt((3 * 0.0625 + 4 * 0.015625) / 10), 6)
    expect(candidate.value).toBeCloseTo(4, 6)
  })
})
