import Anthropic from '@anthropic-ai/sdk'
import { afterEach, describe, expect, test } from 'vitest'
import type { EchoOptions } from '../test/echo-model.ts'
import { KEY, startEcho, stopAll } from '../test/start-echo.ts'

afterEach(stopAll)

async function connect(options: EchoOptions = {}) {
  const started = await startEcho({ contextLimit: 4096, ...options })
  return { ...started, client: new Anthropic({ apiKey: KEY, baseURL: started.origin, maxRetries: 0 }) }
}

const ASK = { model: 'echo', max_tokens: 200, messages: [{ role: 'user' as const, content: 'hi' }] }
const TOOL = { name: 'weather', input_schema: { type: 'object' as const, properties: { city: { type: 'string' } }, required: ['city'] } }
const CALL = 'Moment.<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'

describe("Anthropic's client", () => {
  test('answers whole, with the system prompt in front and its own usage', async () => {
    const { client, model } = await connect()
    const message = await client.messages.create({ ...ASK, system: 'be brief', stop_sequences: [':'] })
    expect(message).toMatchObject({
      type: 'message',
      role: 'assistant',
      model: 'echo-1',
      content: [{ type: 'text', text: 's' }],
      stop_reason: 'stop_sequence',
      stop_sequence: ':',
      usage: { input_tokens: 18, output_tokens: 2, cache_read_input_tokens: 0 },
    })
    expect(model.rendered[0]!.messages).toEqual([
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'hi' },
    ])
  })

  test('streams text, thinking and tool calls in blocks that its helper puts together', async () => {
    const { client } = await connect({
      script: `<think>hm</think>${CALL}`,
      template: '{% if tools %}<tool_call>{% endif %}<think></think>',
    })
    const final = await client.messages.stream({ ...ASK, tools: [TOOL] }).finalMessage()
    expect(final.content).toMatchObject([
      { type: 'thinking', thinking: 'hm' },
      { type: 'text', text: 'Moment.' },
      { type: 'tool_use', name: 'weather', input: { city: 'Oslo' } },
    ])
    expect([final.stop_reason, final.usage.output_tokens]).toEqual(['tool_use', `<think>hm</think>${CALL}`.length])
  })

  test('a tool must be called, results go back as tool messages, tokens are counted', async () => {
    const { client, model } = await connect({ script: 'no', template: '{% if tools %}<tool_call>{% endif %}' })
    const forced = await client.messages.create({ ...ASK, tools: [TOOL], tool_choice: { type: 'tool', name: 'weather' } })
    expect(forced.content).toMatchObject([{ type: 'tool_use', name: 'weather', input: { city: expect.any(String) as string } }])
    const use = forced.content[0] as Anthropic.ToolUseBlock
    await client.messages.create({
      ...ASK,
      messages: [
        ...ASK.messages,
        { role: 'assistant', content: forced.content },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'rain' }] },
      ],
    })
    expect(model.rendered.at(-1)!.messages.map((turn) => turn.role)).toEqual(['user', 'assistant', 'tool'])
    expect(await client.messages.countTokens({ model: 'echo', messages: ASK.messages })).toEqual({ input_tokens: 7 })
  })

  test('errors are its own kinds', async () => {
    const { client, origin } = await connect()
    await expect(client.messages.create({ ...ASK, model: 'claude' })).rejects.toBeInstanceOf(Anthropic.NotFoundError)
    await expect(
      client.messages.create({ ...ASK, messages: [{ role: 'user', content: [{ type: 'image' } as never] }] }),
    ).rejects.toBeInstanceOf(Anthropic.BadRequestError)
    const result = { type: 'tool_result' as const, tool_use_id: 't', content: [{ type: 'image' } as never] }
    await expect(client.messages.create({ ...ASK, messages: [{ role: 'user', content: [result] }] })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('The result of a tool holds a part of type') as string,
    })
    await expect(new Anthropic({ apiKey: 'wrong', baseURL: origin, maxRetries: 0 }).messages.create(ASK)).rejects.toBeInstanceOf(
      Anthropic.AuthenticationError,
    )
  })
})
