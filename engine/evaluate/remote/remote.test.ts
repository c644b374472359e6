import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { OpenAiClient } from './openai-client.ts'
import { connectRemoteTarget } from './remote-target.ts'

/** One token a letter; log p of a token is −its letter's place in the alphabet / 10; "a" is always the top token. */
interface Ability {
  readonly tokenize?: boolean
  /** Whatever was asked. */
  readonly tokens?: readonly unknown[]
  readonly score?: 'echo-0' | 'echo-1' | 'prompt-logprobs' | null
  readonly completions?: boolean
  /** Log-probabilities of answers: given, left out as if they had not been asked for, or refused. */
  readonly answerLogprobs?: 'given' | 'ignored' | 'refused'
  /** Statuses to answer first. */
  readonly failures?: number[]
}

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function serve(ability: Ability) {
  const seen: { readonly path: string; readonly body: Record<string, unknown>; readonly key: string | undefined }[] = []
  const failures = [...(ability.failures ?? [])]
  const server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += String(chunk)
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    const path = request.url ?? ''
    seen.push({ path, body, key: request.headers.authorization })
    const send = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    const failure = failures.shift()
    if (failure !== undefined) return send(failure, { error: { message: `failure ${failure}` } })
    if (path === '/v1/models') return send(200, { data: [{ id: 'm', max_model_len: 64, root: 'root' }] })
    if (path === '/tokenize')
      return ability.tokenize === false
        ? send(404, { error: { message: 'no such path' } })
        : send(200, { tokens: ability.tokens ?? [...(body['add_special_tokens'] === true ? [0] : []), ...ids(String(body['prompt']))] })
    if (path === '/v1/chat/completions') {
      if (ability.answerLogprobs === 'refused' && body['logprobs'] !== undefined)
        return send(400, { error: { message: 'logprobs are not supported' } })
      const logprobs = ability.answerLogprobs === 'given' ? { logprobs: { content: CHAT_LOGPROBS } } : {}
      return send(200, { choices: [{ message: { content: 'hello STOP more' }, ...logprobs }], usage: { completion_tokens: 3 } })
    }
    if (path === '/v1/completions' && ability.completions !== false) return send(...complete(body, ability))
    return send(404, { error: { message: 'no such path' } })
  })
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const client = new OpenAiClient({ url: `http://127.0.0.1:${port}`, apiKey: 'secret' }, 1)
  return { client, seen, url: `http://127.0.0.1:${port}` }
}

/** Half a character has bytes only; a second choice may be left out. */
const CHAT_LOGPROBS = [
  {
    token: 'hello',
    logprob: -0.5,
    bytes: [...Buffer.from('hello')],
    top_logprobs: [
      { token: 'hello', logprob: -0.5 },
      { token: 'hi', logprob: -0.75 },
    ],
  },
  { token: '\ufffd', logprob: -0.1, bytes: [0xf0, 0x9f], top_logprobs: [{ token: '\ufffd', logprob: -0.1 }] },
]
const COMPLETION_LOGPROBS = {
  tokens: ['one', ' two', ' STOP'],
  token_logprobs: [-0.2, -0.3, -0.1],
  top_logprobs: [{ one: -0.2, a: -1.7 }, { ' two': -0.3, ' 2': -0.4, ' tw': -5 }, null],
}

const ids = (text: string): number[] => Array.from(text, (letter) => letter.charCodeAt(0))
const logprobOf = (id: number): number => (id === 97 ? -0.1 : -(id % 32) / 10)

function complete(body: Record<string, unknown>, ability: Ability): [number, unknown] {
  const prompt = typeof body['prompt'] === 'string' ? ids(body['prompt']) : (body['prompt'] as number[])
  const scoring = body['echo'] === true || body['prompt_logprobs'] !== undefined
  if (!scoring) {
    const logprobs = ability.answerLogprobs === 'given' ? { logprobs: COMPLETION_LOGPROBS } : {}
    return [200, { choices: [{ text: 'one two STOP', ...logprobs }], usage: { completion_tokens: 2 } }]
  }
  const mode = body['prompt_logprobs'] !== undefined ? 'prompt-logprobs' : body['max_tokens'] === 0 ? 'echo-0' : 'echo-1'
  if (ability.score !== mode) return [400, { error: { message: `${mode} is not supported` } }]
  if (mode === 'prompt-logprobs') {
    const list = prompt.map((id, i) =>
      i === 0 ? null : { 97: { logprob: -0.1, rank: 1 }, ...(id === 97 ? {} : { [id]: { logprob: logprobOf(id), rank: 5 } }) },
    )
    return [200, { choices: [{ text: '', prompt_logprobs: list }] }]
  }
  const all = mode === 'echo-1' ? [...prompt, 122] : prompt
  return [
    200,
    {
      choices: [
        {
          text: '',
          logprobs: {
            token_logprobs: all.map((id, i) => (i === 0 ? null : logprobOf(id))),
            top_logprobs: all.map((id, i) => (i === 0 ? null : { a: -0.1, [String.fromCharCode(id)]: logprobOf(id) })),
            text_offset: all.map((_, i) => i),
          },
        },
      ],
    },
  ]
}

describe('a remote target', () => {
  test.each(['echo-0', 'echo-1', 'prompt-logprobs'] as const)('finds out that the server has %s, and stays with it', async (score) => {
    const { client, seen } = await serve({ score })
    const target = await connectRemoteTarget({ client, model: await client.pick(null), name: 'm' })
    expect(target).toMatchObject({ kind: 'remote', protocol: 'lm-eval:no-bos:remote-tokens', renderChat: null })
    // "b" is −0.2, "d" −0.4
    const first = await target.loglikelihood({ context: 'xy', continuation: 'bd' }, undefined)
    expect(first.logprob).toBeCloseTo(-0.6, 9)
    expect(first).toMatchObject({ isGreedy: false, tokens: 2 })
    expect(await target.loglikelihood({ context: 'xy', continuation: 'aa' }, undefined)).toMatchObject({ isGreedy: true, tokens: 2 })
    const tries = { 'echo-0': 1, 'echo-1': 2, 'prompt-logprobs': 3 }[score]
    expect(seen.filter(({ path }) => path === '/v1/completions')).toHaveLength(tries + 1)
    expect(seen.every(({ key }) => key === 'Bearer secret')).toBe(true)
  })

  test('spaces at the border go to the continuation; an empty context begins with the start token', async () => {
    const { client, seen } = await serve({ score: 'echo-0' })
    const target = await connectRemoteTarget({ client, model: await client.pick('m'), name: 'm' })
    expect(await target.loglikelihood({ context: 'x ', continuation: 'b' }, undefined)).toMatchObject({ tokens: 2 })
    await target.loglikelihood({ context: '', continuation: 'bd' }, undefined)
    expect(seen.at(-1)?.body['prompt']).toEqual([0, 98, 100])
    // 3 tokens in windows of 2: [0 b d] then [b? d c]
    const rolled = await target.rolling('bdc', 2, undefined)
    expect(rolled).toMatchObject({ tokens: 3 })
    expect(rolled.logprob).toBeCloseTo(-0.9, 9)
  })

  test('without /tokenize borders come from the text, and what needs tokens is refused by name', async () => {
    const { client } = await serve({ score: 'echo-0', tokenize: false })
    const target = await connectRemoteTarget({ client, model: await client.pick(null), name: 'the server' })
    const scored = await target.loglikelihood({ context: 'xy', continuation: 'bd' }, undefined)
    expect(scored.logprob).toBeCloseTo(-0.6, 9)
    await expect(target.rolling('abc', 2, undefined)).rejects.toThrow(/the server has no \/tokenize/)
    await expect(target.loglikelihood({ context: '', continuation: 'b' }, undefined)).rejects.toMatchObject({ code: 'remote.unsupported' })
  })

  test('ids of which one is no id are refused whole, and a refused key is not "no /tokenize"', async () => {
    const odd = await serve({ tokens: [1, null, 3] })
    await expect(odd.client.tokenize('m', 'abc')).rejects.toMatchObject({ code: 'remote.invalid-response' })
    expect(await odd.client.canTokenize('m')).toBe(false)
    expect(await (await serve({ tokens: [] })).client.canTokenize('m')).toBe(false)
    expect(await (await serve({ tokenize: false })).client.canTokenize('m')).toBe(false)
    expect(await (await serve({})).client.canTokenize('m')).toBe(true)
    await expect((await serve({ failures: [401] })).client.canTokenize('m')).rejects.toMatchObject({ code: 'remote.refused' })
  })

  test('a server without likelihoods says what it refused', async () => {
    const { client } = await serve({ score: null })
    const target = await connectRemoteTarget({ client, model: await client.pick(null), name: 'm' })
    const error: unknown = await target.loglikelihood({ context: 'x', continuation: 'b' }, undefined).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      code: 'remote.unsupported',
      message: expect.stringMatching(/echo-0 is not supported.*echo-1 is not supported.*prompt-logprobs is not supported/),
    })
  })

  test('answers from text and conversations, cut at the stops', async () => {
    const { client, seen } = await serve({ answerLogprobs: 'ignored' })
    const target = await connectRemoteTarget({ client, model: await client.pick(null), name: 'm' })
    const request = { maxTokens: 5, until: ['STOP'], temperature: 0, topP: 1, seed: 1 }
    expect(await target.generate({ ...request, prompt: 'x' }, undefined)).toEqual({ text: 'one two ', tokens: 2 })
    expect(await target.generate({ ...request, prompt: [{ role: 'user', content: 'x' }] }, undefined)).toEqual({
      text: 'hello ',
      tokens: 3,
    })
    expect(seen.at(-1)?.body).toEqual({
      model: 'm',
      messages: [{ role: 'user', content: 'x' }],
      max_tokens: 5,
      temperature: 0,
      stop: ['STOP'],
      logprobs: true,
      top_logprobs: 2,
    })
  })

  test('greedy answers bring how far ahead each token was, where the server tells', async () => {
    const { client, seen } = await serve({ answerLogprobs: 'given' })
    const target = await connectRemoteTarget({ client, model: await client.pick(null), name: 'm' })
    const request = { maxTokens: 5, until: ['STOP'], temperature: 0, topP: 1, seed: 1 }
    const turns = [{ role: 'user', content: 'x' }] as const
    const fromText = await target.generate({ ...request, prompt: 'x' }, undefined)
    expect(fromText.trace).toEqual({ pieces: ['one', ' two', ' STOP'], margins: [1.5, 0.1, null] })
    const fromChat = await target.generate({ ...request, prompt: turns }, undefined)
    expect(fromChat.trace).toEqual({ pieces: ['hello', '\u0000f09f'], margins: [0.25, null] })
    await target.generate({ ...request, prompt: 'x', temperature: 0.7 }, undefined)
    expect(seen.filter(({ path }) => path.endsWith('completions')).map(({ body }) => body['logprobs'])).toEqual([2, true, undefined])
  })

  test('a server that refuses log-probabilities answers without them, and is asked once', async () => {
    const { client, seen } = await serve({ answerLogprobs: 'refused' })
    const target = await connectRemoteTarget({ client, model: await client.pick(null), name: 'm' })
    const request = { maxTokens: 5, until: ['STOP'], temperature: 0, topP: 1, seed: 1, prompt: [{ role: 'user', content: 'x' }] } as const
    expect(await target.generate(request, undefined)).toEqual({ text: 'hello ', tokens: 3 })
    expect(await target.generate(request, undefined)).toEqual({ text: 'hello ', tokens: 3 })
    expect(seen.filter(({ path }) => path === '/v1/chat/completions').map(({ body }) => body['logprobs'])).toEqual([
      true,
      undefined,
      undefined,
    ])
  })
})

describe('the client', () => {
  test('addresses', () => {
    expect(new OpenAiClient({ url: 'http://h:1/v1/', apiKey: null })).toMatchObject({ baseUrl: 'http://h:1/v1', rootUrl: 'http://h:1' })
    expect(new OpenAiClient({ url: 'https://h/llm', apiKey: null })).toMatchObject({
      baseUrl: 'https://h/llm/v1',
      rootUrl: 'https://h/llm',
    })
    for (const url of ['nonsense', 'ftp://h', 'http://user:pass@h'])
      expect(() => new OpenAiClient({ url, apiKey: null })).toThrow(expect.objectContaining({ code: 'request.invalid' }))
  })

  test('busy servers are tried again; refusals say who and why, never the key', async () => {
    const busy = await serve({ failures: [503, 429] })
    expect(await busy.client.models()).toEqual([{ id: 'm', contextLimit: 64, root: 'root', owner: null }])
    const locked = await serve({ failures: [401] })
    const error: unknown = await locked.client.models().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'remote.refused' })
    expect(JSON.stringify(error) + String(error)).not.toContain('secret')
    await expect(busy.client.pick('other')).rejects.toThrow(/no model "other"; it serves m/)
    await expect(new OpenAiClient({ url: 'http://127.0.0.1:9', apiKey: null }, 1).models()).rejects.toMatchObject({
      code: 'remote.unreachable',
    })
  })

  test('cancelling ends a wait at once', async () => {
    const { url } = await serve({ failures: [503] })
    const controller = new AbortController()
    const asking = new OpenAiClient({ url, apiKey: null }, 60_000).models(controller.signal)
    setTimeout(() => controller.abort(new Error('enough')), 5)
    await expect(asking).rejects.toThrow('enough')
  })
})
