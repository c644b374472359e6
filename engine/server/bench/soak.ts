/**
 * Mixed traffic against the server for a while: whole and streamed answers, schemas, tools, aborts at random moments, overlong prompts, bad JSON,
 * slow readers, oversize bodies. At the end blocks, requests and handles must be back where they were, every answer to a fixed prompt must have
 * been the same, and the lag of the event loop is printed. `node engine/server/bench/soak.ts [seconds] [seed] [--webgpu] [--speculate]`.
 */
import { connect } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { createModelManager } from '../../runtime/manager.ts'
import { openRuntime } from '../../runtime/open-runtime.ts'
import type { Runtime } from '../../runtime/types.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { startServer } from '../http-server.ts'
import { createServedCollection } from '../served-collection.ts'

const seconds = Number(process.argv[2] ?? 60)
let state = Number(process.argv[3] ?? 1)
const random = (): number => {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
}
const folder = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))
const backend = process.argv.includes('--webgpu') ? await openBackend(null) : createReferenceBackend()
const manager = createModelManager({ budgetBytes: () => null })
let runtime: Runtime | null = null
const speculation = process.argv.includes('--speculate') ? ({ kind: 'ngram' } as const) : undefined
const collection = createServedCollection(
  [{ name: 'demo', pinned: true }],
  {
    acquire: ({ name }, signal) =>
      manager.acquire({
        modelId: 'demo',
        name,
        contextTokens: 512,
        kvDtype: 'f16',
        estimatedBytes: null,
        signal,
        open: async (options) => {
          runtime = await openRuntime({
            ...options,
            source: folder,
            backend,
            modelId: 'demo',
            contextTokens: 512,
            kvDtype: 'f16',
            maxQueued: 24,
            speculation,
          })
          return runtime
        },
      }),
    unload: () => manager.unload('demo'),
    tokenizer: () => loadTokenizer(folder),
  },
  { idleMs: null, log: () => {} },
)
await collection.start(new AbortController().signal)
const server = await startServer({ models: collection, apiKey: null, port: 0, version: 'soak', log: () => {} })
const client = new OpenAI({ apiKey: 'none', baseURL: server.url, maxRetries: 0, timeout: 120_000 })
const loaded = runtime as Runtime | null
if (loaded === null) throw new Error('The model was not loaded')

const messages = [{ role: 'user' as const, content: 'What kind of pet does Gus have?' }]
const fixed = { model: 'demo', messages, temperature: 1, seed: 11, max_tokens: 24 }
const schema = {
  type: 'object',
  properties: { a: { type: 'integer', minimum: 3, maximum: 9 }, b: { type: 'string', maxLength: 4 } },
  required: ['a', 'b'],
}
const expected = (await client.chat.completions.create(fixed)).choices[0]?.message.content
/** Made once: the client shares the loop whose lag is measured. */
const OVERSIZE = Buffer.from(JSON.stringify({ model: 'demo', prompt: 'x'.repeat(17 * 2 ** 20) }))
const outcomes = new Map<string, number>()
const count = (name: string): void => void outcomes.set(name, (outcomes.get(name) ?? 0) + 1)

/** Each resolves with what happened, or throws for what must not. */
const kinds: Readonly<Record<string, () => Promise<string>>> = {
  fixed: async () => {
    const content = (await client.chat.completions.create(fixed)).choices[0]?.message.content
    if (content !== expected)
      throw new Error(`The fixed prompt was answered ${JSON.stringify(content)} instead of ${JSON.stringify(expected)}`)
    return 'same'
  },
  stream: async () => {
    const stream = await client.chat.completions.create({ ...fixed, stream: true })
    let content = ''
    for await (const chunk of stream) content += chunk.choices[0]?.delta.content ?? ''
    if (content !== expected) throw new Error(`The fixed prompt was streamed as ${JSON.stringify(content)}`)
    return 'same'
  },
  schema: async () => {
    const format = { type: 'json_schema' as const, json_schema: { name: 's', schema } }
    const choice = (await client.chat.completions.create({ model: 'demo', messages, max_tokens: 120, response_format: format })).choices[0]
    if (choice?.finish_reason !== 'stop') return 'cut off'
    const value = JSON.parse(choice.message.content ?? '') as { a: number; b: string }
    if (!(value.a >= 3 && value.a <= 9 && [...value.b].length <= 4)) throw new Error(`Not of its schema: ${JSON.stringify(value)}`)
    return 'valid'
  },
  abort: async () => {
    const controller = new AbortController()
    const pending = client.completions
      .create({ model: 'demo', prompt: 'word '.repeat(1 + Math.floor(random() * 200)), max_tokens: 200 }, { signal: controller.signal })
      .catch(() => null)
    await sleep(random() * 400)
    controller.abort()
    await pending
    return 'aborted'
  },
  leave: async () => {
    const stream = await client.completions.create({ model: 'demo', prompt: 'A story:', max_tokens: 200, stream: true })
    let left = Math.floor(random() * 8)
    for await (const _ of stream) if (left-- === 0) break
    return 'left'
  },
  overlong: async () => refused(() => client.completions.create({ model: 'demo', prompt: 'word '.repeat(2000) }), 400),
  badSchema: async () => refused(() => client.completions.create({ model: 'demo', prompt: 'x', guided_regex: '((' } as never), 400),
  badJson: async () => {
    const response = await fetch(`${server.url}/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"model":',
    })
    await response.body?.cancel()
    if (response.status !== 400) throw new Error(`Bad JSON was answered with ${response.status}`)
    return 'refused'
  },
  oversize: async () => {
    const status = await fetch(`${server.url}/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: OVERSIZE,
    }).then(
      (response) => response.status,
      () => 413, // the connection was closed while the body was still being sent
    )
    if (status !== 413) throw new Error(`An oversize body was answered with ${status}`)
    return 'refused'
  },
  slowReader: () =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({ model: 'demo', prompt: 'A long story:', max_tokens: 300, ignore_eos: true, stream: true })
      const socket = connect(server.port, '127.0.0.1', () => {
        socket.write(
          `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        )
        socket.pause()
        setTimeout(() => {
          socket.destroy()
          resolve('hung up')
        }, 2000)
      })
      socket.once('error', reject)
    }),
}

async function refused(call: () => Promise<unknown>, status: number): Promise<string> {
  const error = await call().then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof OpenAI.APIError) || (error.status !== status && error.status !== 429))
    throw new Error(`Expected ${status}, got ${String(error)}`)
  return 'refused'
}

const lag = monitorEventLoopDelay({ resolution: 5 })
lag.enable()
const names = Object.keys(kinds)
const wrong: string[] = []
const before = process.memoryUsage().rss
const end = performance.now() + seconds * 1000
const workers = Array.from({ length: 12 }, async () => {
  while (performance.now() < end) {
    const name = names[Math.floor(random() * names.length)] ?? 'fixed'
    try {
      count(`${name}: ${await kinds[name]?.()}`)
    } catch (error) {
      if (error instanceof OpenAI.RateLimitError) count(`${name}: 429`)
      else wrong.push(`${name}: ${String(error)}`)
    }
  }
})
await Promise.all(workers)
lag.disable()
for (let tries = 0; loaded.active > 0 && tries < 100; tries++) await sleep(50)
const { running, waiting, kvBlocksUsed, preemptions, speculation: speculated } = loaded.telemetry()
const leftovers = {
  running,
  waiting,
  kvBlocksUsed,
  inFlight: server.inFlight,
  live: server.live.list().filter((request) => request.endedAt === null).length,
}
await server.close()
await collection[Symbol.asyncDispose]()
await manager[Symbol.asyncDispose]()
const held = [...backend.usage().values()].reduce((sum, { bytes }) => sum + bytes, 0)
await backend[Symbol.asyncDispose]()
// Closed sockets leave with the next turns of the loop.
await sleep(300)
const handles = process.getActiveResourcesInfo().filter((name) => !/^(TTYWrap|PipeWrap|FSReqCallback|Timeout)$/.test(name))
console.log(Object.fromEntries([...outcomes].toSorted()))
if (speculated !== undefined)
  console.log({ drafts: speculated.drafts, draftTokens: speculated.draftTokens, accepted: speculated.acceptedTokens })
console.log({
  seconds,
  preemptions,
  leftovers,
  gpuBytesHeld: held,
  handles,
  rssGrowthMB: Math.round((process.memoryUsage().rss - before) / 1e6),
})
console.log(
  `event loop lag p50 ${(lag.percentile(50) / 1e6).toFixed(1)} ms, p99 ${(lag.percentile(99) / 1e6).toFixed(1)} ms, max ${(lag.max / 1e6).toFixed(0)} ms`,
)
if (wrong.length > 0) console.log('WRONG', wrong.slice(0, 10), wrong.length)
process.exitCode = wrong.length > 0 || Object.values(leftovers).some((left) => left > 0) || held > 0 || handles.length > 0 ? 1 : 0
