import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import { KEY, startEcho, stopAll } from './test/start-echo.ts'
import type { EchoOptions } from './test/echo-model.ts'
import { LatheError } from '../contract/errors.ts'

afterEach(stopAll)

async function connect(options: EchoOptions = {}) {
  const started = await startEcho({ contextLimit: 4096, ...options })
  return { ...started, client: new OpenAI({ apiKey: KEY, baseURL: `${started.origin}/v1`, maxRetries: 0 }) }
}

const ASK = { model: 'echo', messages: [{ role: 'user' as const, content: 'hi' }] }
const HERMES = '{% if tools %}<tool_call>{% endif %}'
const WEATHER = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'of a place',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', maxLength: 8 }, days: { type: 'integer', minimum: 1, maximum: 9 } },
      required: ['city', 'days'],
    },
  },
}

const asTags = (format: object, more: object = {}) => ({ ...ASK, ...more, response_format: { type: 'structural_tag', format } as never })

describe('the official client', () => {
  test('lists models, chats whole and streamed with usage', async () => {
    const { client } = await connect()
    const models = await client.models.list()
    expect(models.data.map((model) => model.id)).toEqual(['echo-1', 'echo'])
    const whole = await client.chat.completions.create(ASK)
    expect([whole.choices[0]!.message.content, whole.choices[0]!.finish_reason, whole.usage!.total_tokens]).toEqual(['u:hi;a:', 'stop', 14])
    const stream = await client.chat.completions.create({ ...ASK, stream: true, stream_options: { include_usage: true } })
    let text = ''
    let tokens = 0
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? ''
      tokens = chunk.usage?.completion_tokens ?? tokens
    }
    expect([text, tokens]).toEqual(['u:hi;a:', 7])
  })

  test('its stream helper puts the chunks together', async () => {
    const { client } = await connect()
    const final = await client.chat.completions.stream({ ...ASK, n: 2, temperature: 1 }).finalChatCompletion()
    expect(final.choices.map((choice) => choice.message.content)).toEqual(['u:hi;a:', 'u:hi;a:'])
  })

  test('structured output arrives as the schema says, streamed too', async () => {
    const { client } = await connect({ script: '{"name": "Ada", "age": 36}' })
    const schema = {
      type: 'object',
      properties: { name: { type: 'string' }, age: { type: 'integer' } },
      required: ['name', 'age'],
      additionalProperties: false,
    }
    const format = { type: 'json_schema' as const, json_schema: { name: 'person', schema, strict: true } }
    const whole = await client.chat.completions.create({ ...ASK, response_format: format })
    expect(JSON.parse(whole.choices[0]!.message.content!)).toEqual({ name: 'Ada', age: 36 })
    // A model that would rather say something else is bound all the same.
    const { client: other } = await connect({ script: 'no' })
    const bound = await other.chat.completions.create({ ...ASK, response_format: format })
    expect(Object.keys(JSON.parse(bound.choices[0]!.message.content!) as object)).toEqual(['name', 'age'])
    const object = await other.chat.completions.create({ ...ASK, response_format: { type: 'json_object' } })
    expect(JSON.parse(object.choices[0]!.message.content!)).toEqual({})
    const refused = other.chat.completions.create({
      ...ASK,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'array', uniqueItems: true } } },
    })
    await expect(refused).rejects.toMatchObject({ status: 400, message: expect.stringContaining('#/uniqueItems') })
  })

  test('structural tags in both shapes: text is free, tags are bound, streamed and for several answers too', async () => {
    const { client, runtime } = await connect({ script: 'Well: <get=city>{"city": "Rome", "days": 3}</get> ok' })
    const schema = { type: 'object', properties: { city: { enum: ['Oslo', 'Bonn'] } }, required: ['city'] }
    const content = { type: 'json_schema', json_schema: schema }
    const newer = {
      type: 'structural_tag',
      format: { type: 'triggered_tags', triggers: ['<get='], tags: [{ type: 'tag', begin: '<get=city>', content, end: '</get>' }] },
    }
    const older = { type: 'structural_tag', triggers: ['<get='], structures: [{ begin: '<get=city>', schema, end: '</get>' }] }
    const expected = expect.stringMatching(/^Well: <get=city>\{"city": "(Oslo|Bonn)"\}<\/get>/)
    for (const format of [newer, older]) {
      const whole = await client.chat.completions.create({ ...ASK, n: 2, temperature: 1, response_format: format as never })
      expect(whole.choices.map((choice) => choice.message.content)).toEqual([expected, expected])
    }
    const streamed = await client.chat.completions.stream({ ...ASK, response_format: newer as never }).finalChatCompletion()
    expect(streamed.choices[0]!.message.content).toEqual(expected)
    for (const structural_tag of [newer, JSON.stringify(older)]) {
      const body = { model: 'echo', prompt: 'x', max_tokens: 90, structured_outputs: { structural_tag } }
      expect((await client.completions.create(body)).choices[0]!.text).toEqual(expected)
    }
    // Markup of tools may be special tokens: left out of the text, the answer would not fit any more.
    expect(runtime.requests.map((request) => request.skipSpecialTokens)).toEqual(runtime.requests.map(() => false))
    const refused = client.chat.completions.create({
      ...ASK,
      response_format: { type: 'structural_tag', format: { type: 'token', token: 1 } } as never,
    })
    await expect(refused).rejects.toMatchObject({
      status: 400,
      param: 'response_format.format.type',
      message: expect.stringContaining('single tokens'),
    })
  })

  test('structural tags beside thinking and beside tools', async () => {
    const body = { type: 'regex', pattern: '[0-9]{2}' }
    const answer = { type: 'tag', begin: '<n>', content: body, end: '</n>' }
    const think = { type: 'tag', begin: '<think>', content: { type: 'any_text', excludes: ['!'] }, end: '</think>' }
    const { client } = await connect({ script: '<think>\nhm!\n</think>12', template: '<think></think>' })
    const bound = await client.chat.completions.create(asTags({ type: 'sequence', elements: [think, answer] }))
    const { content, reasoning_content } = bound.choices[0]!.message as unknown as Record<string, string>
    expect([content, reasoning_content]).toEqual([expect.stringMatching(/^<n>\d\d<\/n>$/), expect.stringMatching(/^hm[^!]*$/)])
    // A format that writes calls as the template does gives calls; where a call is demanded, no other form can be.
    const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 20}}\n</tool_call>'
    const { client: caller } = await connect({ script: call, template: HERMES })
    const json = { type: 'json_schema', json_schema: WEATHER.function.parameters }
    const strict = { type: 'tag', begin: '<tool_call>\n{"name": "weather", "arguments": ', content: json, end: '}\n</tool_call>' }
    const tags = { type: 'triggered_tags', triggers: ['<tool_call>'], tags: [strict] }
    const auto = await caller.chat.completions.create(asTags(tags, { tools: [WEATHER] }))
    const called = auto.choices[0]!.message.tool_calls![0] as { function: { arguments: string } }
    expect(JSON.parse(called.function.arguments)).toEqual({ city: 'Oslo', days: 2 })
    for (const form of [asTags(tags), { ...ASK, structured_outputs: { structural_tag: { format: tags } } }]) {
      const forced = caller.chat.completions.create({ ...form, tools: [WEATHER], tool_choice: 'required' })
      await expect(forced).rejects.toMatchObject({ status: 400, message: expect.stringContaining('must be a tool call') })
    }
    // Thinking that the prompt has begun already is free, and a format can't begin it again.
    const { client: thinking } = await connect({ script: 'hm!</think>12', template: '<think></think>' })
    const begun = { messages: [...ASK.messages, { role: 'assistant' as const, content: '<think>' }], continue_final_message: true }
    const free = await thinking.chat.completions.create(asTags(answer, begun))
    expect(free.choices[0]!.message).toMatchObject({ content: expect.stringMatching(/^<n>\d\d<\/n>$/), reasoning_content: 'hm!' })
    await expect(thinking.chat.completions.create(asTags(think, begun))).rejects.toMatchObject({ status: 400, param: 'response_format' })
  })

  test('tools: auto, required, named and none', async () => {
    const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>'
    const { client, model } = await connect({ script: `One moment. ${call}`, template: HERMES })
    const auto = await client.chat.completions.create({ ...ASK, tools: [WEATHER] })
    const { message, finish_reason } = auto.choices[0]!
    expect({ content: message.content, calls: message.tool_calls, finish_reason }).toEqual({
      content: 'One moment.',
      calls: [
        { id: expect.stringMatching(/^call_/), type: 'function', function: { name: 'weather', arguments: '{"city": "Oslo", "days": 2}' } },
      ],
      finish_reason: 'tool_calls',
    })
    expect(model.rendered.at(-1)!.tools).toEqual([{ type: 'function', function: expect.objectContaining({ name: 'weather' }) }])
    const none = await client.chat.completions.create({ ...ASK, tools: [WEATHER], tool_choice: 'none' })
    expect(none.choices[0]!.message.tool_calls).toBeUndefined()
    // This one has no wish to call anything.
    const { client: unwilling } = await connect({ script: 'Nope', template: HERMES })
    for (const tool_choice of ['required', { type: 'function' as const, function: { name: 'weather' } }] as const) {
      const forced = await unwilling.chat.completions.create({ ...ASK, tools: [WEATHER], tool_choice })
      const arguments_ = JSON.parse(
        (forced.choices[0]!.message.tool_calls![0] as { function: { arguments: string } }).function.arguments,
      ) as object
      expect([Object.keys(arguments_), forced.choices[0]!.finish_reason]).toEqual([
        ['city', 'days'],
        tool_choice === 'required' ? 'tool_calls' : 'stop',
      ])
    }
  })

  test('a tool call is streamed as it grows, and its result goes back', async () => {
    const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>'
    const { client, model } = await connect({ script: call, template: HERMES })
    const stream = await client.chat.completions.create({ ...ASK, tools: [WEATHER], stream: true })
    const deltas: object[] = []
    for await (const chunk of stream) deltas.push(...(chunk.choices[0]?.delta.tool_calls ?? []))
    expect(deltas[0]).toEqual({
      index: 0,
      id: expect.stringMatching(/^call_/),
      type: 'function',
      function: { name: 'weather', arguments: '' },
    })
    expect(deltas.length).toBeGreaterThan(5)
    const final = await client.chat.completions.stream({ ...ASK, tools: [WEATHER] }).finalChatCompletion()
    const message = final.choices[0]!.message
    await client.chat.completions.create({
      ...ASK,
      tools: [WEATHER],
      messages: [...ASK.messages, message, { role: 'tool', tool_call_id: message.tool_calls![0]!.id, content: 'rain' }],
    })
    expect(model.rendered.at(-1)!.messages.slice(1)).toEqual([
      expect.objectContaining({
        role: 'assistant',
        tool_calls: [expect.objectContaining({ function: { name: 'weather', arguments: { city: 'Oslo', days: 2 } } })],
      }),
      { role: 'tool', content: 'rain', tool_call_id: message.tool_calls![0]!.id },
    ])
  })

  test('thinking is kept apart, and only what comes after is bound', async () => {
    const { client } = await connect({ script: '<think>\nhm\n</think>\n\nyes', template: '<think></think>' })
    const answer = await client.chat.completions.create(ASK)
    expect(answer.choices[0]!.message).toMatchObject({ content: 'yes', reasoning_content: 'hm' })
    expect(answer.usage!.completion_tokens_details!.reasoning_tokens).toBeGreaterThan(10)
    const stream = await client.chat.completions.create({ ...ASK, stream: true })
    const said = { content: '', reasoning_content: '' }
    for await (const chunk of stream) {
      const delta = (chunk.choices[0]?.delta ?? {}) as Partial<typeof said>
      said.content += delta.content ?? ''
      said.reasoning_content += delta.reasoning_content ?? ''
    }
    expect(said).toEqual({ content: 'yes', reasoning_content: 'hm' })
  })

  test('log-probabilities with alternatives, for chat and for completions', async () => {
    const { client } = await connect()
    const chat = await client.chat.completions.create({ ...ASK, logprobs: true, top_logprobs: 2, max_tokens: 1 })
    expect(chat.choices[0]!.logprobs!.content).toEqual([
      {
        token: 'u',
        logprob: -0.5,
        bytes: [117],
        top_logprobs: [
          { token: 'u', logprob: -0.5, bytes: [117] },
          { token: 'z', logprob: -1.5, bytes: [122] },
        ],
      },
    ])
    const text = await client.completions.create({ model: 'echo', prompt: 'ab', max_tokens: 1, logprobs: 2, echo: true })
    expect(text.choices[0]!.logprobs).toEqual({
      tokens: ['a', 'b', 'a'],
      token_logprobs: [null, -1, -0.5],
      top_logprobs: [null, { z: -0.25, b: -1 }, { a: -0.5, z: -1.5 }],
      text_offset: [0, 1, 2],
    })
  })

  test('embeddings decode from base64, which the client asks for by itself', async () => {
    const { client } = await connect()
    const result = await client.embeddings.create({ model: 'echo', input: ['abc', 'd'] })
    const length = Math.hypot(3, 99)
    expect(result.data[0]!.embedding).toEqual([Math.fround(3 / length), Math.fround(99 / length), 0, 0])
    expect([result.data.length, result.usage.prompt_tokens]).toEqual([2, 4])
  })

  test('errors are its own kinds: key, model, limits, queue', async () => {
    const { client, origin } = await connect()
    await expect(client.chat.completions.create({ ...ASK, model: 'gpt' })).rejects.toBeInstanceOf(OpenAI.NotFoundError)
    await expect(client.chat.completions.create({ ...ASK, temperature: 9 })).rejects.toMatchObject({ status: 400, param: 'temperature' })
    await expect(client.chat.completions.create({ ...ASK, max_tokens: 9999 })).rejects.toMatchObject({ param: 'max_tokens' })
    const stranger = new OpenAI({ apiKey: 'wrong', baseURL: `${origin}/v1`, maxRetries: 0 })
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError)
    const full = await connect({
      failAt: { index: 0, error: new LatheError('runtime.queue-full', 'Full.', 'Wait.', { data: { retryAfterSeconds: 7 } }) },
    })
    const refused = await full.client.chat.completions.create(ASK).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(OpenAI.RateLimitError)
    expect((refused as InstanceType<typeof OpenAI.RateLimitError>).headers!.get('retry-after')).toBe('7')
  })

  test('leaving a stream, aborting a request and /abort_requests all stop the model', async () => {
    const { client, runtime, post, models } = await connect({ endless: true, contextLimit: 1_000_000 })
    const left = await client.chat.completions.create({ ...ASK, stream: true })
    for await (const _ of left) break
    await expect(runtime.aborted).resolves.toBe(runtime.requests[0]!.id)
    const controller = new AbortController()
    const aborted = client.chat.completions.create(ASK, { signal: controller.signal })
    await expect.poll(() => runtime.requests.length).toBe(2)
    controller.abort()
    await expect(aborted).rejects.toBeInstanceOf(OpenAI.APIUserAbortError)
    const named = client.chat.completions.create({ ...ASK, request_id: 'mine' } as typeof ASK)
    await expect.poll(() => runtime.requests.length).toBe(3)
    expect(await (await post('/abort_requests', { request_ids: ['mine', 'other'] })).json()).toEqual({ aborted: ['mine'] })
    expect((await named).choices[0]!.finish_reason).toBe('abort')
    await expect.poll(() => models.leases()).toBe(0)
  })
})
