import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { createEchoRuntime } from '../server/test/echo-model.ts'
import type { EchoOptions } from '../server/test/echo-model.ts'
import type { ServerConfig } from '../contract/index.ts'
import { LatheError } from '../contract/index.ts'
import { Serving } from './serving.ts'

const FOLDER = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))
const CONFIG: ServerConfig = {
  modelIds: ['m1', 'm2'],
  host: '127.0.0.1',
  port: 0,
  apiKey: 'secret-key',
  corsOrigins: [],
  idleUnloadMinutes: null,
}
const never = new AbortController().signal
const open: Serving[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((serving) => serving.close()))
})

function setup(options: EchoOptions = {}) {
  const loads: string[] = []
  let saved: ServerConfig | null = null
  let changes = 0
  const runtime = createEchoRuntime({ contextLimit: 4096, ...options })
  const serving = new Serving({
    models: {
      acquire: async ({ modelId, signal }) => {
        signal.throwIfAborted()
        if (modelId === 'm-bad') throw new LatheError('gpu.out-of-memory', 'No room.', 'Free some.')
        loads.push(modelId)
        return { runtime, release: () => {}, [Symbol.dispose]: () => {} }
      },
      unload: async () => {},
    },
    resolve: async (modelId) => ({ modelId, name: 'Pebble · Tide', folder: FOLDER }),
    loadSettings: () => ({ contextTokens: 256, kvDtype: 'f16' }),
    saved: () => saved,
    save: (config) => {
      saved = config
    },
    onChange: () => changes++,
    version: '1.2.3',
    log: () => {},
  })
  open.push(serving)
  return { serving, loads, saved: () => saved, changes: () => changes, runtime }
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
      { modelId: 'm1', name: 'Pebble-Tide', loaded: true, contextLimit: 4096 },
      { modelId: 'm2', name: 'Pebble-Tide-2', loaded: false, contextLimit: null },
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
  expect([stopped.state, stopped.url, stopped.config, saved()]).toEqual(['stopped', null, CONFIG, CONFIG])
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
