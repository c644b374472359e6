/** /v1/responses through OpenAI's own client, whose stream helper checks that events and items fit together. */
import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import type { EchoOptions } from '../test/echo-model.ts'
import { KEY, startEcho, stopAll } from '../test/start-echo.ts'

afterEach(stopAll)

async function connect(options: EchoOptions = {}) {
  const started = await startEcho({ contextLimit: 4096, ...options })
  return { ...started, client: new OpenAI({ apiKey: KEY, baseURL: `${started.origin}/v1`, maxRetries: 0 }) }
}

type Tool = OpenAI.Responses.FunctionTool

const TOOLS_TEMPLATE = '{% if tools %}<tool_call>{% endif %}'
const THINKING_TEMPLATE = `${TOOLS_TEMPLATE}<think></think>`
const WEATHER: Tool = {
  type: 'function',
  name: 'weather',
  description: 'of a city',
  strict: true,
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
}
const CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'

/** Types of events, repeated ones once. */
function shape(events: readonly { readonly type: string }[]): string[] {
  return events.map(({ type }) => type.replace('response.', '')).filter((type, index, all) => type !== all[index - 1])
}

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const event of stream) all.push(event)
  return all
}

/** What the client adds to calls is its own. */
function withoutIds(items: readonly object[]): object[] {
  return items.map((item) => {
    const { id: _id, call_id: _call, parsed_arguments: _parsed, ...rest } = item as Record<string, unknown>
    return rest
  })
}

describe('a whole response', () => {
  test('of a string: text, usage, and what was asked', async () => {
    const { client, model } = await connect()
    const response = await client.responses.create({
      model: 'echo',
      input: 'hi',
      instructions: 'be brief',
      metadata: { a: 'b' },
      top_p: 0.5,
    })
    expect(response).toMatchObject({
      id: expect.stringMatching(/^resp_/) as string,
      object: 'response',
      status: 'completed',
      model: 'echo-1',
      output_text: 's:be brief;u:hi;a:',
      output: [{ type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', annotations: [] }] }],
      error: null,
      incomplete_details: null,
      instructions: 'be brief',
      metadata: { a: 'b' },
      top_p: 0.5,
      store: false,
      text: { format: { type: 'text' } },
      tool_choice: 'auto',
      tools: [],
      usage: {
        input_tokens: 18,
        output_tokens: 18,
        total_tokens: 36,
        input_tokens_details: { cached_tokens: 0 },
        output_tokens_details: { reasoning_tokens: 0 },
      },
    })
    expect(model.rendered[0]!.messages).toEqual([
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'hi' },
    ])
  })

  test('that was cut off says where', async () => {
    const { client } = await connect()
    const response = await client.responses.create({ model: 'echo', input: 'hi', max_output_tokens: 2 })
    expect(response).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      output_text: 'u:',
      output: [{ status: 'incomplete' }],
      completed_at: null,
      max_output_tokens: 2,
    })
  })

  test('thinking, text and a call are items; blank text before a call is none', async () => {
    const { client } = await connect({ script: `<think>hm</think>\n\n${CALL}`, template: THINKING_TEMPLATE })
    const response = await client.responses.create({ model: 'echo', input: 'Oslo?', tools: [WEATHER], reasoning: { effort: 'low' } })
    expect(response.output).toMatchObject([
      { type: 'reasoning', summary: [], content: [{ type: 'reasoning_text', text: 'hm' }] },
      {
        type: 'function_call',
        name: 'weather',
        arguments: '{"city": "Oslo"}',
        status: 'completed',
        call_id: expect.stringMatching(/^call_/) as string,
      },
    ])
    expect(response.usage!.output_tokens_details.reasoning_tokens).toBeGreaterThan(0)
    expect(response.reasoning).toMatchObject({ effort: 'low' })
  })
})

describe('a streamed response', () => {
  test('events come in their order, numbered, and add up to the whole', async () => {
    const { client } = await connect({ script: `<think>hm</think>Moment. ${CALL}`, template: THINKING_TEMPLATE })
    const stream = client.responses.stream({ model: 'echo', input: 'Oslo?', tools: [WEATHER] })
    const events = await collect(stream)
    expect(shape(events)).toEqual([
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      'reasoning_text.delta',
      'reasoning_text.done',
      'content_part.done',
      'output_item.done',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'output_item.added',
      'function_call_arguments.delta',
      'function_call_arguments.done',
      'output_item.done',
      'completed',
    ])
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, index) => index))
    const final = await stream.finalResponse()
    const whole = await client.responses.create({ model: 'echo', input: 'Oslo?', tools: [WEATHER] })
    expect(withoutIds(final.output)).toMatchObject(withoutIds(whole.output))
    expect(final.output_text).toBe(whole.output_text)
    expect(final.usage).toEqual(whole.usage)
    expect(events.at(-1)).toMatchObject({ response: { status: 'completed', output: final.output.map(({ id }) => ({ id })) } })
  })

  test('a cut one ends incomplete; one that fails says why and ends', async () => {
    const cut = await connect()
    const short = await collect(await cut.client.responses.create({ model: 'echo', input: 'hi', max_output_tokens: 1, stream: true }))
    expect(short.slice(-2)).toMatchObject([
      { type: 'response.output_item.done', item: { status: 'incomplete' } },
      { type: 'response.incomplete', response: { status: 'incomplete', output: [{ content: [{ text: 'u' }] }] } },
    ])
    const error = new LatheError('gpu.device-lost', 'The GPU was lost.', 'Send the request again.')
    const failing = await connect({ failAt: { index: 1, error } })
    const failed = await collect(await failing.client.responses.create({ model: 'echo', input: 'hi', stream: true }))
    expect(failed.at(-1)).toMatchObject({
      type: 'response.failed',
      response: { status: 'failed', error: { code: 'server_error', message: 'The GPU was lost. Send the request again.' } },
    })
  })

  test('a reader that leaves ends the generation', async () => {
    const { client, runtime, models } = await connect({ endless: true })
    const stream = await client.responses.create({ model: 'echo', input: 'hi', stream: true })
    for await (const event of stream) if (event.type === 'response.output_text.delta') break
    await expect(runtime.aborted).resolves.toBe(runtime.requests[0]!.id)
    await expect.poll(() => models.leases()).toBe(0)
  })
})

describe('tools and forms', () => {
  test('a call and its result go back as one turn and its answer', async () => {
    const { client, model } = await connect({ script: `Moment. ${CALL}`, template: THINKING_TEMPLATE })
    const first = await client.responses.create({ model: 'echo', input: 'Oslo?', tools: [WEATHER] })
    const call = first.output.find((item) => item.type === 'function_call')!
    await client.responses.create({
      model: 'echo',
      tools: [WEATHER],
      instructions: 'be brief',
      input: [
        { role: 'developer', content: 'in metres' },
        { role: 'user', content: [{ type: 'input_text', text: 'Oslo?' }] },
        { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'hm' }] },
        ...(first.output as OpenAI.Responses.ResponseInput),
        { type: 'function_call_output', call_id: call.call_id, output: 'rain' },
        { role: 'user', content: 'and now?' },
      ],
    })
    expect(model.rendered.at(-1)!.messages).toEqual([
      { role: 'system', content: 'be brief\n\nin metres' },
      { role: 'user', content: 'Oslo?' },
      {
        role: 'assistant',
        content: 'Moment.',
        reasoning_content: 'hm',
        tool_calls: [{ id: call.call_id, type: 'function', function: { name: 'weather', arguments: { city: 'Oslo' } } }],
      },
      { role: 'tool', tool_call_id: call.call_id, content: 'rain' },
      { role: 'user', content: 'and now?' },
    ])
  })

  test('a tool that must be called is; only allowed ones are', async () => {
    const { client } = await connect({ script: 'no', template: TOOLS_TEMPLATE })
    const other: Tool = { ...WEATHER, name: 'other' }
    const choices: OpenAI.Responses.ResponseCreateParams['tool_choice'][] = [
      'required',
      { type: 'function', name: 'weather' },
      { type: 'allowed_tools', mode: 'required', tools: [{ type: 'function', name: 'weather' }] },
    ]
    for (const choice of choices) {
      const tools = choice === 'required' ? [WEATHER] : [other, WEATHER]
      const { output } = await client.responses.create({ model: 'echo', input: 'hi', tools, tool_choice: choice! })
      expect(output).toMatchObject([{ type: 'function_call', name: 'weather' }])
    }
  })

  test('structured output fits its schema, through the client’s own parsing too', async () => {
    const { client } = await connect({ script: 'no' })
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false }
    const format = { type: 'json_schema' as const, name: 'number', schema, strict: true }
    const response = await client.responses.parse({ model: 'echo', input: 'hi', text: { format } })
    expect(response.output_parsed).toEqual({ n: expect.any(Number) as number })
    expect(response.text).toEqual({ format })
    const any = await client.responses.create({ model: 'echo', input: 'hi', text: { format: { type: 'json_object' } } })
    expect(() => JSON.parse(any.output_text) as unknown).not.toThrow()
  })
})

describe('what is refused', () => {
  const image = { role: 'user', content: [{ type: 'input_image', image_url: 'data:,' }] }
  test.each([
    [{}, 'input'],
    [{ input: [] }, 'input'],
    [{ input: [image] }, 'input.0.content'],
    [
      {
        input: [
          { role: 'user', content: 'hi' },
          { type: 'function_call_output', call_id: 'c', output: [{ type: 'input_image' }] },
        ],
      },
      'input.1.output',
    ],
    [{ input: [{ type: 'function_call', name: 'f', call_id: 'c' }] }, 'input.0.arguments'],
    [{ input: [{ type: 'web_search_call', id: 'w' }] }, 'input.0.type'],
    [{ input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input.0'],
    [{ input: 'hi', previous_response_id: 'resp_1' }, 'previous_response_id'],
    [{ input: 'hi', conversation: 'conv_1' }, 'conversation'],
    [{ input: 'hi', background: true }, 'background'],
    [{ input: 'hi', truncation: 'auto' }, 'truncation'],
    [{ input: 'hi', top_logprobs: 2 }, 'top_logprobs'],
    [{ input: 'hi', tools: [{ type: 'web_search' }] }, 'tools.0.type'],
    [{ input: 'hi', tools: [WEATHER], tool_choice: { type: 'function', name: 'none' } }, 'tool_choice'],
    [{ input: 'hi', tools: [WEATHER], tool_choice: { type: 'file_search' } }, 'tool_choice'],
    [{ input: 'hi', tools: [WEATHER] }, 'tools'],
    [{ input: 'hi', text: { format: { type: 'xml' } } }, 'text.format.type'],
    [{ input: 'hi', max_output_tokens: 0 }, 'max_output_tokens'],
    [{ input: 'hi', max_output_tokens: 5000 }, 'max_output_tokens'],
    [{ input: 'x'.repeat(70) }, 'input'],
    [{ input: 'hi', stream: true, text: { format: { type: 'json_schema', name: 'x', schema: { type: 'nothing' } } } }, null],
  ])('%j: 400, %s', async (body, param) => {
    const { post } = await connect({ contextLimit: 64 })
    const response = await post('/v1/responses', { model: 'echo', ...body })
    expect([response.status, ((await response.json()) as { error: { param: string | null } }).error.param]).toEqual([400, param])
  })

  test('counts tokens without answering, and has nothing to look up', async () => {
    const { client, runtime } = await connect()
    expect(await client.responses.inputTokens.count({ model: 'echo', input: 'hi', instructions: 'be brief' })).toEqual({
      object: 'response.input_tokens',
      input_tokens: 18,
    })
    expect(runtime.requests).toEqual([])
    await expect(client.responses.retrieve('resp_1')).rejects.toThrow('There is no response resp_1: this server keeps none.')
  })

  test('with the client’s own errors, and without a key', async () => {
    const { client, origin } = await connect()
    await expect(client.responses.create({ model: 'gpt-5', input: 'hi' })).rejects.toBeInstanceOf(OpenAI.NotFoundError)
    await expect(
      new OpenAI({ apiKey: 'wrong', baseURL: `${origin}/v1`, maxRetries: 0 }).responses.create({ model: 'echo', input: 'hi' }),
    ).rejects.toBeInstanceOf(OpenAI.AuthenticationError)
  })
})
