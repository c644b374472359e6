/**
 * Models on matrix units against golden values from elsewhere. On software adapters the units are emulated, so what is shown there is the arithmetic of
 * halves through whole models; on an adapter that has them, named by LATHE_MATRIX_ADAPTER, it is the units themselves.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testBackends } from '../gpu/test/adapters.ts'
import { EMULATED_MATRIX_UNITS } from '../gpu/test/emulated-matrix-units.ts'
import { openBackend, WebGpuBackend } from '../gpu/webgpu/backend.ts'
import { loadModel } from './load.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { modelFolder } from './test/golden-data.ts'
import { MATRIX_MODELS, MATRIX_TOLERANCE, matrixGolden } from './test/matrix-golden.ts'
import { MODEL_TEST_TIMEOUT_MS } from './test/backends.ts'

const [software] = await testBackends()
const named = process.env['LATHE_MATRIX_ADAPTER'] ?? null
if (named === null) process.stderr.write('skipped: no adapter with matrix units (LATHE_MATRIX_ADAPTER names one); they are emulated\n')

async function openEmulated(): Promise<WebGpuBackend> {
  const opened = await software?.open()
  if (!(opened instanceof WebGpuBackend)) throw new Error('not WebGPU')
  // Few shapes of the default kernels: LLVM takes a second for each.
  const tuning = { ...opened.tuning, linear: { ...opened.tuning.linear, columns: [1] } }
  return new WebGpuBackend(opened.gpu, tuning, null, EMULATED_MATRIX_UNITS)
}

/** One, with columns in another order: the rest differs in what linear-matrix.test.ts shows. */
const EMULATED_MODELS = ['gptq-w4-g32-desc'] as const

describe.skipIf(software === undefined)('emulated', () => {
  let backend: WebGpuBackend
  beforeAll(async () => {
    backend = await openEmulated()
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
  })

  test.for(EMULATED_MODELS)('%s', { timeout: MODEL_TEST_TIMEOUT_MS }, async (name) => {
    const found = await matrixGolden(backend, name, EMULATED_MATRIX_UNITS.leastColumns)
    expect(found.taken).toBeGreaterThan(0)
    expect(found.otherTop).toBe(0)
    expect(found.worst).toBeLessThanOrEqual(MATRIX_TOLERANCE)
    // Otherwise the mode was not on.
    expect(found.worst).toBeGreaterThan(found.worstDefault)
    expect(backend.usage().has(name)).toBe(false)
  })
})

describe.skipIf(named === null)('an adapter with matrix units', () => {
  let backend: WebGpuBackend
  beforeAll(async () => {
    const opened = await openBackend(named)
    if (!(opened instanceof WebGpuBackend)) throw new Error('not WebGPU')
    backend = opened
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
  })

  test.for(MATRIX_MODELS)('%s', { timeout: MODEL_TEST_TIMEOUT_MS }, async (name) => {
    expect(await backend.matrixUnits()).toEqual({ reason: null })
    const found = await matrixGolden(backend, name, 0)
    expect(found.otherTop).toBe(0)
    expect(found.worst).toBeLessThanOrEqual(MATRIX_TOLERANCE)
  })
})

test('a backend without them refuses and leaves nothing behind', async () => {
  await using reference = createReferenceBackend()
  await using checkpoint = await openCheckpoint(modelFolder('w8a16-channel'))
  const wish = { checkpoint, backend: reference, contextTokens: 64, kvDtype: 'f32', owner: 'model', matrixUnits: true } as const
  await expect(loadModel(wish)).rejects.toMatchObject({ code: 'gpu.unsupported', message: 'The reference backend has no matrix units.' })
  expect(reference.usage().size).toBe(0)
})
