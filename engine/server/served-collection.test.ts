import { afterEach, expect, test, vi } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import type { Runtime } from '../runtime/types.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { createServedCollection } from './served-collection.ts'
import { createEchoRuntime } from './test/echo-model.ts'

afterEach(() => void vi.useRealTimers())

const TOKENIZER = {
  vocabSize: 256,
  specialTokens: [],
  chatTemplates: new Map(),
  tokenBytes: () => new Uint8Array(0),
  isSpecial: () => false,
} as unknown as Tokenizer
const never = new AbortController().signal

function setup(entries: readonly { name: string; aliases?: readonly string[]; pinned?: boolean }[], idleMs: number | null = 1000) {
  const events: string[] = []
  const held = new Map<string, number>()
  const runtimes = new Map<string, Runtime>()
  const collection = createServedCollection(
    entries,
    {
      acquire: async ({ name }, signal, onProgress) => {
        signal.throwIfAborted()
        if (!runtimes.has(name) || runtimes.get(name)!.failure !== null) {
          onProgress({ phase: 'reading', doneBytes: 1, totalBytes: 1 })
          runtimes.set(name, createEchoRuntime())
          events.push(`load ${name}`)
        }
        held.set(name, (held.get(name) ?? 0) + 1)
        return { runtime: runtimes.get(name)!, release: () => void held.set(name, held.get(name)! - 1) }
      },
      unload: async ({ name }) => {
        expect(held.get(name)).toBe(0)
        runtimes.delete(name)
        events.push(`unload ${name}`)
      },
      tokenizer: async () => TOKENIZER,
    },
    { idleMs, log: () => {} },
  )
  const fail = (name: string): void => {
    const error = new LatheError('gpu.device-lost', 'The GPU was lost.', 'Wait.')
    Object.defineProperty(runtimes.get(name)!, 'failure', { value: error })
  }
  return { collection, events, held, fail }
}

test('a model is loaded when it is first asked for, by any of its names, and never another in its place', async () => {
  const { collection, events } = setup([{ name: 'big one', aliases: ['b'] }, { name: 'small' }])
  expect(await collection.acquire('other', never)).toBeNull()
  const lease = await collection.acquire('b', never)
  expect([lease!.model.name, events, collection.cards().map((card) => card.contextLimit)]).toEqual([
    'big-one',
    ['load big one'],
    [64, null],
  ])
  lease!.release()
  lease!.release()
  await collection[Symbol.asyncDispose]()
})

test('idle models are unloaded when their time is up, those in use and those pinned are not', async () => {
  vi.useFakeTimers()
  const { collection, events } = setup([{ name: 'kept', pinned: true }, { name: 'used' }, { name: 'idle' }])
  await collection.start(never)
  const used = await collection.acquire('used', never)
  const idle = await collection.acquire('idle', never)
  const kept = await collection.acquire('kept', never)
  kept!.release()
  idle!.release()
  await vi.advanceTimersByTimeAsync(900)
  const again = await collection.acquire('idle', never)
  await vi.advanceTimersByTimeAsync(5000)
  expect(events).toEqual(['load kept', 'load used', 'load idle'])
  again!.release()
  await vi.advanceTimersByTimeAsync(1001)
  expect(events.slice(3)).toEqual(['unload idle'])
  used!.release()
  await vi.advanceTimersByTimeAsync(1001)
  expect(events.slice(4)).toEqual(['unload used'])
  await collection[Symbol.asyncDispose]()
})

test('sleep waits for nobody and takes nothing from those who are busy', async () => {
  const { collection, events } = setup([{ name: 'a', pinned: true }, { name: 'b' }], null)
  await collection.start(never)
  const lease = await collection.acquire('b', never)
  await expect(collection.sleep!()).rejects.toMatchObject({ code: 'model.busy' })
  lease!.release()
  await collection.sleep!()
  expect([collection.asleep!(), events]).toEqual([true, ['load a', 'load b', 'unload a', 'unload b']])
  await collection.wake!(never)
  expect([collection.asleep!(), events.at(-1)]).toEqual([false, 'load a'])
  await collection[Symbol.asyncDispose]()
})

test('a pinned model whose device is lost is a fault until it is loaded again, and is pinned as before', async () => {
  vi.useFakeTimers()
  const { collection, events, fail } = setup([{ name: 'kept', pinned: true }])
  await collection.start(never)
  expect([collection.fault!(), collection.status!()[0]]).toEqual([
    null,
    expect.objectContaining({ state: 'loaded', inUse: 0, pinned: true }),
  ])
  fail('kept')
  expect([collection.status!()[0]!.state, collection.fault!()?.message]).toEqual(['failed', 'The GPU was lost.'])
  await vi.advanceTimersByTimeAsync(0)
  expect([collection.fault!(), collection.status!()[0]!.state, events]).toEqual([null, 'loaded', ['load kept', 'load kept']])
  await vi.advanceTimersByTimeAsync(5000)
  expect(collection.status!()[0]).toMatchObject({ state: 'loaded', inUse: 0, unloadAt: null })
  await collection[Symbol.asyncDispose]()
})

test('an unloaded model is gone until it is asked for; one in use is refused; a pinned one is pinned again by loading it', async () => {
  const { collection, events, held } = setup([{ name: 'a', pinned: true }, { name: 'b' }], null)
  await collection.start(never)
  const lease = await collection.acquire('b', never)
  await expect(collection.unload!('b')).rejects.toMatchObject({ code: 'model.busy' })
  lease!.release()
  expect([(await collection.unload!('b'))!.state, (await collection.unload!('a'))!.state, await collection.unload!('c')]).toEqual([
    'unloaded',
    'unloaded',
    null,
  ])
  const steps: string[] = []
  expect(await collection.load!('a', never, ({ phase }) => steps.push(phase))).toMatchObject({ state: 'loaded', inUse: 0 })
  expect([steps, held.get('a'), events.at(-1)]).toEqual([['reading'], 1, 'load a'])
  await collection[Symbol.asyncDispose]()
})

test('two models may not share a name', () => {
  expect(() => setup([{ name: 'a b' }, { name: 'x', aliases: ['a-b'] }])).toThrow(/"a-b"/)
})
