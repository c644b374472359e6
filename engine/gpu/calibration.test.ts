import { describe, expect, test } from 'vitest'
import { HardwareBenchmarkSchema } from '../contract/index.ts'
import { benchmarkHardware } from './calibration.ts'
import { createReferenceBackend } from './reference/backend.ts'

describe('calibration', () => {
  test('gives every figure, in plausible order, and releases what it took', async () => {
    const backend = createReferenceBackend()
    const figures = await benchmarkHardware(backend, { name: 'reference' })
    expect({ ...figures, measuredAt: null, linear: figures.linear.map((rate) => rate.format) }).toEqual({
      adapter: 'reference',
      software: true,
      copyGigabytesPerSecond: expect.any(Number),
      readGigabytesPerSecond: expect.any(Number),
      matmulGigaflops: expect.any(Number),
      multiplyAddGigaflops: null,
      submitRoundTripMs: expect.any(Number),
      layerMicroseconds: expect.any(Number),
      linear: ['bf16', 'int8', 'int4'],
      stepCosts: expect.any(Object),
      measuredAt: null,
    })
    const { linear, layers } = HardwareBenchmarkSchema.parse(figures).stepCosts!
    expect(linear.map(({ format, points }) => [format, points.map(({ weights }) => weights)])).toEqual(
      ['bf16', 'int8', 'int4'].map((format) => [format, [64 * 64, 128 * 128]]),
    )
    expect(layers.map(({ elements, headElements }) => [elements, headElements])).toEqual([
      [2 * 64 + 4 * 32 + 3 * 128, 64],
      [2 * 128 + 8 * 32 + 3 * 256, 128],
    ])
    const numbers = figures.linear.flatMap((rate) => [rate.readGigaweightsPerSecond, rate.multiplyGigaflops])
    expect(numbers.filter((value) => !(value > 0 && value < 1e6))).toEqual([])
    expect([...backend.usage()]).toEqual([])
  })

  test('stops when told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(benchmarkHardware(createReferenceBackend(), { signal })).rejects.toThrow('enough')
  })
})
