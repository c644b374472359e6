/** What HTTP clients do without thinking of it, and what they must be told when the server does not take it. */
import { afterEach, describe, expect, test } from 'vitest'
import { RefusalLog } from './refusal-log.ts'
import { startEcho as start, stopAll } from './test/start-echo.ts'

afterEach(stopAll)

const CHAT = { model: 'echo', messages: [{ role: 'user', content: 'hi' }] }

async function refusal(response: Response): Promise<[number, string | null, string]> {
  const { error } = (await response.json()) as { error: { param: string | null; message: string } }
  return [response.status, error.param, error.message]
}

describe('paths and methods', () => {
  test('a slash too many, HEAD, one model by its name, and which methods there are', async () => {
    const { call, post, origin } = await start()
    expect((await post('/v1/chat/completions/', CHAT)).status).toBe(200)
    const head = await fetch(`${origin}/health`, { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([200, ''])
    expect(await (await call('/v1/models/echo')).json()).toMatchObject({ id: 'echo', object: 'model', root: 'echo-1' })
    expect(await refusal(await call('/v1/models/an%20other/one'))).toEqual([404, 'model', 'The model `an other/one` does not exist.'])
    expect((await call('/v1/models/%ff')).status).toBe(400)
    const wrong = await call('/v1/models', { method: 'DELETE' })
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
    const locked = await fetch(`${origin}/v1/models`)
    expect([locked.status, locked.headers.get('www-authenticate')]).toEqual([401, 'Bearer'])
  })
})

describe('bodies', () => {
  test.each<[string, Record<string, string>, RegExp]>([
    ['gzip', { 'content-encoding': 'gzip' }, /compressed \("gzip"\)/],
    ['another character set', { 'content-type': 'application/json; charset=utf-16' }, /"utf-16" is not read/],
  ])('%s is named and refused', async (_, headers, message) => {
    const { call } = await start()
    const response = await call('/v1/chat/completions', { method: 'POST', body: JSON.stringify(CHAT), headers })
    expect(await refusal(response)).toEqual([415, null, expect.stringMatching(message)])
  })

  test('broken UTF-8 is not answered as if it were another text', async () => {
    const { call } = await start()
    const body = Buffer.concat([Buffer.from('{"model":"echo","prompt":"a'), Buffer.from([0xff]), Buffer.from('"}')])
    expect(await refusal(await call('/v1/completions', { method: 'POST', body }))).toEqual([
      400,
      null,
      'The request body is not valid UTF-8.',
    ])
  })
})

describe('values of several forms', () => {
  test.each<[object, string, RegExp]>([
    [{ stop: Array.from({ length: 17 }, () => 'a') }, 'stop', /Too big: expected array to have <=16 items/],
    [{ stop: ['a', 1] }, 'stop.1', /expected string, received number/],
    [{ stop: 1 }, 'stop', /expected string, received number; or expected array, received number/],
    [{ seed: 1.5 }, 'seed', /whole number/],
    [{ messages: [{ role: 'user', content: 5 }] }, 'messages.0.content', /expected string, received number/],
  ])('%j: the form that was meant is the one spoken of', async (fields, param, message) => {
    const { post } = await start()
    expect(await refusal(await post('/v1/chat/completions', { ...CHAT, ...fields }))).toEqual([400, param, expect.stringMatching(message)])
  })

  test('seeds of 64 bits are taken, and choices still differ in theirs', async () => {
    const { call, runtime } = await start()
    const body = `{"model":"echo","prompt":"ab","n":2,"temperature":1,"seed":18446744073709551615}`
    expect((await call('/v1/completions', { method: 'POST', body })).status).toBe(200)
    const seeds = runtime.requests.map((request) => request.sampling.seed!)
    expect([seeds.every(Number.isSafeInteger), new Set(seeds).size]).toEqual([true, 2])
  })
})

describe('what is told about an answer', () => {
  test('the reason to stop is a text or a token that was asked for, not the end of the answer itself', async () => {
    const { post } = await start()
    const reasonOf = async (fields: object): Promise<unknown> =>
      ((await (await post('/v1/completions', { model: 'echo', prompt: 'abc', ...fields })).json()) as { choices: unknown[] }).choices[0]
    expect(await reasonOf({})).toMatchObject({ finish_reason: 'stop', stop_reason: null })
    expect(await reasonOf({ stop_token_ids: [0] })).toMatchObject({ finish_reason: 'stop', stop_reason: 0 })
  })

  test('a streamed echo carries the log-probabilities of the prompt, and offsets go on from it', async () => {
    const { post } = await start()
    const text = await (
      await post('/v1/completions', { model: 'echo', prompt: 'abc', echo: true, logprobs: 1, max_tokens: 2, stream: true })
    ).text()
    const logprobs = text
      .split('\n\n')
      .filter((frame) => frame.startsWith('data: {'))
      .flatMap((frame) => {
        const { choices } = JSON.parse(frame.slice(6)) as { choices: { logprobs: Record<string, unknown[]> | null }[] }
        return choices.flatMap((choice) => (choice.logprobs === null ? [] : [choice.logprobs]))
      })
    expect(logprobs[0]).toEqual({
      tokens: ['a', 'b', 'c'],
      token_logprobs: [null, -1, -2],
      top_logprobs: [null, { z: -0.25, b: -1 }, { z: -0.25, c: -2 }],
      text_offset: [0, 1, 2],
    })
    expect(logprobs.slice(1).flatMap((each) => each['text_offset'])).toEqual([3, 4])
  })
})

test('log-probabilities of no alternatives still list the sampled token, as vLLM does, streamed or not', async () => {
  const { post } = await start()
  const body = { model: 'echo', prompt: 'ab', logprobs: 0, max_tokens: 1 }
  const logprobs = { tokens: ['a'], token_logprobs: [-0.5], top_logprobs: [{ a: -0.5 }], text_offset: [0] }
  expect(await (await post('/v1/completions', body)).json()).toMatchObject({ choices: [{ logprobs }] })
  const [first = ''] = (await (await post('/v1/completions', { ...body, stream: true })).text()).split('\n\n')
  expect(JSON.parse(first.slice(6))).toMatchObject({ choices: [{ logprobs }] })
})

test('the id of a request is the one in its header, else the one in its body', async () => {
  const { call, post } = await start()
  const named = { ...CHAT, request_id: 'body-1' }
  const ask = { method: 'POST', body: JSON.stringify(named), headers: { 'content-type': 'application/json', 'x-request-id': 'header-1' } }
  expect((await post('/v1/chat/completions', named)).headers.get('x-request-id')).toBe('body-1')
  expect((await call('/v1/chat/completions', ask)).headers.get('x-request-id')).toBe('header-1')
  const streamed = await post('/v1/completions', { model: 'echo', prompt: 'a', max_tokens: 1, stream: true, request_id: 'body-2' })
  expect(streamed.headers.get('x-request-id')).toBe('body-2')
  await streamed.text()
})

test('choices and prompts of one call are one group in the queue, those of two calls with one id are two', async () => {
  const { post, runtime } = await start()
  const body = { model: 'echo', prompt: ['a', 'b'], n: 2, temperature: 1, max_tokens: 1, request_id: 'same' }
  for (const _ of [1, 2]) expect((await post('/v1/completions', body)).status).toBe(200)
  const groups = runtime.requests.map(({ group }) => group)
  expect([groups.length, groups.every((group) => group !== undefined)]).toEqual([8, true])
  expect([new Set(groups.slice(0, 4)).size, new Set(groups.slice(4)).size, new Set(groups).size]).toEqual([1, 1, 2])
})

describe('the log', () => {
  test('says which requests were refused, on one line each, and what is merely not built is no error', async () => {
    const said: [string, string][] = []
    const { post } = await start({}, { log: (level, text) => said.push([level, text]) })
    await post('/v1/chat/completions', { ...CHAT, model: 'two\nlines' })
    await post('/v1/completions', { model: 'echo', prompt: 'a', suffix: 'b' })
    expect(said).toEqual([
      ['warn', 'POST /v1/chat/completions was answered 404: The model `two lines` does not exist.'],
      ['warn', expect.stringMatching(/^POST \/v1\/completions was answered 501: A suffix is not supported/)],
    ])
  })

  test('is not filled by a client that repeats itself, or that never does', () => {
    const said: string[] = []
    let now = 0
    const log = new RefusalLog(
      (text) => said.push(text),
      () => now,
    )
    for (let i = 0; i < 5; i++) log.note('the same')
    for (let i = 0; i < 20; i++) log.note(`another ${i}`)
    expect(said).toEqual(['the same', ...Array.from({ length: 9 }, (_, i) => `another ${i}`)])
    now = 10_000
    log.note('the same')
    expect(said.slice(-2)).toEqual(['15 more requests were refused.', 'the same'])
  })
})
