/** Memory that work beside the models holds: idle models make room, those in use are waited for, and later loads see what is held. */
import { expect, it } from 'vitest'
import { createModelManager } from './manager.ts'
import { GREEDY } from './test/fake-runtime.ts'
import type { ModelLease, ModelManager, Runtime } from './types.ts'

const MEGABYTE = 1_000_000

function runtimeOf(modelId: string): Runtime {
  const sizes = { weightBytes: 100 * MEGABYTE, kvBytes: 0, otherBytes: 0, loadMs: 1 }
  const limits = { contextLimit: 1024, modelContextLimit: 1024, maxSequences: 1, vocabulary: 10, eosTokenIds: [] }
  return {
    info: { modelId, adapterId: 'test', software: true, kvDtype: 'f16', defaultSampling: GREEDY, ...sizes, ...limits },
    active: 0,
    failure: null,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  } as Partial<Runtime> as Runtime
}

function load(manager: ModelManager, modelId: string): Promise<ModelLease> {
  return manager.acquire({
    modelId,
    name: `Model ${modelId}`,
    contextTokens: 1024,
    kvDtype: 'f16',
    estimatedBytes: 100 * MEGABYTE,
    open: () => Promise.resolve(runtimeOf(modelId)),
  })
}

const loaded = (manager: ModelManager): readonly string[] => manager.loaded().map(({ modelId }) => modelId)
const JOB = { name: 'Compression of Pebble' }

it('unloads idle models, oldest first, and only as many as it takes', async () => {
  const manager = createModelManager({ budgetBytes: () => 300 * MEGABYTE })
  for (const id of ['a', 'b', 'c']) (await load(manager, id)).release()
  using _held = await manager.reserve({ ...JOB, bytes: 150 * MEGABYTE })
  expect(loaded(manager)).toEqual(['c'])
})

it('waits for models in use, saying what is lacking, and goes on when one is let go', async () => {
  const manager = createModelManager({ budgetBytes: () => 300 * MEGABYTE })
  const leases = [await load(manager, 'a'), await load(manager, 'b')]
  const said = Promise.withResolvers<string>()
  const reserved = manager.reserve({ ...JOB, bytes: 250 * MEGABYTE, onWait: said.resolve })
  expect(await said.promise).toBe('Waiting for device memory: 250 MB are needed, 100 MB of 300 MB are free; in use: Model a, Model b.')
  for (const lease of leases) lease.release()
  using _held = await reserved
  expect(loaded(manager)).toEqual([])
})

it('is seen by loads, which name it, until it is let go', async () => {
  const manager = createModelManager({ budgetBytes: () => 300 * MEGABYTE })
  const held = await manager.reserve({ ...JOB, bytes: 250 * MEGABYTE })
  await expect(load(manager, 'a')).rejects.toMatchObject({
    code: 'gpu.out-of-memory',
    hint: 'Compression of Pebble holds part of it: wait for its end, or cancel it.',
  })
  held[Symbol.dispose]()
  held[Symbol.dispose]()
  ;(await load(manager, 'a')).release()
  expect(loaded(manager)).toEqual(['a'])
})

it('grows where there is room, and not beyond models in use', async () => {
  const manager = createModelManager({ budgetBytes: () => 300 * MEGABYTE })
  using held = await manager.reserve({ ...JOB, bytes: 50 * MEGABYTE })
  const lease = await load(manager, 'a')
  expect([await held.resize(250 * MEGABYTE), await held.resize(200 * MEGABYTE)]).toEqual([false, true])
  lease.release()
  expect([await held.resize(250 * MEGABYTE), loaded(manager)]).toEqual([true, []])
})

it('is granted alone whatever the budget says, since the work will tell', async () => {
  for (const budget of [null, 10 * MEGABYTE]) {
    const manager = createModelManager({ budgetBytes: () => budget })
    using _held = await manager.reserve({ ...JOB, bytes: 50 * MEGABYTE })
  }
  const manager = createModelManager({ budgetBytes: () => null })
  const lease = await load(manager, 'a')
  const said = Promise.withResolvers<string>()
  const reserved = manager.reserve({ ...JOB, bytes: 1, onWait: said.resolve })
  expect(await said.promise).toMatch(/not known; in use: Model a\.$/)
  lease.release()
  using _held = await reserved
  expect(loaded(manager)).toEqual([])
})

it('a wait ends when it is cancelled, and holds nothing', async () => {
  const manager = createModelManager({ budgetBytes: () => 300 * MEGABYTE })
  const lease = await load(manager, 'a')
  const controller = new AbortController()
  const reserved = manager.reserve({ ...JOB, bytes: 250 * MEGABYTE, signal: controller.signal, onWait: () => controller.abort() })
  await expect(reserved).rejects.toThrow(/abort/)
  ;(await load(manager, 'b')).release()
  lease.release()
  expect(loaded(manager)).toEqual(['a', 'b'])
})
