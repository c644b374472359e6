/** The server over a real model: the demo model on the reference backend, through the official client. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { createModelManager } from '../runtime/manager.ts'
import { openRuntime } from '../runtime/open-runtime.ts'
import type { AcquireOptions, ModelManager, Runtime } from '../runtime/types.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { startServer } from './http-server.ts'
import type { RunningServer } from './http-server.ts'
import { createServedCollection } from './served-collection.ts'
import type { ServedCollection } from './served-collection.ts'

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0)
}

const folder = fileURLToPath(new URL('../../assets/demo-model', import.meta.url))

describe.skipIf(!existsSync(folder))('the demo model, served', () => {
  const loads: Runtime[] = []
  let collection: ServedCollection
  let manager: ModelManager
  let server: RunningServer
  let client: OpenAI

  beforeAll(async () => {
    const backend = createReferenceBackend()
    manager = createModelManager({ budgetBytes: () => null })
    const open = async (modelId: string, contextTokens: number, options: Parameters<AcquireOptions['open']>[0]): Promise<Runtime> => {
      loads.push(
        await openRuntime({
          source: folder,
          backend,
          modelId,
          contextTokens,
          kvDtype: 'f32',
          fixedTokenBudget: 64,
          // The second has six blocks of 32 tokens: a context, and one for each other sequence.
          ...(modelId === 'second' && { maxSequences: 3 }),
          ...options,
        }),
      )
      return loads.at(-1)!
    }
    collection = createServedCollection(
      [
        { name: 'demo model', aliases: ['d'], modelId: 'demo', contextTokens: 256 },
        { name: 'second', modelId: 'second', contextTokens: 128 },
      ],
      {
        acquire: ({ name, modelId, contextTokens }, signal, onProgress) =>
          manager.acquire({
            modelId,
            name,
            contextTokens,
            kvDtype: 'f32',
            estimatedBytes: null,
            open: (options) => open(modelId, contextTokens, options),
            signal,
            onProgress,
          }),
        unload: ({ modelId }) => manager.unload(modelId),
        tokenizer: () => loadTokenizer(folder),
      },
      { idleMs: null, log: () => {} },
    )
    server = await startServer({ models: collection, apiKey: null, port: 0, version: '0', log: () => {} })
    client = new OpenAI({ apiKey: 'none', baseURL: server.url, maxRetries: 0 })
  })

  afterAll(async () => {
    await server.close()
    await collection[Symbol.asyncDispose]()
    await manager[Symbol.asyncDispose]()
  })

  test('is listed by a name without spaces, its context known once it is loaded', async () => {
    const before = (await client.models.list()).data as unknown as { id: string; max_model_len: number | null }[]
    expect(before.map((card) => [card.id, card.max_model_len])).toEqual([
      ['demo-model', null],
      ['d', null],
      ['second', null],
    ])
    expect(loads.length).toBe(0)
  })

  test('answers the same twice, whole and streamed, and is loaded once', async () => {
    const ask = { model: 'd', messages: [{ role: 'user' as const, content: 'Hello!' }], temperature: 0, max_tokens: 12 }
    const [whole, streamed] = await Promise.all([
      client.chat.completions.create(ask),
      client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } }).finalChatCompletion(),
    ])
    expect(whole.model).toBe('demo-model')
    expect(whole.choices[0]!.message.content).toMatch(/\w/)
    expect(streamed.choices[0]!.message.content).toBe(whole.choices[0]!.message.content)
    expect(loads.length).toBe(1)
  })

  test('a schema, a choice and a bias bind it', async () => {
    const messages = [{ role: 'user' as const, content: 'Pick one.' }]
    const schema = {
      type: 'object',
      properties: { ok: { type: 'boolean' }, n: { type: 'integer', minimum: 10, maximum: 20 } },
      required: ['ok', 'n'],
    }
    const answer = await client.chat.completions.create({
      model: 'd',
      messages,
      temperature: 1,
      seed: 3,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema } },
    })
    const value = JSON.parse(answer.choices[0]!.message.content!) as { ok: boolean; n: number }
    expect([typeof value.ok, value.n >= 10 && value.n <= 20, answer.choices[0]!.finish_reason]).toEqual(['boolean', true, 'stop'])
    const choice = { model: 'd', messages, guided_choice: ['left', 'right'] }
    expect(['left', 'right']).toContain((await client.chat.completions.create(choice)).choices[0]!.message.content)
    const only = await client.completions.create({
      model: 'd',
      prompt: 'x',
      max_tokens: 3,
      logit_bias: { 40: 100 },
      temperature: 0,
      logprobs: 2,
    })
    expect(new Set(only.choices[0]!.logprobs!.tokens).size).toBe(1)
  })

  test('wishes that leave no token are a bad request, which names them and no folder', async () => {
    const ask = { model: 'd', messages: [{ role: 'user' as const, content: 'hi' }], guided_choice: ['yes'], min_tokens: 10 }
    const refused = (await client.chat.completions.create(ask).catch((error: unknown) => error)) as InstanceType<
      typeof OpenAI.BadRequestError
    >
    expect([refused.status, refused.message]).toEqual([400, expect.stringMatching(/^400 After \d tokens no token is allowed.*min_tokens/)])
    expect(refused.message).not.toContain('demo')
  })

  test('a template of the request that fails is blamed on the request', async () => {
    const ask = { model: 'd', messages: [{ role: 'user' as const, content: 'hi' }], chat_template: '{% if %}' }
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({
      status: 400,
      param: 'chat_template',
      message: expect.stringContaining('came with the request'),
    })
  })

  test('prompt log-probabilities agree with echo, and embeddings with themselves', async () => {
    const body = { model: 'd', prompt: 'Once upon a time', max_tokens: 0, echo: true, logprobs: 1, prompt_logprobs: 1 }
    const scored = (await client.completions.create(body)).choices[0]! as unknown as {
      logprobs: { token_logprobs: (number | null)[] }
      prompt_logprobs: (Record<string, { logprob: number }> | null)[]
    }
    const tokens = (
      (await (
        await fetch(`${server.url.slice(0, -3)}/tokenize`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ model: 'd', prompt: body.prompt }),
        })
      ).json()) as { tokens: number[] }
    ).tokens
    expect(scored.prompt_logprobs.map((entry, index) => entry?.[String(tokens[index])]?.logprob ?? null)).toEqual(
      scored.logprobs.token_logprobs,
    )
    const { data } = await client.embeddings.create({ model: 'd', input: ['Once upon a time', 'Once upon a time', 'Numbers: 1 2 3'] })
    const [first, same, other] = data.map((entry) => entry.embedding)
    expect(dot(first!, same!)).toBeCloseTo(1, 5)
    expect(dot(first!, other!)).toBeLessThan(0.999)
  })

  test('clients that leave free everything, whether they waited, were read in, or were being answered', async () => {
    const runtime = loads[0]!
    const controller = new AbortController()
    const calls = Array.from({ length: 12 }, (_, index) =>
      client.completions
        .create(
          { model: 'd', prompt: 'word '.repeat(10 + 12 * index), max_tokens: 60, ignore_eos: true, stream: index % 2 === 0 } as never,
          {
            signal: controller.signal,
          },
        )
        .then(
          () => 'answered',
          (error: unknown) => (error instanceof OpenAI.APIUserAbortError ? 'aborted' : String(error)),
        ),
    )
    await expect.poll(() => runtime.telemetry().waiting > 0 && runtime.telemetry().kvBlocksUsed > 0, { timeout: 20_000 }).toBe(true)
    controller.abort()
    // Streams whose headers had come before are answered as far as this promise goes.
    expect((await Promise.all(calls)).filter((end) => end !== 'answered' && end !== 'aborted')).toEqual([])
    await expect
      .poll(() => [runtime.active, runtime.telemetry().running, runtime.telemetry().waiting, runtime.telemetry().kvBlocksUsed], {
        timeout: 20_000,
      })
      .toEqual([0, 0, 0, 0])
    expect(server.live.list().filter((request) => request.endedAt === null)).toEqual([])
  })

  test('clients that leave while one of their requests is preempted free everything too', async () => {
    const controller = new AbortController()
    const prompts = [0, 1].map((index) => Array.from({ length: 60 }, (_, at) => 40 + index + at))
    const calls = prompts.map((prompt) =>
      client.completions
        .create({ model: 'second', prompt, max_tokens: 64, ignore_eos: true } as never, { signal: controller.signal })
        .catch((error: unknown) => error),
    )
    await expect.poll(() => loads.at(-1)!.info.modelId, { timeout: 20_000 }).toBe('second')
    const runtime = loads.at(-1)!
    // Two of them in six blocks: the first that needs a fourth takes it from the other.
    await expect.poll(() => runtime.telemetry().preemptions, { timeout: 60_000 }).toBeGreaterThan(0)
    controller.abort()
    expect((await Promise.all(calls)).every((error) => error instanceof OpenAI.APIUserAbortError)).toBe(true)
    await expect
      .poll(() => [runtime.active, runtime.telemetry().running, runtime.telemetry().waiting, runtime.telemetry().kvBlocksUsed], {
        timeout: 20_000,
      })
      .toEqual([0, 0, 0, 0])
  })

  test('a model is loaded with its progress shown, listed with what it holds, and unloaded unless it is used', async () => {
    const origin = server.url.slice(0, -3)
    const post = (path: string, body: object): Promise<Response> =>
      fetch(`${origin}${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
    const state = async (): Promise<unknown[]> =>
      (
        (await (await fetch(`${origin}/studio/models`)).json()) as {
          models: { name: string; state: string; weight_bytes: number | null }[]
        }
      ).models.map((model) => [model.name, model.state, (model.weight_bytes ?? 0) > 1e6])
    expect((await post('/studio/models/unload', { model: 'd' })).status).toBe(200)
    expect((await state())[0]).toEqual(['demo-model', 'unloaded', false])
    const events = (await (await post('/studio/models/load', { model: 'd', stream: true })).text())
      .split('\n\n')
      .filter((frame) => frame !== '')
    const kinds = events.map((frame) => /^event: (\w+)/.exec(frame)![1])
    expect([kinds.at(-1), kinds.length > 2, kinds.slice(0, -1).every((kind) => kind === 'progress')]).toEqual(['loaded', true, true])
    expect(events.at(-1)).toContain('"state":"loaded"')
    expect((await state())[0]).toEqual(['demo-model', 'loaded', true])
    const { slots } = (await (await fetch(`${origin}/studio/slots`)).json()) as { slots: { model: string; kv_blocks_total: number }[] }
    expect(slots[0]).toMatchObject({
      model: 'demo-model',
      running: 0,
      kv_blocks_used: 0,
      requests: [],
      kv_cache_dtype: 'f32',
      kv_cache_named_by_checkpoint: false,
    })
    expect(slots[0]!.kv_blocks_total).toBeGreaterThan(0)
    expect((await post('/studio/models/load', { model: 'nobody' })).status).toBe(404)
    expect((await fetch(`${origin}/health`)).status).toBe(200)
  })

  test('answers in the newer shapes, with what it had cached, as the chat endpoint does', async () => {
    const input = 'Mara lives by the harbour and paints boats. She has a dog named Gus who swims. Who is Mara?'
    const ask = { model: 'd', temperature: 0 }
    const chat = await client.chat.completions.create({ ...ask, messages: [{ role: 'user', content: input }], max_tokens: 6 })
    const response = await client.responses.create({ ...ask, input, max_output_tokens: 6 })
    expect(response.output_text).toBe(chat.choices[0]!.message.content)
    expect(response.usage).toMatchObject({
      input_tokens: chat.usage!.prompt_tokens,
      output_tokens: chat.usage!.completion_tokens,
      input_tokens_details: { cached_tokens: 32 },
    })
  })

  test('sleep frees it, the next question wakes it', async () => {
    const origin = server.url.slice(0, -3)
    expect(await (await fetch(`${origin}/reset_prefix_cache?model=d`, { method: 'POST' })).json()).toEqual({
      results: [{ model: 'demo-model', reset: true }],
    })
    expect((await fetch(`${origin}/sleep?level=1`, { method: 'POST' })).status).toBe(200)
    expect(loads.at(-1)!.failure).not.toBeNull()
    expect(await (await fetch(`${origin}/is_sleeping`)).json()).toEqual({ is_sleeping: true })
    const before = loads.length
    await client.completions.create({ model: 'd', prompt: 'x', max_tokens: 1 })
    expect([loads.length, await (await fetch(`${origin}/is_sleeping`)).json()]).toEqual([before + 1, { is_sleeping: false }])
    const metrics = await (await fetch(`${origin}/metrics`)).text()
    expect(metrics).toMatch(/vllm:prefix_cache_queries_total\{model_name="demo-model",engine="0"\} [1-9]/)
    await client.completions.create({ model: 'second', prompt: 'x', max_tokens: 1 })
    const both = await (await fetch(`${origin}/metrics`)).text()
    const described = both.split('\n').filter((line) => line.startsWith('# TYPE'))
    expect([new Set(described).size, both.includes('model_name="second"')]).toEqual([described.length, true])
    expect(metrics).toMatch(/vllm:iteration_tokens_total_count\{model_name="demo-model",engine="0"\} [1-9]/)
  })
})
