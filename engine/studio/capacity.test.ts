import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { planCapacity } from '../capacity/planner.ts'
import { CAPACITY_DEFAULTS, type CapacityRequest } from '../contract/index.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import { inspectModelFolder } from './bindings/checkpoint.ts'
import { subjectOfFolder } from './capacity-subject.ts'
import { openStudio, type OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'

const temporaryFolder = useTemporaryFolders()
const DEMO = join(import.meta.dirname, '../../assets/demo-model')

describe('the plan of a model equals what loading it takes', () => {
  test.each([
    [256, 'f16'],
    [777, 'f32'],
  ] as const)('weights, cache and activations at %i tokens in %s, to 1 %%', async (contextTokens, kvDtype) => {
    const backend = createReferenceBackend()
    const runtime = await openRuntime({ source: DEMO, backend, modelId: 'demo', contextTokens, kvDtype, fixedTokenBudget: 16 })
    const { weightBytes, kvBytes } = runtime.info
    await runtime[Symbol.asyncDispose]()
    const request: CapacityRequest = {
      ...CAPACITY_DEFAULTS,
      subject: { kind: 'model', modelId: 'demo' },
      kvElement: kvDtype,
      contextTokens,
    }
    const { parts } = planCapacity(request, subjectOfFolder('demo', await inspectModelFolder(DEMO)), {
      title: 'reference',
      device: null,
      calibration: null,
      memoryBytes: null,
      software: true,
    })
    expect(Math.abs(parts.weightBytes / weightBytes - 1)).toBeLessThan(0.01)
    expect(Math.abs(parts.kvBytes / kvBytes - 1)).toBeLessThan(0.01)
  })
})

describe('capacity of the library', () => {
  let open: OpenStudio | null = null
  afterEach(async () => open?.studio.close())

  test('plans for the sample here and elsewhere, and remembers the calibration of this adapter', async () => {
    open = await openStudio(temporaryFolder())
    const { client } = open
    const model = await client.models.importSample()
    const request: CapacityRequest = { ...CAPACITY_DEFAULTS, subject: { kind: 'model', modelId: model.id }, contextTokens: 256 }
    const before = await client.capacity.plan(request)
    expect([before.fit.weightBytes, before.speed.decode]).toEqual([model.weightBytes, null])
    expect(await client.capacity.checks()).toEqual([])
    await client.system.benchmark()
    const after = await client.capacity.plan(request)
    expect(after.gpu.source).toContain('calibrated on this machine')
    expect(after.speed.decode!.low).toBeLessThan(after.speed.decode!.high)
    const elsewhere = await client.capacity.plan({ ...request, deviceId: 'rtx-4090', engine: 'vllm' })
    expect([elsewhere.gpu.title, elsewhere.fit.verdict]).toEqual(['RTX 4090', 'fits'])
  })

  test('has a catalog to choose from and refuses what is not in it', async () => {
    open = await openStudio(temporaryFolder())
    const { client } = open
    const { devices, models, schemes } = await client.capacity.catalog()
    expect([devices.length > 30, models.length >= 10, schemes.length > 10]).toEqual([true, true, true])
    const published = { ...CAPACITY_DEFAULTS, subject: { kind: 'published' as const, id: 'qwen3-4b' }, deviceId: 'l4' }
    await expect(client.capacity.plan({ ...published, deviceId: 'voodoo-2' })).rejects.toMatchObject({ data: { code: 'request.invalid' } })
    await expect(client.capacity.plan({ ...published, schemeId: 'w1a1' })).rejects.toMatchObject({ data: { code: 'request.invalid' } })
    await expect(client.capacity.plan({ ...published, subject: { kind: 'published', id: 'qwen3-4c' } })).rejects.toThrow('qwen3-4c')
  })
})
