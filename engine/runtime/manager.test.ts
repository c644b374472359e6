import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { createModelManager } from './manager.ts'
import type { ModelManagerOptions } from './manager.ts'
import { GREEDY } from './test/fake-runtime.ts'
import type { AcquireOptions, LoadProgress, ModelManager, Runtime } from './types.ts'

const MEGABYTE = 1_000_000

class TestRuntime implements Runtime {
  readonly info: Runtime['info']
  active = 0
  failure: Error | null = null
  disposed = false

  constructor(modelId: string, contextLimit: number, bytes: number) {
    const sizes = { weightBytes: bytes, kvBytes: 0, otherBytes: 0, loadMs: 1 }
    const limits = { contextLimit, modelContextLimit: contextLimit, maxSequences: 1, vocabulary: 10, eosTokenIds: [] }
    this.info = { modelId, adapterId: 'test', software: true, kvDtype: 'f16', defaultSampling: GREEDY, ...sizes, ...limits }
  }
  generate(): never {
    throw new Error('not used')
  }
  score(): never {
    throw new Error('not used')
  }
  telemetry(): never {
    throw new Error('not used')
  }
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.disposed) throw new Error(`${this.info.modelId} was closed twice`)
    this.disposed = true
  }
}

/** A world of models of 100 MB each, whose loads wait for a word. */
class World {
  readonly manager: ModelManager
  readonly made: TestRuntime[] = []
  readonly opened: string[] = []
  changes = 0
  /** Real memory, which a load may exceed although the budget does not say so. */
  memoryBytes = Infinity

  constructor(budgetBytes: number | null = null, options: Partial<ModelManagerOptions> = {}) {
    this.manager = createModelManager({ budgetBytes: () => budgetBytes, onChange: () => this.changes++, ...options })
  }

  get held(): readonly string[] {
    return this.made.filter(({ disposed }) => !disposed).map(({ info }) => info.modelId)
  }

  options(modelId: string, change: Partial<AcquireOptions> = {}): AcquireOptions {
    return {
      modelId,
      name: `Model ${modelId}`,
      contextTokens: 1024,
      kvDtype: 'f16',
      estimatedBytes: 100 * MEGABYTE,
      open: async ({ signal }) => this.make(modelId, change.contextTokens ?? 1024, signal),
      ...change,
    }
  }

  make(modelId: string, contextTokens: number, signal: AbortSignal): TestRuntime {
    signal.throwIfAborted()
    this.opened.push(modelId)
    const bytes = 100 * MEGABYTE
    if ((this.held.length + 1) * bytes > this.memoryBytes) throw new LatheError('gpu.out-of-memory', 'No memory left', 'Free some')
    const runtime = new TestRuntime(modelId, contextTokens, bytes)
    this.made.push(runtime)
    return runtime
  }
}

describe('model manager', () => {
  it('loads once for all who ask at the same time, tells each the progress, and keeps it when they leave', async () => {
    const world = new World()
    const gate = Promise.withResolvers<void>()
    const progress: string[] = []
    const options = (who: string): AcquireOptions =>
      world.options('a', {
        onProgress: ({ doneBytes }) => progress.push(`${who} ${doneBytes}`),
        open: async ({ signal, onProgress }) => {
          await gate.promise
          onProgress({ phase: 'uploading', doneBytes: 7, totalBytes: 9 } satisfies LoadProgress)
          return world.make('a', 1024, signal)
        },
      })
    const acquiring = [world.manager.acquire(options('one')), world.manager.acquire(options('two'))]
    gate.resolve()
    const [one, two] = await Promise.all(acquiring)
    const third = await world.manager.acquire(options('three'))
    expect(new Set([one!.runtime, two!.runtime, third.runtime]).size).toBe(1)
    expect({ opened: world.opened, progress }).toEqual({ opened: ['a'], progress: ['one 7', 'two 7'] })
    expect(world.manager.loaded()).toMatchObject([
      { modelId: 'a', name: 'Model a', weightBytes: 100 * MEGABYTE, contextLimit: 1024, busy: true },
    ])
    for (const lease of [one!, two!, third]) {
      lease.release()
      lease.release()
    }
    expect(world.manager.loaded()).toMatchObject([{ modelId: 'a', busy: false }])
    expect(world.held).toEqual(['a'])
  })

  it('makes room by unloading the least recently used idle model, never one in use', async () => {
    const world = new World(250 * MEGABYTE)
    const a = await world.manager.acquire(world.options('a'))
    ;(await world.manager.acquire(world.options('b'))).release()
    using c = await world.manager.acquire(world.options('c'))
    expect(world.held).toEqual(['a', 'c'])
    await expect(world.manager.acquire(world.options('d'))).rejects.toMatchObject({
      code: 'gpu.out-of-memory',
      message: 'Model d needs 100 MB; 50 MB of 250 MB are free.',
      data: { needBytes: 100 * MEGABYTE, freeBytes: 50 * MEGABYTE },
    })
    expect({ held: world.held, opened: world.opened }).toEqual({ held: ['a', 'c'], opened: ['a', 'b', 'c'] })
    a.release()
    using d = await world.manager.acquire(world.options('d'))
    expect(world.held).toEqual(['c', 'd'])
    expect([c.runtime.info.modelId, d.runtime.info.modelId]).toEqual(['c', 'd'])
  })

  it('does not unload a model whose lease was returned while a request still runs', async () => {
    const world = new World(150 * MEGABYTE)
    const lease = await world.manager.acquire(world.options('a'))
    const runtime = lease.runtime as TestRuntime
    runtime.active = 1
    lease.release()
    await expect(world.manager.acquire(world.options('b'))).rejects.toMatchObject({ code: 'gpu.out-of-memory' })
    await expect(world.manager.unload('a')).rejects.toMatchObject({ code: 'model.busy' })
    runtime.active = 0
    ;(await world.manager.acquire(world.options('b'))).release()
    expect(world.held).toEqual(['b'])
  })

  it('learns from a load that runs out of memory: unloads what is idle and tries again', async () => {
    const world = new World(null)
    world.memoryBytes = 250 * MEGABYTE
    ;(await world.manager.acquire(world.options('a'))).release()
    ;(await world.manager.acquire(world.options('b'))).release()
    using _c = await world.manager.acquire(world.options('c', { estimatedBytes: null }))
    expect({ held: world.held, opened: world.opened }).toEqual({ held: ['b', 'c'], opened: ['a', 'b', 'c', 'c'] })
    world.memoryBytes = 0
    await expect(world.manager.acquire(world.options('d'))).rejects.toMatchObject({ code: 'gpu.out-of-memory', message: 'No memory left' })
    expect(world.held).toEqual(['c'])
  })

  it('forgets a failed load and loads anew for the next', async () => {
    const world = new World()
    const failing = world.options('a', { open: () => Promise.reject(new LatheError('checkpoint.not-found', 'Gone', 'Look')) })
    const both = await Promise.allSettled([world.manager.acquire(failing), world.manager.acquire(failing)])
    expect(both).toMatchObject([0, 1].map(() => ({ status: 'rejected', reason: { code: 'checkpoint.not-found' } })))
    expect(world.manager.loaded()).toEqual([])
    using lease = await world.manager.acquire(world.options('a'))
    expect(lease.runtime.info.modelId).toBe('a')
  })

  it('aborts a load only when the last who waits for it leaves', async () => {
    const world = new World()
    const gate = Promise.withResolvers<void>()
    const signals: AbortSignal[] = []
    const open: AcquireOptions['open'] = async ({ signal }) => {
      signals.push(signal)
      await gate.promise
      return world.make('a', 1024, signal)
    }
    const [first, second] = [new AbortController(), new AbortController()]
    const one = world.manager.acquire(world.options('a', { open, signal: first.signal }))
    const two = world.manager.acquire(world.options('a', { open, signal: second.signal }))
    const settled = Promise.allSettled([one, two])
    const reasons = [new Error('first'), new Error('second')]
    first.abort(reasons[0])
    await expect(one).rejects.toBe(reasons[0])
    expect(signals.map(({ aborted }) => aborted)).toEqual([false])
    second.abort(reasons[1])
    await expect(two).rejects.toBe(reasons[1])
    expect(signals.map(({ aborted }) => aborted)).toEqual([true])
    // Whoever asks now does not join the load that is being given up.
    const three = world.manager.acquire(world.options('a'))
    gate.resolve()
    expect((await three).runtime.info.modelId).toBe('a')
    expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(world.held).toEqual(['a'])
    await expect(world.manager.acquire(world.options('a', { signal: AbortSignal.abort(reasons[0]) }))).rejects.toBe(reasons[0])
  })

  it('closes a model whose load finished although everyone had left', async () => {
    const world = new World()
    const gate = Promise.withResolvers<void>()
    const controller = new AbortController()
    const stubborn = new TestRuntime('a', 1024, 1)
    const started = Promise.withResolvers<void>()
    const open = async (): Promise<Runtime> => {
      started.resolve()
      await gate.promise
      return stubborn
    }
    const acquiring = world.manager.acquire(world.options('a', { open, signal: controller.signal }))
    await started.promise
    controller.abort(new Error('left'))
    await expect(acquiring).rejects.toThrow('left')
    gate.resolve()
    ;(await world.manager.acquire(world.options('b'))).release()
    expect(stubborn.disposed).toBe(true)
    expect(world.manager.loaded().map(({ modelId }) => modelId)).toEqual(['b'])
  })

  it('shares a load of larger context, and replaces an idle one of smaller', async () => {
    const world = new World()
    const large = await world.manager.acquire(world.options('a', { contextTokens: 4096 }))
    const small = await world.manager.acquire(world.options('a', { contextTokens: 512 }))
    expect(small.runtime).toBe(large.runtime)
    small.release()
    large.release()
    using larger = await world.manager.acquire(world.options('a', { contextTokens: 8192 }))
    expect({ held: world.held, limit: larger.runtime.info.contextLimit }).toEqual({ held: ['a'], limit: 8192 })
    using other = await world.manager.acquire(world.options('a', { contextTokens: 512, kvDtype: 'f32' }))
    expect(other.runtime).not.toBe(larger.runtime)
    expect(world.held).toEqual(['a', 'a'])
  })

  it('shares a load with less room with all but those who ask for more, and replaces it when it is idle', async () => {
    const world = new World()
    const plain = await world.manager.acquire(world.options('a'))
    plain.release()
    const room = { sequences: 16, kvTokens: 4096 }
    using roomy = await world.manager.acquire(world.options('a', { room }))
    expect(roomy.runtime).not.toBe(plain.runtime)
    expect(world.held).toEqual(['a'])
    using less = await world.manager.acquire(world.options('a', { room: { sequences: 16, kvTokens: 2048 } }))
    using any = await world.manager.acquire(world.options('a'))
    expect([less.runtime, any.runtime]).toEqual([roomy.runtime, roomy.runtime])
    using more = await world.manager.acquire(world.options('a', { room: { sequences: 17, kvTokens: 4096 } }))
    expect(more.runtime).not.toBe(roomy.runtime)
  })

  it('never shares a load on matrix units with those who did not ask for them', async () => {
    const world = new World()
    using first = await world.manager.acquire(world.options('a', { matrixUnits: true }))
    using second = await world.manager.acquire(world.options('a', { matrixUnits: true }))
    using evaluation = await world.manager.acquire(world.options('a'))
    using other = await world.manager.acquire(world.options('a', { matrixUnits: false }))
    expect(world.opened).toEqual(['a', 'a'])
    expect(second.runtime).toBe(first.runtime)
    expect(evaluation.runtime).not.toBe(first.runtime)
    expect(other.runtime).toBe(evaluation.runtime)
  })

  it('unloads on request, refuses while in use or loading, and knows what was not loaded', async () => {
    const world = new World()
    const lease = await world.manager.acquire(world.options('a'))
    await expect(world.manager.unload('a')).rejects.toMatchObject({ code: 'model.busy', message: 'Model a is in use.' })
    lease.release()
    expect(await world.manager.unload('a')).toBe(true)
    expect({ held: world.held, again: await world.manager.unload('a') }).toEqual({ held: [], again: false })
    const gate = Promise.withResolvers<void>()
    const open: AcquireOptions['open'] = ({ signal }) => gate.promise.then(() => world.make('a', 1024, signal))
    const loading = world.manager.acquire(world.options('a', { open }))
    await expect(world.manager.unload('a')).rejects.toMatchObject({ message: 'Model a is being loaded.' })
    gate.resolve()
    ;(await loading).release()
  })

  it('replaces a runtime that has failed, and closes the old one when its last holder lets go', async () => {
    const world = new World()
    const old = await world.manager.acquire(world.options('a'))
    const failed = old.runtime as TestRuntime
    failed.failure = new LatheError('gpu.device-lost', 'Gone', 'Again')
    using fresh = await world.manager.acquire(world.options('a'))
    expect({ same: fresh.runtime === failed, disposed: failed.disposed }).toEqual({ same: false, disposed: false })
    old.release()
    expect(failed.disposed).toBe(true)
    const idle = fresh.runtime as TestRuntime
    fresh.release()
    idle.failure = failed.failure
    using _third = await world.manager.acquire(world.options('a'))
    expect(idle.disposed).toBe(true)
    expect(world.manager.loaded().length).toBe(1)
  })

  it('loads one at a time', async () => {
    const world = new World()
    const gates = new Map(['a', 'b'].map((id) => [id, Promise.withResolvers<void>()]))
    const started: string[] = []
    const open =
      (id: string): AcquireOptions['open'] =>
      async ({ signal }) => {
        started.push(id)
        await gates.get(id)!.promise
        return world.make(id, 1024, signal)
      }
    const a = world.manager.acquire(world.options('a', { open: open('a') }))
    const b = world.manager.acquire(world.options('b', { open: open('b') }))
    gates.get('b')!.resolve()
    await Promise.resolve()
    gates.get('a')!.resolve()
    await a
    expect(started[0]).toBe('a')
    await b
    expect(started).toEqual(['a', 'b'])
  })

  it('closes everything at the end and accepts no more', async () => {
    const world = new World()
    await world.manager.acquire(world.options('a'))
    const gate = Promise.withResolvers<void>()
    const open: AcquireOptions['open'] = ({ signal }) => gate.promise.then(() => world.make('b', 1024, signal))
    const loading = world.manager.acquire(world.options('b', { open }))
    const rejected = loading.catch((error: unknown) => error)
    const closed = world.manager[Symbol.asyncDispose]()
    gate.resolve()
    await closed
    expect(await rejected).toMatchObject({ code: 'runtime.aborted' })
    expect({ held: world.held, loaded: world.manager.loaded() }).toEqual({ held: [], loaded: [] })
    await expect(world.manager.acquire(world.options('c'))).rejects.toMatchObject({ code: 'runtime.aborted' })
  })

  it('says when something changed', async () => {
    const world = new World()
    const lease = await world.manager.acquire(world.options('a'))
    const before = world.changes
    expect(before).toBeGreaterThan(0)
    lease.release()
    expect(world.changes).toBeGreaterThan(before)
  })
})
