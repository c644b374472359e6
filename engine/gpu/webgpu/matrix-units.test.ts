/** The mode's choice, its kernels in every format on Dawn's null backend, which compiles matrix units and computes nothing, and what its check lets pass. */
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import type { Capacity, Operation, Program, WeightFormat } from '../program.ts'
import { denseWeight } from '../test/memory-weights.ts'
import { NO_CACHE, operationProgram, randomFrom, randomPart, sequenceStep, weightOf } from '../test/numeric.ts'
import { NVIDIA_CONFIG, openNullDevice } from '../test/null-backend.ts'
import { WebGpuBackend } from './backend.ts'
import type { GpuDevice } from './device.ts'
import { checkMatrixUnits, compare } from './matrix-check.ts'
import { type MatrixMode, matrixModeOf, paddedColumns, paddedElements, tileBytes, tileFor } from './matrix-units.ts'
import { gpuTuning } from './tuning.ts'

const H200 = {
  features: new Set(['chromium-experimental-subgroup-matrix', 'shader-f16']),
  matrixConfigs: [{ ...NVIDIA_CONFIG, resultComponentType: 'f16' }, { ...NVIDIA_CONFIG, N: 8 }, NVIDIA_CONFIG],
  subgroupSize: 32,
  limits: {
    maxComputeWorkgroupStorageSize: 49_152,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
  } as GPUSupportedLimits,
}

describe('matrixModeOf', () => {
  it('takes the largest product of halves summed in f32, from 32 columns on', () => {
    expect(matrixModeOf(H200)).toEqual({
      units: { m: 16, n: 16, k: 16, lanes: 32, emulated: false },
      leastColumns: 32,
      stage: 64,
      tiles: [
        { columns: 64, rows: 64, gridColumns: 2, gridRows: 2, buffers: 1, direct: false },
        { columns: 128, rows: 128, gridColumns: 2, gridRows: 4, buffers: 1, direct: false },
      ],
    })
  })

  it.each([
    [{ ...H200, features: new Set(['shader-f16']) }, /offers no matrix units/],
    [{ ...H200, features: new Set(['chromium-experimental-subgroup-matrix']) }, /no 16-bit floats/],
    [{ ...H200, matrixConfigs: H200.matrixConfigs.slice(0, 1) }, /summed in 32 bits/],
    [{ ...H200, matrixConfigs: [] }, /summed in 32 bits/],
    [{ ...H200, subgroupSize: null }, /size of subgroups/],
    [{ ...H200, limits: { ...H200.limits, maxComputeWorkgroupStorageSize: 8192 } as GPUSupportedLimits }, /No tile/],
  ])('says why there is none (%#)', (gpu, reason) => {
    expect(matrixModeOf(gpu)).toMatch(reason)
  })

  it('takes small tiles where large ones would leave most of a GPU idle', () => {
    const mode = matrixModeOf(H200) as MatrixMode
    const widths = [32, 128, 256, 512].flatMap((columns) => [1024, 4096, 14_336].map((rows) => tileFor(mode, columns, rows)))
    expect(widths).toEqual([0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1])
  })

  it('counts memory as the kernel lays it out', () => {
    const mode = matrixModeOf(H200) as MatrixMode
    // (64 + 64) and (128 + 128) rows of 64 halves and a place between them.
    expect(mode.tiles.map((tile) => tileBytes(mode, tile))).toEqual([128 * 9 * 16, 256 * 9 * 16])
    expect([paddedElements(mode, 64), paddedElements(mode, 65), paddedColumns(mode, 1), paddedColumns(mode, 129)]).toEqual([
      64, 128, 128, 256,
    ])
  })
})

const dense = (dtype: 'f16' | 'bf16'): WeightFormat => ({ kind: 'dense', dtype })
const integers = (bits: 2 | 3 | 4 | 6 | 8, hasZeroPoint = false): WeightFormat => {
  return { kind: 'packed-int', bits, groupSize: 64, hasZeroPoint, scaleDtype: 'bf16' }
}
const floats = (element: 'e4m3' | 'e2m1', groupSize: number, scaleDtype: 'bf16' | 'e4m3' | 'e8m0'): WeightFormat => {
  return { kind: 'packed-float', element, groupSize, scaleDtype, hasGlobalScale: scaleDtype === 'e4m3' }
}
const FORMATS: readonly WeightFormat[] = [
  dense('bf16'),
  dense('f16'),
  ...([2, 3, 4, 6, 8] as const).map((bits) => integers(bits)),
  integers(4, true),
  integers(3, true),
  floats('e4m3', 64, 'bf16'),
  floats('e2m1', 16, 'e4m3'),
  floats('e2m1', 32, 'e8m0'),
]

/** Tiles that fit into the null device's 16 KiB, of all that the kernel can do. */
const units = { m: 16, n: 16, k: 16, lanes: 32, emulated: false }
const SMALL: MatrixMode = {
  units,
  leastColumns: 32,
  stage: 32,
  tiles: [
    { columns: 32, rows: 64, gridColumns: 1, gridRows: 4, buffers: 2, direct: true },
    { columns: 64, rows: 64, gridColumns: 2, gridRows: 2, buffers: 1, direct: false },
  ],
}
const CAPACITY: Capacity = { tokens: 70, rows: 70, sequences: 1, blocksPerSequence: 3 }

function program(format: WeightFormat, gated: boolean): Program {
  const weight = weightOf(1, [randomPart(randomFrom(1), 'w', 96, 192, format)])
  const bias = denseWeight(2, 1, 96, new Float32Array(96))
  return operationProgram(new Float32Array(70 * 192), 192, (x) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width: 96 } as const
    const half = { id: 3, name: 'half', extent: 'tokens', width: 48 } as const
    const linear: Operation = { op: 'linear', x, weight, bias, accumulate: false, outOffset: 0, out }
    const operations: Operation[] = gated ? [linear, { op: 'swiglu', gateUp: out, out: half }] : [linear]
    return { operations, result: gated ? half : out, weights: [weight, bias] }
  })
}

describe('on the null device', () => {
  let gpu: GpuDevice
  beforeAll(async () => {
    gpu = await openNullDevice()
  })
  afterAll(() => gpu.destroy())

  it.each(FORMATS.flatMap((format) => [false, true].map((gated) => ({ format, gated, name: JSON.stringify(format) }))))(
    'compiles and dispatches $name, gated $gated',
    async ({ format, gated }) => {
      await using backend = new WebGpuBackend({ ...gpu, destroy: () => {}, lost: Promise.resolve('') }, gpuTuning(), null, SMALL)
      using kv = await backend.createKvCache(NO_CACHE, 'test')
      using executable = await backend.compile(program(format, gated), { capacity: CAPACITY, kv, owner: 'test', matrixUnits: true })
      for (const tokens of [3, 32, 70]) await executable.step(sequenceStep(tokens, NO_CACHE, CAPACITY))
      gpu.check()
      const kernels = (await executable.profile(sequenceStep(70, NO_CACHE, CAPACITY))).map(({ kernel }) => kernel)
      expect(kernels.filter((kernel) => kernel.endsWith(gated ? 'gated, matrix units' : ', matrix units'))).toHaveLength(1)
      const few = (await executable.profile(sequenceStep(31, NO_CACHE, CAPACITY))).map(({ kernel }) => kernel)
      expect(few.filter((kernel) => kernel.includes('matrix units') || kernel.includes('halve'))).toEqual([])
      const off = await backend.compile(program(format, gated), { capacity: CAPACITY, kv, owner: 'test' })
      const usual = (await off.profile(sequenceStep(70, NO_CACHE, CAPACITY))).map(({ kernel }) => kernel)
      expect(usual.filter((kernel) => kernel.includes('matrix units'))).toEqual([])
      off[Symbol.dispose]()
    },
  )

  test('a device whose products come out as zeros does not pass the check, and the mode is refused with that reason', async () => {
    const backend = new WebGpuBackend(gpu, gpuTuning(), null)
    expect(await checkMatrixUnits(backend, backend.ledger, SMALL)).toMatch(/failed the check/)
    expect(backend.usage().size).toBe(0)
    // Its workgroups are too small for the mode itself.
    expect(await backend.matrixUnits()).toEqual({ reason: expect.stringMatching(/No tile|size of subgroups/) })
    using kv = await backend.createKvCache(NO_CACHE, 'test')
    const wish = backend.compile(program(dense('bf16'), false), { capacity: CAPACITY, kv, owner: 'test', matrixUnits: true })
    await expect(wish).rejects.toMatchObject({ code: 'gpu.unsupported', message: expect.stringContaining('null') })
  })
})

test('the check refuses NaN and what is slightly wrong', () => {
  const inputs = new Float32Array(150 * 164).fill(1)
  const weights = new Float32Array(201 * 164).fill(0.5)
  const right = new Float32Array(150 * 201).fill(82)
  expect(compare(right, inputs, weights)).toBeNull()
  for (const wrong of [NaN, 0, 82.1]) expect(compare(right.with(7, wrong), inputs, weights)).toMatch(/failed the check/)
})
