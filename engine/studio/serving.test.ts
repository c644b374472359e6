import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { createEchoRuntime } from '../server/test/echo-model.ts'
import type { EchoOptions } from '../server/test/echo-model.ts'
import type { ServerConfig } from '../contract/index.ts'
import { LatheError } from '../contract/index.ts'
import type { AcquireModel } from './ports.ts'
import type { ServingMark } from './serving-mark.ts'
import { servingMark } from './serving-mark.ts'
import { Serving } from './serving.ts'

const FOLDER = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const CONFIG: ServerConfig = {
  modelIds: ['m1', 'm2'],
  host: '127.0.0.1',
  port: 0,
  apiKey: 'secret-key',
  corsOrigins: [],
  idleUnloadMinutes: null,
  contextTokens: null,
  parallel: null,
  kvDtype: null,
  speculation: { kind: 'off' },
  overlong: 'reject',
}
const KEPT = { ...CONFIG, apiKey: null }
const never = new AbortController().signal
const open: Serving[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((serving) => serving.close()))
})

function setup(options: EchoOptions = {}, left: ReturnType<ServingMark['read']> = 'none', kept: ServerConfig | null = null) {
  const loads: string[] = []
  let saved: ServerConfig | null = kept
  let changes = 0
  let key: string | null = null
  let marked = false
  const mark: ServingMark = {
    set: () => {
      marked = true
    },
    clear: () => {
      marked = false
    },
    read: () => (marked ? 'same-shell' : left),
  }
  const acquired: AcquireModel[] = []
  const runtime = createEchoRuntime({ contextLimit: 4096, ...options })
  const serving = new Serving({
    models: {
      acquire: async (request) => {
        const { modelId, signal } = request
        signal.throwIfAborted()
        acquired.push(request)
        if (modelId === 'm-bad') throw new LatheError('gpu.out-of-memory', 'No room.', 'Free some.')
        loads.push(modelId)
        return { runtime, release: () => {}, [Symbol.dispose]: () => {} }
      },
      unload: async () => {},
      loaded: () => [],
    },
    resolve: async (modelId) => ({ modelId, name: 'Pebble · Tide', folder: FOLDER }),
    plan: () => Promise.reject(new Error('not asked here')),
    find: async () => null,
    loadSettings: () => ({ contextTokens: 256, kvDtype: 'auto', matrixUnits: true }),
    key: {
      read: () => key,
      write: (text) => {
        key = text
      },
    },
    mark,
    saved: () => saved,
    save: (config) => {
      saved = config
    },
    onChange: () => changes++,
    version: '1.2.3',
    log: () => {},
  })
  open.push(serving)
  return { serving, loads, saved: () => saved, changes: () => changes, runtime, acquired, key: () => key, marked: () => marked }
}

const ask = (url: string, body: object) =>
  fetch(`${url}/completions`, {
    method: 'POST',
    headers: { authorization: 'Bearer secret-key', 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: [97, 98, 99, 100, 101, 102], max_tokens: 4, ...body }),
  })

test('starts with its first model loaded, shows requests as they come and go, stops, and remembers how it was set up', async () => {
  const { serving, loads, saved, changes } = setup()
  expect(serving.view()).toMatchObject({ state: 'stopped', url: null, config: null, requests: [] })
  const started = await serving.start(CONFIG, never)
  expect([started.state, loads, started.models]).toEqual([
    'running',
    ['m1'],
    [
      expect.objectContaining({ modelId: 'm1', name: 'Pebble-Tide', loaded: true, contextLimit: 4096, pinned: true }),
      expect.objectContaining({ modelId: 'm2', name: 'Pebble-Tide-2', loaded: false, contextLimit: null, bytes: null }),
    ],
  ])
  const answer = (await (await ask(started.url!, { model: 'Pebble-Tide-2', request_id: 'r1' })).json()) as { choices: { text: string }[] }
  expect([answer.choices[0]!.text, loads]).toEqual(['abcd', ['m1', 'm2']])
  expect(serving.view().requests).toMatchObject([
    {
      id: 'r1',
      model: 'Pebble-Tide-2',
      endpoint: 'completions',
      state: 'finished',
      generatedTokens: 4,
      maxTokens: 4,
      cachedTokens: 0,
      reason: 'length',
      blocks: 0,
    },
  ])
  expect(changes()).toBeGreaterThan(5)
  const stopped = await serving.stop()
  expect([stopped.state, stopped.url, stopped.config, saved()]).toEqual(['stopped', null, KEPT, KEPT])
  expect(stopped.log.map((line) => line.text)).toEqual([`Listening at ${started.url}.`, 'Stopped.'])
})

test('a running request can be aborted from the table', async () => {
  const { serving, runtime } = setup({ endless: true })
  const { url } = await serving.start(CONFIG, never)
  const answer = ask(url!, { model: 'Pebble-Tide', request_id: 'mine', max_tokens: 4000, stream: true })
  await expect.poll(() => serving.view().requests[0]?.state).toBe('decode')
  const [request] = serving.view().requests
  expect(request!.blocks).toBeGreaterThan(0)
  serving.abort('mine')
  await runtime.aborted
  expect(await (await answer).text()).toContain('"finish_reason":"abort"')
  await expect.poll(() => serving.view().requests[0]?.state).toBe('aborted')
})

test('a start that fails says why, leaves nothing behind, and can be tried again', async () => {
  const { serving } = setup()
  await expect(serving.start({ ...CONFIG, modelIds: ['m-bad'] }, never)).rejects.toMatchObject({ code: 'gpu.out-of-memory' })
  expect(serving.view()).toMatchObject({ state: 'stopped', error: { code: 'gpu.out-of-memory' } })
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const { port } = taken.address() as { port: number }
  await expect(serving.start({ ...CONFIG, port }, never)).rejects.toThrow(`Port ${port} is in use.`)
  await new Promise((resolve) => taken.close(resolve))
  expect((await serving.start({ ...CONFIG, port }, never)).error).toBeNull()
  await expect(serving.start(CONFIG, never)).rejects.toThrow(/running already/)
})

test('the key is kept where only who asks gets it, is used again, and is in no view', async () => {
  const { serving, key } = setup()
  const first = await serving.start({ ...CONFIG, apiKey: null }, never)
  const drawn = key()!
  expect([drawn.length, first.keyHint, JSON.stringify(first).includes(drawn), serving.key()]).toEqual([32, drawn.slice(-4), false, drawn])
  await serving.stop()
  await serving.start({ ...CONFIG, apiKey: null }, never)
  expect(key()).toBe(drawn)
  await serving.stop()
  const other = await serving.start(CONFIG, never)
  expect([key(), other.keyHint, other.config]).toEqual(['secret-key', '-key', KEPT])
})

test('room, cache type and speculation reach the load; what makes no sense is refused with the choices', async () => {
  const { serving, acquired } = setup()
  const room = { contextTokens: 512, parallel: 4, kvDtype: 'int8/int4', speculation: { kind: 'draft', modelId: 'm9' } } as const
  await serving.start({ ...CONFIG, ...room }, never)
  expect(acquired[0]).toMatchObject({
    contextTokens: 512,
    maxSequences: 4,
    kvTokens: 2048,
    kvDtype: 'int8/int4',
    speculation: { kind: 'draft', source: FOLDER },
  })
  await serving.stop()
  await serving.start(CONFIG, never)
  expect(acquired[1]).toMatchObject({ contextTokens: 256, kvDtype: 'auto', matrixUnits: true, speculation: undefined })
  expect(acquired[1]).not.toHaveProperty('kvTokens')
  await serving.stop()
  await expect(serving.start({ ...CONFIG, kvDtype: 'int3' }, never)).rejects.toThrow(/no cache type "int3"/)
})

test('its models are unloaded and loaded by hand, and it answers its own test', async () => {
  const { serving } = setup()
  await expect(serving.test(never)).rejects.toThrow(/does not run/)
  await serving.start(CONFIG, never)
  expect((await serving.unload('Pebble-Tide')).models[0]).toMatchObject({ loaded: false, bytes: null })
  expect((await serving.load('Pebble-Tide', never)).models[0]).toMatchObject({ loaded: true, inUse: 0 })
  await expect(serving.load('nobody', never)).rejects.toMatchObject({ code: 'model.not-found' })
  const result = await serving.test(never)
  expect([result.status, result.milliseconds > 0]).toEqual([200, true])
  await expect.poll(() => serving.view().totals.requests).toBe(1)
})

test('a server that ran when its engine died is brought back by the next one of the same shell, and by no other', async () => {
  const first = setup()
  await first.serving.start(CONFIG, never)
  expect(first.marked()).toBe(true)
  await first.serving.stop()
  expect(first.marked()).toBe(false)

  const next = setup({}, 'same-shell', KEPT)
  await next.serving.recover()
  expect(next.serving.view()).toMatchObject({ state: 'running', log: [{ text: expect.stringMatching(/is started again/) }, {}] })
  // Until it has proved to be steady: a model that kills the engine would otherwise do so for ever.
  expect(next.marked()).toBe(false)

  for (const [left, kept, lines] of [
    ['none', KEPT, 0],
    ['other-shell', KEPT, 1],
    ['same-shell', null, 1],
  ] as const) {
    const other = setup({}, left, kept)
    await other.serving.recover()
    expect([other.serving.view().state, other.serving.view().log.length]).toEqual(['stopped', lines])
  }

  const failing = setup({}, 'same-shell', { ...KEPT, modelIds: ['m-bad'] })
  await failing.serving.recover()
  expect(failing.serving.view()).toMatchObject({ state: 'stopped', error: { code: 'gpu.out-of-memory' } })
})

test('the mark of a running server tells the shell that started its engine from others', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lathe-mark-'))
  const path = join(folder, 'server-running')
  const warned: string[] = []
  const mark = (shell: number): ServingMark => servingMark(path, shell, (text) => warned.push(text))
  expect(mark(7).read()).toBe('none')
  mark(7).set()
  expect([mark(7).read(), mark(8).read()]).toEqual(['same-shell', 'other-shell'])
  mark(7).clear()
  mark(7).clear()
  expect(mark(7).read()).toBe('none')
  rmSync(folder, { recursive: true })
  mark(7).set()
  expect(warned).toHaveLength(1)
})
