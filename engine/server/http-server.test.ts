import { request as httpRequest } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { KEY, startEcho as start, stopAll } from './test/start-echo.ts'

afterEach(stopAll)

const CHAT = { model: 'echo', messages: [{ role: 'user', content: 'hi' }] }

async function events(response: Response): Promise<unknown[]> {
  const text = await response.text()
  return text
    .split('\n\n')
    .filter((frame) => frame.startsWith('data: '))
    .map((frame) => (frame === 'data: [DONE]' ? 'DONE' : (JSON.parse(frame.slice(6)) as unknown)))
}

describe('chat completions', () => {
  test('answer whole, with usage, finish reason and the name that really answered', async () => {
    const { post } = await start()
    const response = await post('/v1/chat/completions', { ...CHAT, logprobs: true })
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      object: 'chat.completion',
      model: 'echo-1',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'u:hi;a:' },
          finish_reason: 'stop',
          stop_reason: null,
          logprobs: { content: [{ token: 'u', logprob: -0.5, bytes: [117], top_logprobs: [] }, {}, {}, {}, {}, {}, {}] },
        },
      ],
      usage: { prompt_tokens: 7, completion_tokens: 7, total_tokens: 14, prompt_tokens_details: { cached_tokens: 0 } },
    })
  })

  test('stream: role first and with the first output, text, finish, usage, DONE', async () => {
    const { post } = await start()
    const response = await post('/v1/chat/completions', { ...CHAT, stream: true, max_tokens: 2, stream_options: { include_usage: true } })
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const chunks = (await events(response)) as { choices: { delta: object; finish_reason: string | null }[]; usage: unknown }[]
    expect(chunks.at(-1)).toBe('DONE')
    expect(chunks.slice(0, -1).map((chunk) => chunk.choices.map((choice) => [choice.delta, choice.finish_reason]))).toEqual([
      [[{ role: 'assistant', content: '' }, null]],
      [[{ content: 'u' }, null]],
      [[{ content: ':' }, null]],
      [[{}, 'length']],
      [],
    ])
    expect(chunks.slice(0, -1).map((chunk) => chunk.usage)).toEqual([
      null,
      null,
      null,
      null,
      expect.objectContaining({ completion_tokens: 2 }),
    ])
  })

  test('n choices get seeds that differ, and indexes', async () => {
    const { post, runtime } = await start()
    const body = (await (await post('/v1/chat/completions', { ...CHAT, n: 3, seed: 5 })).json()) as { choices: { index: number }[] }
    expect(body.choices.map((choice) => choice.index)).toEqual([0, 1, 2])
    expect(runtime.requests.map((request) => request.sampling.seed)).toEqual([5, 6, 7])
  })

  test("absent parameters take the checkpoint's defaults; null is absent", async () => {
    const { post, runtime } = await start()
    await post('/v1/chat/completions', { ...CHAT, temperature: null, top_p: 0.5, stop: 'x', stream: null })
    expect(runtime.requests[0]).toMatchObject({
      sampling: { temperature: 0.7, topK: 5, topP: 0.5, minP: 0 },
      stopStrings: ['x'],
      maxTokens: 57,
    })
  })

  test('a client that goes away stops its request', async () => {
    const { post, runtime, models } = await start({ endless: true })
    const controller = new AbortController()
    const response = await post('/v1/chat/completions', { ...CHAT, stream: true }, { signal: controller.signal })
    await response.body!.getReader().read()
    controller.abort()
    await expect(runtime.aborted).resolves.toBe(runtime.requests[0]!.id)
    await expect.poll(() => models.leases()).toBe(0)
  })

  test('a client that goes away before a whole answer stops it too', async () => {
    const { post, runtime } = await start({ endless: true, contextLimit: 1_000_000 })
    const controller = new AbortController()
    const pending = post('/v1/chat/completions', CHAT, { signal: controller.signal })
    await expect.poll(() => runtime.requests.length).toBe(1)
    controller.abort()
    await expect(pending).rejects.toThrow(/abort/i)
    await expect(runtime.aborted).resolves.toBe(runtime.requests[0]!.id)
  })

  test('a failure after the first token ends the stream with the error and DONE', async () => {
    const error = new LatheError('gpu.device-lost', 'The GPU was lost.', 'Send the request again.')
    const { post } = await start({ failAt: { index: 1, error } })
    const chunks = await events(await post('/v1/chat/completions', { ...CHAT, stream: true }))
    expect(chunks.slice(-2)).toEqual([
      { error: { message: 'The GPU was lost. Send the request again.', type: 'InternalServerError', param: null, code: 500 } },
      'DONE',
    ])
  })

  test('a full queue asks to come back', async () => {
    const error = new LatheError('runtime.queue-full', 'The queue is full.', 'Try again.')
    const { post } = await start({ failAt: { index: 0, error } })
    const response = await post('/v1/chat/completions', CHAT)
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '1'])
  })
})

describe('completions', () => {
  test('default to 16 tokens, flatten prompts and choices', async () => {
    const { post } = await start()
    const body = (await (
      await post('/v1/completions', { model: 'echo', prompt: ['abcdefghijklmnopqrst', 'xy'], n: 2, temperature: 1 })
    ).json()) as {
      choices: { index: number; text: string; finish_reason: string }[]
      usage: object
    }
    expect(body.choices.map(({ index, text, finish_reason }) => [index, text, finish_reason])).toEqual([
      [0, 'abcdefghijklmnop', 'length'],
      [1, 'abcdefghijklmnop', 'length'],
      [2, 'xy', 'stop'],
      [3, 'xy', 'stop'],
    ])
    expect(body.usage).toMatchObject({ prompt_tokens: 22, completion_tokens: 36 })
  })

  test('token prompts, echo, and scoring without generating', async () => {
    const { post, runtime } = await start()
    const echoed = (await (await post('/v1/completions', { model: 'echo', prompt: [97, 98], echo: true, max_tokens: 1 })).json()) as {
      choices: { text: string }[]
    }
    expect(echoed.choices[0]!.text).toBe('aba')
    const scored = (await (
      await post('/v1/completions', { model: 'echo', prompt: 'abc', echo: true, max_tokens: 0, logprobs: 1 })
    ).json()) as { choices: unknown[] }
    expect(scored.choices).toEqual([
      {
        index: 0,
        text: 'abc',
        finish_reason: 'length',
        logprobs: {
          tokens: ['a', 'b', 'c'],
          token_logprobs: [null, -1, -2],
          top_logprobs: [null, { z: -0.25, b: -1 }, { z: -0.25, c: -2 }],
          text_offset: [0, 1, 2],
        },
      },
    ])
    expect(runtime.requests.length).toBe(1)
  })

  test('stream progress of all prompts together, their ids and what the first answer took, where that is asked for', async () => {
    const { post } = await start()
    const body = { model: 'echo', prompt: ['abc', 'de'], n: 2, temperature: 1, max_tokens: 1, stream: true }
    const chunks = async (more: object) =>
      (await events(await post('/v1/completions', { ...body, ...more }))).slice(0, -1) as Record<string, unknown>[]
    const asked = await chunks({ return_progress: true, return_metrics: true, return_token_ids: true })
    const of = (key: string): unknown[] => asked.filter((chunk) => key in chunk).map((chunk) => chunk[key])
    expect(of('prompt_progress')).toEqual([
      { total: 5, cache: 0, processed: 3, time_ms: expect.any(Number) },
      { total: 5, cache: 0, processed: 5, time_ms: expect.any(Number) },
    ])
    expect(of('metrics')).toEqual([expect.objectContaining({ queue_time_ms: 1, time_to_first_token_ms: 2 })])
    const choices = (of('choices') as { index: number; prompt_token_ids?: number[] }[][]).flat()
    expect(
      choices
        .filter((choice) => choice.prompt_token_ids)
        .map((choice) => [choice.index, choice.prompt_token_ids!.length])
        .sort(),
    ).toEqual([
      [0, 3],
      [1, 3],
      [2, 2],
      [3, 2],
    ])
    expect((await chunks({})).some((chunk) => 'prompt_progress' in chunk || 'metrics' in chunk)).toBe(false)
  })

  test('stream several prompts with their indexes', async () => {
    const { post } = await start()
    const chunks = (await events(await post('/v1/completions', { model: 'echo', prompt: ['ab', 'cd'], stream: true }))).slice(0, -1) as {
      choices: { index: number; text: string }[]
    }[]
    const texts = ['', '']
    for (const { choices } of chunks) for (const choice of choices) texts[choice.index] += choice.text
    expect(texts).toEqual(['ab', 'cd'])
  })
})

describe('refusals', () => {
  test.each<[string, unknown, number, string | null]>([
    ['/v1/chat/completions', { ...CHAT, model: 'other' }, 404, 'model'],
    ['/v1/chat/completions', { ...CHAT, temperature: 3 }, 400, 'temperature'],
    ['/v1/chat/completions', { ...CHAT, messages: [] }, 400, 'messages'],
    ['/v1/chat/completions', { ...CHAT, max_tokens: 100 }, 400, 'max_tokens'],
    ['/v1/chat/completions', { ...CHAT, messages: [{ role: 'user', content: 'x'.repeat(99) }] }, 400, 'messages'],
    ['/v1/chat/completions', { ...CHAT, stream_options: { include_usage: true } }, 400, 'stream_options'],
    ['/v1/chat/completions', { ...CHAT, top_logprobs: 2 }, 400, 'top_logprobs'],
    ['/v1/chat/completions', { ...CHAT, n: 2, temperature: 0 }, 400, 'n'],
    ['/v1/chat/completions', { ...CHAT, stop: '' }, 400, 'stop'],
    ['/v1/chat/completions', { ...CHAT, messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 400, 'messages.0.content'],
    ['/v1/chat/completions', { ...CHAT, messages: [{ role: 'user', content: 'no template' }] }, 400, null],
    ['/v1/chat/completions', { ...CHAT, logit_bias: { x: 1 } }, 400, 'logit_bias.x'],
    ['/v1/chat/completions', { ...CHAT, logit_bias: { 256: 1 } }, 400, 'logit_bias'],
    ['/v1/chat/completions', { ...CHAT, logit_bias: { 1: 101 } }, 400, 'logit_bias.1'],
    ['/v1/chat/completions', { ...CHAT, allowed_token_ids: [] }, 400, 'allowed_token_ids'],
    ['/v1/chat/completions', { ...CHAT, stop_token_ids: [999] }, 400, 'stop_token_ids'],
    ['/v1/chat/completions', { ...CHAT, presence_penalty: 3 }, 400, 'presence_penalty'],
    ['/v1/chat/completions', { ...CHAT, repetition_penalty: 0 }, 400, 'repetition_penalty'],
    ['/v1/chat/completions', { ...CHAT, top_logprobs: 21, logprobs: true }, 400, 'top_logprobs'],
    ['/v1/chat/completions', { ...CHAT, prompt_logprobs: 1, stream: true }, 400, 'prompt_logprobs'],
    ['/v1/chat/completions', { ...CHAT, min_tokens: 9, max_tokens: 3 }, 400, 'min_tokens'],
    ['/v1/chat/completions', { ...CHAT, max_tokens: 0 }, 400, 'max_tokens'],
    ['/v1/chat/completions', { ...CHAT, best_of: 3 }, 400, 'best_of'],
    ['/v1/chat/completions', { ...CHAT, use_beam_search: true }, 501, 'use_beam_search'],
    ['/v1/chat/completions', { ...CHAT, thinking_token_budget: -1 }, 400, 'thinking_token_budget'],
    ['/studio/models/load', {}, 400, 'model'],
    ['/studio/models/unload', { model: 'echo' }, 501, null],
    ['/studio/fit', { context: 64 }, 501, null],
    ['/studio/fit', { context: 0 }, 400, 'context'],
    ['/v1/chat/completions', { ...CHAT, tools: [{}] }, 400, 'tools.0.type'],
    ['/v1/chat/completions', { ...CHAT, tool_choice: 'required' }, 400, 'tool_choice'],
    ['/v1/chat/completions', { ...CHAT, response_format: { type: 'json' } }, 400, 'response_format.type'],
    ['/v1/chat/completions', { ...CHAT, structured_outputs: { regex: 'a', choice: ['a'] } }, 400, 'structured_outputs'],
    ['/v1/chat/completions', { ...CHAT, structured_outputs: {} }, 400, 'structured_outputs'],
    ['/v1/chat/completions', { ...CHAT, response_format: { type: 'structural_tag' } }, 400, 'response_format.format'],
    [
      '/v1/chat/completions',
      { ...CHAT, response_format: { type: 'structural_tag', format: { type: 'any_tokens' } }, stream: true },
      400,
      'response_format.format.type',
    ],
    [
      '/v1/completions',
      { model: 'echo', prompt: 'a', structured_outputs: { structural_tag: '{' } },
      400,
      'structured_outputs.structural_tag',
    ],
    [
      '/v1/completions',
      { model: 'echo', prompt: 'a', structured_outputs: { structural_tag: '{"structures": [], "triggers": []}' } },
      400,
      'structured_outputs.structural_tag.structures',
    ],
    [
      '/v1/chat/completions',
      { ...CHAT, structured_outputs: { structural_tag: { format: { type: 'any_text' } } }, response_format: { type: 'json_object' } },
      400,
      'structured_outputs',
    ],
    [
      '/v1/chat/completions',
      { ...CHAT, structured_outputs: { json: true, whitespace_pattern: ' ' } },
      501,
      'structured_outputs.whitespace_pattern',
    ],
    [
      '/v1/completions',
      { model: 'echo', prompt: 'a', guided_json: true, guided_whitespace_pattern: ' ' },
      501,
      'guided_whitespace_pattern',
    ],
    ['/v1/chat/completions', { ...CHAT, functions: [{ name: 'f' }] }, 400, 'functions'],
    ['/v1/chat/completions', { ...CHAT, modalities: ['text', 'audio'] }, 501, 'modalities'],
    ['/v1/chat/completions', { ...CHAT, web_search_options: {} }, 501, 'web_search_options'],
    ['/v1/chat/completions', { ...CHAT, regex: 'a', ebnf: 'root ::= "a"' }, 400, 'structured_outputs'],
    ['/v1/chat/completions', { ...CHAT, guided_regex: 'a', guided_choice: ['a'] }, 400, 'structured_outputs'],
    ['/v1/chat/completions', { ...CHAT, guided_regex: 'a', ignore_eos: true }, 400, 'ignore_eos'],
    ['/v1/chat/completions', { ...CHAT, guided_regex: '(', stream: true }, 400, null],
    ['/v1/chat/completions', { ...CHAT, continue_final_message: true }, 400, 'continue_final_message'],
    ['/v1/chat/completions', { ...CHAT, truncate_prompt_tokens: 0 }, 400, 'truncate_prompt_tokens'],
    ['/v1/responses', {}, 400, 'input'],
    ['/v1/moderations', {}, 404, null],
    ['/sleep', {}, 501, null],
    ['/abort_requests', {}, 400, 'request_ids'],
    ['/v1/completions', { model: 'echo', prompt: '' }, 400, 'prompt'],
    ['/v1/completions', { model: 'echo', prompt: [300] }, 400, 'prompt'],
    ['/v1/completions', { model: 'echo', prompt: 'a', max_tokens: 0 }, 400, 'max_tokens'],
    ['/v1/completions', { model: 'echo', prompt: 'a', suffix: 'b' }, 501, 'suffix'],
    ['/v1/completions', { model: 'echo', prompt: 'a', prompt_embeds: 'AAAA' }, 501, 'prompt_embeds'],
    ['/detokenize', { tokens: [999] }, 400, 'tokens'],
    ['/tokenize', {}, 400, 'prompt'],
  ])('%s %j → %i %s', async (path, body, status, param) => {
    const { post } = await start()
    const response = await post(path, body)
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({
      error: { code: status, param, message: expect.stringMatching(/\w/), type: expect.stringMatching(/Error$/) },
    })
  })

  test('a key that is no token id is told what keys are', async () => {
    const { post } = await start()
    const { error } = (await (await post('/v1/chat/completions', { ...CHAT, logit_bias: { x: 1 } })).json()) as {
      error: { message: string }
    }
    expect(error.message).toBe('"logit_bias.x": keys are token ids')
  })

  test('empty tool lists and neutral penalties are no wishes', async () => {
    const { post } = await start()
    expect(
      (
        await post('/v1/chat/completions', {
          ...CHAT,
          tools: [],
          presence_penalty: 0,
          logit_bias: {},
          response_format: { type: 'text' },
          unknown_field: 1,
        })
      ).status,
    ).toBe(200)
  })

  test('a field that nobody knows is ignored, and said once', async () => {
    const said: string[] = []
    const { post } = await start({}, { log: (_level, text) => said.push(text) })
    for (let i = 0; i < 2; i++)
      expect((await post('/v1/chat/completions', { ...CHAT, temprature: 1, user: 'me', 'bad\nname': 1 })).status).toBe(200)
    expect(said).toEqual(['The field "temprature" of a request is not known here and was ignored.'])
  })

  test('a limit beyond the context is cut to it where the server was told so', async () => {
    const { post, runtime } = await start({}, { overlong: 'clamp' })
    expect((await post('/v1/chat/completions', { ...CHAT, max_tokens: 100 })).status).toBe(200)
    expect((await post('/v1/completions', { model: 'echo', prompt: 'ab', max_tokens: 100 })).status).toBe(200)
    expect(runtime.requests.map((request) => request.maxTokens)).toEqual([57, 62])
    expect((await post('/v1/completions', { model: 'echo', prompt: 'x'.repeat(64) })).status).toBe(400)
  })

  test('broken JSON, wrong content type, oversize body, wrong method, unknown path', async () => {
    const { call, post } = await start()
    const statuses = [
      await call('/v1/completions', { method: 'POST', body: '{' }),
      await call('/v1/completions', { method: 'POST', body: '{}', headers: { 'content-type': 'text/plain' } }),
      await post('/v1/completions', { model: 'echo', prompt: 'x'.repeat(17 * 2 ** 20) }),
      await call('/v1/completions'),
      await call('/v2/nothing'),
    ].map((response) => response.status)
    expect(statuses).toEqual([400, 415, 413, 405, 404])
  })
})

/** A request whose Host header is not the address it goes to, which fetch does not allow. */
const raw = (port: number, headers: Record<string, string>, path = '/v1/models'): Promise<number> =>
  new Promise((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, path, headers }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    sent.once('error', reject)
    sent.end()
  })

describe('who may ask', () => {
  test('the key is needed everywhere but on /health', async () => {
    const { origin, call } = await start()
    expect((await fetch(`${origin}/health`)).status).toBe(200)
    const missing = await fetch(`${origin}/v1/models`)
    const wrong = await call('/v1/models', { headers: { authorization: 'Bearer nope' } })
    const metrics = await fetch(`${origin}/metrics`)
    expect([missing.status, wrong.status, metrics.status]).toEqual([401, 401, 401])
    expect((await call('/v1/models')).status).toBe(200)
  })

  test('a rebound host name and a foreign web page are turned away, key or not', async () => {
    const { server } = await start()
    const authorization = `Bearer ${KEY}`
    expect(await raw(server.port, { host: 'evil.example', authorization })).toBe(403)
    expect(await raw(server.port, { host: `127.0.0.1:${server.port}`, origin: 'http://evil.example', authorization })).toBe(403)
    expect(await raw(server.port, { host: `localhost:${server.port}`, authorization })).toBe(200)
  })

  test('an allowed origin gets its preflight without a key, and no other', async () => {
    const { origin } = await start({}, { allowedOrigins: ['http://app.example'] })
    const preflight = (from: string) => fetch(`${origin}/v1/models`, { method: 'OPTIONS', headers: { origin: from } })
    const [allowed, foreign] = [await preflight('http://app.example'), await preflight('http://evil.example')]
    expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([204, 'http://app.example'])
    expect([foreign.status, foreign.headers.get('access-control-allow-origin')]).toEqual([403, null])
  })
})

describe('around the answers', () => {
  test('a request that names no model is for the one that is served', async () => {
    const { post } = await start()
    const { model: _model, ...unnamed } = CHAT
    expect(await (await post('/v1/chat/completions', unnamed)).json()).toMatchObject({ model: 'echo-1' })
    expect(await (await post('/v1/completions', { model: null, prompt: 'ab', max_tokens: 2 })).json()).toMatchObject({ model: 'echo-1' })
    expect(await (await post('/v1/responses', { input: 'hi' })).json()).toMatchObject({ model: 'echo-1' })
  })

  test('models with aliases, tokenize and detokenize', async () => {
    const { call, post } = await start()
    const list = (await (await call('/v1/models')).json()) as { data: { id: string; root: string; max_model_len: number }[] }
    expect(list.data.map(({ id, root, max_model_len }) => [id, root, max_model_len])).toEqual([
      ['echo-1', 'echo-1', 64],
      ['echo', 'echo-1', 64],
    ])
    expect(await (await post('/tokenize', { prompt: 'ab', return_token_strs: true })).json()).toEqual({
      count: 2,
      max_model_len: 64,
      tokens: [97, 98],
      token_strs: ['a', 'b'],
    })
    expect(await (await post('/tokenize', { messages: [{ role: 'user', content: 'x' }] })).json()).toMatchObject({ count: 6 })
    expect(await (await post('/detokenize', { tokens: [97, 98] })).json()).toEqual({ prompt: 'ab' })
  })

  test("metrics carry vLLM's names and count what happened", async () => {
    const { call, post } = await start()
    await post('/v1/chat/completions', CHAT)
    const text = await (await call('/metrics')).text()
    const value = (name: string): string | undefined =>
      text
        .split('\n')
        .find((line) => line.startsWith(name))
        ?.split(' ')
        .at(-1)
    expect({
      prompt: value('vllm:prompt_tokens_total{'),
      generated: value('vllm:generation_tokens_total{'),
      stopped: value('vllm:request_success_total{model_name="echo-1",engine="0",finished_reason="stop"}'),
      aborted: value('vllm:request_success_total{model_name="echo-1",engine="0",finished_reason="abort"}'),
      firstTokens: value('vllm:time_to_first_token_seconds_count'),
      underTwoMilliseconds: value('vllm:time_to_first_token_seconds_bucket{model_name="echo-1",engine="0",le="0.005"}'),
      gaps: value('vllm:inter_token_latency_seconds_count'),
    }).toEqual({ prompt: '7', generated: '7', stopped: '1', aborted: '0', firstTokens: '1', underTwoMilliseconds: '1', gaps: '6' })
    expect(
      text.split('\n').every((line) => line === '' || line.startsWith('# ') || /^[a-z0-9_:]+(\{[^ ]*\})? [-+0-9.eInf]+$/i.test(line)),
    ).toBe(true)
  })

  test('connections outlive the pools of clients', async () => {
    const { post } = await start()
    const response = await post('/v1/chat/completions', { ...CHAT, max_tokens: 1 })
    await response.text()
    expect(response.headers.get('keep-alive')).toBe('timeout=75')
  })

  test('closing ends what is running', async () => {
    const { post, runtime, server } = await start({ endless: true, contextLimit: 1_000_000 })
    const response = await post('/v1/chat/completions', { ...CHAT, stream: true })
    await response.body!.getReader().read()
    await server.close()
    await expect(runtime.aborted).resolves.toBe(runtime.requests[0]!.id)
  })

  test('closing lets streams say how they ended', async () => {
    const { post, server } = await start({ endless: true, contextLimit: 1_000_000 })
    const response = await post('/v1/completions', { model: 'echo', prompt: 'ab', max_tokens: 900_000, stream: true })
    const [text] = await Promise.all([response.text(), server.close()])
    expect(text).toMatch(/"finish_reason":"abort".*\n\ndata: \[DONE\]\n\n$/)
  })
})
