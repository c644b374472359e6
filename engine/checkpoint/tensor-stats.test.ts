import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TensorStatsSchema } from '../contract/model.ts'
import { dequantizeRows } from './dequantize.ts'
import { asBytes, narrowFromF32, widenToF32 } from './dtypes.ts'
import { storedLinear } from './modules.ts'
import { openCheckpoint } from './open.ts'
import { tensorStats } from './tensor-stats.ts'
import { CONFIG, DEMO_MODEL, latheError, sharedData, temporaryFolder, tensorFile } from './test/fixtures.ts'

const SEED = 20_261_123
const models = sharedData('models')

async function statsOf(dtype: string, data: Uint8Array, count: number, bins = 8): ReturnType<typeof tensorStats> {
  const file = tensorFile([{ name: 't', dtype, shape: [count], data }])
  await using checkpoint = await openCheckpoint(await temporaryFolder({ 'config.json': CONFIG, 'model.safetensors': file }))
  return await tensorStats(checkpoint, 't', { bins })
}

/** The plain definitions, over an array in memory. */
function byDefinition(values: readonly number[], bins: number): Record<string, unknown> {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const min = Math.min(...values)
  const max = Math.max(...values)
  const counts = Array.from({ length: bins }, (_, bin) => {
    const inBin = (value: number): boolean => Math.min(bins - 1, Math.floor(((value - min) / (max - min || 1)) * bins)) === bin
    return values.filter(inBin).length
  })
  return {
    name: 't',
    count: values.length,
    min,
    max,
    mean: expect.closeTo(mean, 6) as unknown,
    standardDeviation: expect.closeTo(Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length), 6) as unknown,
    zeroFraction: values.filter((value) => value === 0).length / values.length,
    histogram: { from: min, to: max, counts },
    nonFiniteCount: 0,
  }
}

describe('tensorStats', () => {
  // Multiples of 1/8 are exact in every dtype used here, and bins of a power of two keep both binnings exact.
  const values = fc
    .array(fc.integer({ min: -16, max: 16 }), { minLength: 1, maxLength: 60 })
    .map((list) => list.map((value) => value / 8 + 0))

  it.each(['F32', 'BF16', 'F16'] as const)('equals the definitions for %s', async (dtype) => {
    await fc.assert(
      fc.asyncProperty(values, async (list) => {
        const stats = await statsOf(dtype, narrowFromF32(Float32Array.from(list), dtype), list.length)
        const { histogram, ...rest } = stats
        const { histogram: expectedHistogram, ...expectedRest } = byDefinition(list, 8)
        expect({ ...rest, min: rest.min + 0, max: rest.max + 0 }).toEqual(expectedRest)
        // A value on a bin's edge may fall either way by one rounding; the total may not.
        const { counts } = expectedHistogram as { counts: number[] }
        expect(histogram.counts.reduce((sum, count) => sum + count, 0)).toBe(list.length)
        expect(histogram.counts.length).toBe(counts.length)
      }),
      { seed: SEED, numRuns: 15 },
    )
  })

  it('counts a histogram by hand', async () => {
    const stats = await statsOf('F32', asBytes(Float32Array.of(0, 0.5, 1, 1.5, 2, 3, 4, 4)), 8, 4)
    expect(stats.histogram).toEqual({ from: 0, to: 4, counts: [2, 2, 1, 3] })
    const integers = await statsOf('I8', asBytes(Int8Array.of(-4, -3, 0, 4)), 4, 2)
    expect(integers).toMatchObject({ min: -4, max: 4, mean: -0.75, zeroFraction: 0.25, histogram: { counts: [2, 2] } })
  })

  it('gives the same for BF16 counted by pattern and for its values widened to F32', async () => {
    await using checkpoint = await openCheckpoint(DEMO_MODEL)
    const name = 'model.layers.0.mlp.up_proj.weight'
    const wide = widenToF32(await checkpoint.open(name).read(0, checkpoint.tensors.get(name)!.byteLength), 'BF16')
    const { name: _, mean, standardDeviation, ...exact } = await tensorStats(checkpoint, name, { bins: 32 })
    const { name: __, mean: mean32, standardDeviation: deviation32, ...exact32 } = await statsOf('F32', asBytes(wide), wide.length, 32)
    expect(exact).toEqual(exact32)
    expect([mean, standardDeviation]).toEqual([expect.closeTo(mean32, 12), expect.closeTo(deviation32, 12)])
  })

  it.skipIf(models === null)('describes the dequantized values of a packed tensor', async () => {
    await using checkpoint = await openCheckpoint(join(models ?? '', 'llmcompressor-rtn-w3-g64'))
    const module = 'model.layers.1.mlp.gate_proj'
    const linear = (await storedLinear(checkpoint, module))!
    const dense = await dequantizeRows(checkpoint, linear, 0, linear.rows)
    const stats = await tensorStats(checkpoint, `${module}.weight_packed`, { bins: 16 })
    const { name: _, ...expected } = await statsOf('F32', asBytes(dense), dense.length, 16)
    expect(stats).toEqual({ name: `${module}.weight_packed`, ...expected })
    // The scales themselves are an ordinary tensor.
    expect((await tensorStats(checkpoint, `${module}.weight_scale`)).min).toBeGreaterThan(0)
  })

  it('leaves NaN and infinity out and counts them; survives tensors of nothing', async () => {
    for (const dtype of ['F32', 'BF16', 'F16'] as const) {
      const stats = await statsOf(dtype, narrowFromF32(Float32Array.of(1, NaN, 3, -Infinity), dtype), 4, 2)
      expect(stats).toMatchObject({
        count: 4,
        nonFiniteCount: 2,
        min: 1,
        max: 3,
        mean: 2,
        standardDeviation: 1,
        histogram: { counts: [1, 1] },
      })
    }
    const nothing = await statsOf('F32', new Uint8Array(0), 0, 2)
    expect(TensorStatsSchema.parse(nothing)).toMatchObject({ count: 0, min: 0, max: 0, mean: 0, standardDeviation: 0, zeroFraction: 0 })
    const allNaN = await statsOf('BF16', narrowFromF32(Float32Array.of(NaN), 'BF16'), 1, 2)
    expect(TensorStatsSchema.parse(allNaN)).toMatchObject({ count: 1, nonFiniteCount: 1, mean: 0 })
  })

  it('reports progress to the end and stops when cancelled', async () => {
    await using checkpoint = await openCheckpoint(DEMO_MODEL)
    const seen: number[] = []
    await tensorStats(checkpoint, 'model.embed_tokens.weight', {
      onProgress: ({ doneBytes, totalBytes }) => seen.push(doneBytes / totalBytes),
    })
    expect(seen.at(-1)).toBe(1)
    const cancelled = latheError(() => tensorStats(checkpoint, 'model.embed_tokens.weight', { signal: AbortSignal.abort() }))
    expect((await cancelled).code).toBe('job.cancelled')
    expect((await latheError(() => tensorStats(checkpoint, 'nope'))).code).toBe('checkpoint.missing-tensor')
  })
})
