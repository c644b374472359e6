/** What happens around steps: memory that comes and goes, refusals, cancelled loads, lost devices. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { CompileOptions, Executable, KvCache, Program, StepInput } from '../program.ts'
import { testBackends } from '../test/adapters.ts'
import { bytesOf } from '../test/memory-weights.ts'
import { batchStep } from '../test/numeric.ts'
import { smallCapacity, smallLayout, smallProgram } from '../test/small-program.ts'
import { WebGpuBackend } from './backend.ts'

const [first] = await testBackends()

function smallStep(): StepInput {
  return batchStep([{ count: 5 }], smallLayout, smallCapacity)
}

describe.skipIf(first === undefined)('on the first software adapter', () => {
  let backend: WebGpuBackend
  const held: Disposable[] = []
  beforeAll(async () => {
    backend = (await first!.open()) as WebGpuBackend
  })
  afterEach(() => {
    for (const resource of held.splice(0)) resource[Symbol.dispose]()
    if (backend.usage().size > 0) throw new Error(`left behind: ${[...backend.usage().keys()].join(', ')}`)
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  async function cache(on: WebGpuBackend = backend): Promise<KvCache> {
    const kv = await on.createKvCache(smallLayout, 'kv')
    held.push(kv)
    return kv
  }

  async function load(
    change: Partial<CompileOptions> = {},
    program: Program = smallProgram(),
  ): Promise<{ kv: KvCache; executable: Executable }> {
    const kv = await cache()
    const executable = await backend.compile(program, { capacity: smallCapacity, kv, owner: 'model', ...change })
    held.push(executable)
    return { kv, executable }
  }

  it('counts every buffer by owner and returns to nothing', async () => {
    expect(backend.usage()).toEqual(new Map())
    const { kv, executable } = await load()
    const tokenBytes = smallLayout.kvHeads * smallLayout.headDim * 2
    expect(backend.usage().get('kv')).toEqual({ bytes: 2 * 2 * smallLayout.blocks * smallLayout.blockSize * tokenBytes, buffers: 4 })
    const before = backend.usage().get('model')
    expect(before!.bytes).toBeGreaterThan(100_000)
    for (let i = 0; i < 3; i++) await executable.step(smallStep())
    await executable.read(executable.program.logits)
    await executable.profile(smallStep())
    expect(backend.usage().get('model')).toEqual(before)
    const drift = await backend.drift(executable, executable, 5, new Uint32Array(5))
    expect([...drift.kld]).toEqual([0, 0, 0, 0, 0])
    expect([...backend.usage().keys()].toSorted()).toEqual(['kv', 'model'])
    executable[Symbol.dispose]()
    expect([...backend.usage().keys()]).toEqual(['kv'])
    kv[Symbol.dispose]()
    expect(backend.usage()).toEqual(new Map())
    await expect(executable.step(smallStep())).rejects.toMatchObject({ code: 'gpu.invalid-operation' })
  })

  it('shares activation memory between values, and says when one is gone', async () => {
    const { executable } = await load()
    await executable.step(smallStep())
    const { operations, logits } = executable.program
    expect((await executable.read(logits)).length).toBe(5 * 500)
    const q = operations.flatMap((operation) => (operation.op === 'ropeAppend' ? [operation.q] : []))[0]!
    await expect(executable.read(q)).rejects.toMatchObject({
      code: 'gpu.invalid-operation',
      hint: expect.stringContaining('keepValues') as string,
    })
    const shared = backend.usage().get('model')!.bytes
    const kept = await load({ keepValues: true, owner: 'kept' })
    await kept.executable.step(smallStep())
    expect((await kept.executable.read(q)).length).toBe(5 * q.width)
    expect(backend.usage().get('kept')!.bytes).toBeGreaterThan(shared + 100_000)
  })

  it('reports upload progress to the last byte', async () => {
    const reports: (readonly [number, number])[] = []
    await load({ onProgress: (done, total) => reports.push([done, total]) })
    const total = reports[0]![1]
    expect(reports[0]).toEqual([0, total])
    expect(reports.at(-1)).toEqual([total, total])
    expect(reports.map(([done]) => done)).toEqual(reports.map(([done]) => done).toSorted((a, b) => a - b))
  })

  it('leaves nothing behind when a load is cancelled half-way', async () => {
    const controller = new AbortController()
    const kv = await cache()
    const options = { capacity: smallCapacity, kv, owner: 'model', signal: controller.signal }
    const loading = backend.compile(smallProgram(), {
      ...options,
      onProgress: (done, total) => {
        if (done > total / 2) controller.abort(new Error('enough'))
      },
    })
    await expect(loading).rejects.toThrow('enough')
    expect([...backend.usage().keys()]).toEqual(['kv'])
  })

  it('leaves nothing behind when a weight cannot be read', async () => {
    const program = smallProgram()
    const [weight] = program.weights
    const [part] = weight!.parts
    const broken = { ...part!, values: { byteLength: part!.values.byteLength, read: () => Promise.reject(new Error('disk gone')) } }
    const changed = { ...weight!, parts: [broken] }
    const operations = program.operations.map((operation) => {
      return 'weight' in operation && operation.weight === weight ? { ...operation, weight: changed } : operation
    })
    await expect(load({}, { ...program, operations, weights: [changed, ...program.weights.slice(1)] })).rejects.toThrow('disk gone')
    expect([...backend.usage().keys()]).toEqual(['kv'])
  })

  it('refuses what the budget does not hold, with the numbers, and stays usable', async () => {
    const small = new WebGpuBackend(backend.gpu, backend.tuning, 300_000)
    const error = await small.createKvCache({ ...smallLayout, blocks: 10_000 }, 'kv').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'gpu.out-of-memory', data: { budgetBytes: 300_000, usedBytes: 0, needBytes: 20_480_000 } })
    const kv = await cache(small)
    const refused = small.compile(smallProgram(), { capacity: smallCapacity, kv, owner: 'model' })
    await expect(refused).rejects.toMatchObject({ code: 'gpu.out-of-memory' })
    expect([...small.usage().keys()]).toEqual(['kv'])
  })

  it('refuses a cache that one binding cannot hold, and says what would fit', async () => {
    const limit = backend.gpu.limits.maxStorageBufferBindingSize
    const blocks = Math.ceil(limit / (smallLayout.blockSize * smallLayout.kvHeads * smallLayout.headDim * 2)) + 1
    await expect(backend.createKvCache({ ...smallLayout, blocks }, 'kv')).rejects.toMatchObject({
      code: 'gpu.out-of-memory',
      hint: expect.stringMatching(/at most \d+ tokens/) as string,
    })
  })

  it('refuses overlapping steps and indices out of range without touching the device', async () => {
    const { executable } = await load()
    const running = executable.step(smallStep())
    await expect(executable.step(smallStep())).rejects.toMatchObject({ code: 'gpu.invalid-operation' })
    await running
    const bad = [{ tokenIds: Uint32Array.of(1, 2, 3, 4, 500) }, { slots: new Uint32Array(5) }, { logitRows: Uint32Array.of(0, 1, 2, 3, 5) }]
    for (const change of bad)
      await expect(executable.step({ ...smallStep(), ...change })).rejects.toMatchObject({ code: 'gpu.invalid-operation' })
    expect((await executable.step(smallStep())).nonFinite).toBe(false)
  })

  it('runs a step without logit rows', async () => {
    const { executable } = await load()
    const none = { logitRows: new Uint32Array(0), samplers: [], targets: new Uint32Array(0) }
    expect((await executable.step({ ...smallStep(), ...none })).sampled.length).toBe(0)
  })

  it('fails a step in flight with a reason when the device goes, and everything after it', async () => {
    const doomed = (await first!.open()) as WebGpuBackend
    const kv = await doomed.createKvCache(smallLayout, 'kv')
    const executable = await doomed.compile(smallProgram(), { capacity: smallCapacity, kv, owner: 'model' })
    const running = executable.step(smallStep())
    doomed.gpu.destroy()
    await expect(running).rejects.toMatchObject({ code: 'gpu.device-lost' })
    expect(await doomed.lost).toBe('the device was closed')
    await expect(executable.step(smallStep())).rejects.toMatchObject({ code: 'gpu.device-lost' })
    await expect(doomed.createKvCache(smallLayout, 'kv')).rejects.toMatchObject({ code: 'gpu.device-lost' })
    // The adapter opens again, and another device of it never noticed.
    await using again = await first!.open()
    expect(again.id).toBe(doomed.id)
    const { executable: other } = await load()
    expect((await other.step(smallStep())).nonFinite).toBe(false)
  })

  it('refuses malformed weights before it uploads anything', async () => {
    const program = smallProgram()
    const [weight] = program.weights
    const short = { ...weight!, parts: [{ ...weight!.parts[0]!, values: bytesOf(new Uint8Array(4)) }] }
    await expect(load({}, { ...program, weights: [short, ...program.weights.slice(1)] })).rejects.toMatchObject({
      code: 'gpu.invalid-operation',
    })
    expect([...backend.usage().keys()]).toEqual(['kv'])
  })

  it('compares only models of one device whose last steps match', async () => {
    const { executable } = await load()
    await expect(backend.drift(executable, executable, 1, new Uint32Array(1))).rejects.toMatchObject({ code: 'gpu.invalid-operation' })
    await executable.step(smallStep())
    await expect(backend.drift(executable, executable, 6, new Uint32Array(6))).rejects.toMatchObject({ code: 'gpu.invalid-operation' })
  })
})
