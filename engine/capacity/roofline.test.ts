import { describe, expect, test } from 'vitest'
import { findDevice } from './devices.ts'
import { limitsOfCalibration, limitsOfDevice } from './machine.ts'
import { modelShapeOf } from './model-shape.ts'
import { findPublishedModel } from './published-models.ts'
import { costPerMillionTokens, decodeStepSeconds, decodeTokensPerSecond, operationsPerToken, prefillSeconds } from './roofline.ts'
import { BF16, findScheme, weightPartsOf } from './storage-schemes.ts'

function placed(id: string, kvBytesPerElement = 2, scheme = BF16) {
  const shape = modelShapeOf(findPublishedModel(id)!.config)
  return { shape, weights: weightPartsOf(shape, scheme), kvBytesPerElement, tensorParallel: 1 }
}

function memoryOnly(bytesPerSecond: number) {
  return {
    weightBytesPerSecond: bytesPerSecond,
    headBytesPerSecond: bytesPerSecond,
    kvBytesPerSecond: bytesPerSecond,
    operationsPerSecond: 1e18,
    stepSeconds: 0,
    layerSeconds: 0,
  }
}

/** Linears at this rate, the head at 400 G/s, a millisecond and a half per step (one measured, half for the host) and 0.1 per layer. */
function seconds(gigaweights: number): number {
  return 6.979 / gigaweights + 0.525 / 400 + 0.0015 + 32 * 100e-6
}

describe('roofline (specs/benchmark.md §7.4)', () => {
  test('operations per token of Llama-3.1-8B: 15.0 G + 0.54 G at a mean context of 1024', () => {
    const { shape } = placed('llama-3.1-8b')
    expect(operationsPerToken(shape, 0) / 1e9).toBeCloseTo(15.0, 1)
    expect((operationsPerToken(shape, 1024) - operationsPerToken(shape, 0)) / 1e9).toBeCloseTo(0.54, 2)
  })

  // Measured by vLLM's documentation (Qwen3-4B BF16 on an L4, batch 1); one constant, 81 % of 300 GB/s.
  const L4: readonly (readonly [number, number, number])[] = [
    [2048, 2, 29.1],
    [8192, 2, 26.4],
    [16384, 2, 23.6],
    [32768, 2, 19.4],
    [2048, 1, 29.4],
    [8192, 1, 27.9],
    [16384, 1, 26.2],
    [32768, 1, 23.4],
  ]
  test.each(L4)('Qwen3-4B on an L4 at context %i with %i-byte KV: within 5 %% of the published %f tok/s', (context, kvBytes, measured) => {
    const predicted = decodeTokensPerSecond(placed('qwen3-4b', kvBytes), 1, context, memoryOnly(0.81 * 300e9))
    expect(Math.abs(predicted / measured - 1)).toBeLessThan(0.05)
  })

  test.each(L4)('and the range that is shown for an L4 holds it (context %i, %i-byte KV, %f tok/s)', (context, kvBytes, measured) => {
    const range = limitsOfDevice(findDevice('L4')!, BF16, 'vllm')!
    const at = (end: 'low' | 'high') => decodeTokensPerSecond(placed('qwen3-4b', kvBytes), 1, context, range[end])
    expect([at('low') < measured, measured < at('high')]).toEqual([true, true])
  })

  test.each([
    ['bf16', 53.7],
    ['fp8', 100],
    ['w4a16-g128', 173],
    ['nvfp4', 162],
  ])('Llama-3.1-8B as %s on an RTX 4090 at 80 %% of its bandwidth: %f tok/s', (id, tokensPerSecond) => {
    const predicted = decodeTokensPerSecond(placed('llama-3.1-8b', 2, findScheme(id)!), 1, 0, memoryOnly(0.8 * 1008e9))
    expect(Math.abs(predicted / tokensPerSecond - 1)).toBeLessThan(0.01)
  })

  test('prefill of Llama-3.1-8B on an RTX 4090 in FP16 at 50 % of its arithmetic: about 5.7 k tok/s', () => {
    const limits = { ...memoryOnly(1008e9), operationsPerSecond: 0.5 * 165e12 }
    expect(1024 / prefillSeconds(placed('llama-3.1-8b'), 1024, limits) / 1000).toBeCloseTo(5.7, 0)
  })

  test('a batch of one reads only its own experts, a large one nearly all', () => {
    const placement = placed('deepseek-v3', 0)
    const bytesAt = (batch: number) => decodeStepSeconds(placement, batch, 0, memoryOnly(1)) - placement.weights.head
    expect(bytesAt(1) / (2 * placement.shape.activeLinearParameters)).toBeCloseTo(1, 2)
    expect(bytesAt(256) / (2 * placement.shape.linearParameters)).toBeGreaterThan(0.99)
  })

  test('cost per million tokens (§7.5): $2.50 an hour, 2500 tok/s, 40 % used', () => {
    expect(costPerMillionTokens(2.5, 2500, 0.4)).toBeCloseTo(0.69, 2)
  })

  test('a calibration replaces the table: rates per format, fixed costs per layer and step', () => {
    const calibration = {
      copyGigabytesPerSecond: 900,
      readGigabytesPerSecond: 1000,
      matmulGigaflops: 5000,
      multiplyAddGigaflops: 9000,
      submitRoundTripMs: 1,
      stepCosts: null,
      layerMicroseconds: 100,
      linear: [
        { format: 'bf16', readGigaweightsPerSecond: 400, multiplyGigaflops: 5000 },
        { format: 'int4', readGigaweightsPerSecond: 900, multiplyGigaflops: 6000 },
      ],
      adapter: 'a GPU',
      software: false,
      measuredAt: '2026-11-23T00:00:00Z',
    } as const
    const exact = (id: string) => {
      const { high } = limitsOfCalibration({ ...calibration, linear: [...calibration.linear] }, findScheme(id)!)!
      // the fast end is a tenth above the calibration itself
      return decodeTokensPerSecond(placed('llama-3.1-8b', 2, findScheme(id)!), 1, 0, high) / 1.1
    }
    expect(exact('bf16') * seconds(400)).toBeCloseTo(1, 2)
    expect(exact('w4a16-g128') * seconds(900)).toBeCloseTo(1, 2)
    expect(limitsOfCalibration({ ...calibration, linear: [] }, BF16)).toBeNull()
  })

  test('measured parts of a step replace rates: their sum and the host, within a fifth, wider for a scheme that only resembles one', () => {
    const linear = (['bf16', 'int8', 'int4'] as const).map((format, index) => ({
      format,
      // weights per microsecond: 1000, 2000, 4000
      points: [1, 1e9].map((weights) => ({ weights, microseconds: weights / (1000 * 2 ** index) })),
    }))
    const stepCosts = {
      stepMicroseconds: 200,
      logitNanoseconds: 1,
      linear,
      layers: [{ elements: 1, headElements: 1, microseconds: 20, contextNanoseconds: 5 }],
    }
    const calibration = {
      copyGigabytesPerSecond: 1,
      readGigabytesPerSecond: 1,
      matmulGigaflops: 20_000,
      multiplyAddGigaflops: null,
      submitRoundTripMs: 1,
      stepCosts,
      layerMicroseconds: 100,
      linear: linear.map(({ format }) => ({ format, readGigaweightsPerSecond: 1, multiplyGigaflops: 20 })),
      adapter: 'a GPU',
      software: false,
      measuredAt: '2026-11-23T00:00:00Z',
    }
    const placement = placed('llama-3.1-8b')
    const { shape } = placement
    const microseconds = (bits: 16 | 4, context: number) =>
      shape.linearParameters / (bits === 16 ? 1000 : 4000) +
      (shape.vocabulary * shape.hiddenSize) / 1000 +
      shape.layers * (20 + (5 * context) / 1000) +
      200 +
      shape.vocabulary / 1000 +
      500
    const ends = (id: string, context: number) => {
      const { low, high } = limitsOfCalibration(calibration, findScheme(id)!)!
      return [low, high].map((end) => 1e6 / decodeStepSeconds(placement, 1, context, end))
    }
    for (const [id, bits, context] of [
      ['bf16', 16, 0],
      ['w4a16-g128', 4, 1000],
    ] as const) {
      const middle = 1e12 / microseconds(bits, context)
      expect(ends(id, context).map((rate) => rate / middle)).toEqual([expect.closeTo(0.8, 3), expect.closeTo(1.25, 3)])
    }
    const [low, high] = ends('nvfp4', 0) as [number, number]
    expect(high / low).toBeGreaterThan(2)
    // A batch reads the weights once; from some size on its arithmetic is what takes the time.
    const { high: fast } = limitsOfCalibration(calibration, BF16)!
    const batchSeconds = (batch: number) => decodeStepSeconds(placement, batch, 0, fast)
    expect(batchSeconds(2) / batchSeconds(1)).toBeCloseTo(1, 3)
    expect(batchSeconds(64) / batchSeconds(32)).toBeGreaterThan(1.5)
  })
})
