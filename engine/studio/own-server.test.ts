/** Evaluation and load over HTTP against our own server: the interface that a remote target uses, as our server has it. One token a byte. */
import { afterEach, expect, test } from 'vitest'
import { createHttpLoadTarget } from '../benchmark/load/http-load-target.ts'
import { OpenAiClient } from '../evaluate/remote/openai-client.ts'
import { connectRemoteTarget } from '../evaluate/remote/remote-target.ts'
import { KEY, startEcho, stopAll } from '../server/test/start-echo.ts'

afterEach(stopAll)

test('likelihoods and answers over our own server are those of the model behind it', async () => {
  const { origin } = await startEcho({ contextLimit: 256 })
  const client = new OpenAiClient({ url: origin, apiKey: KEY })
  const remote = await connectRemoteTarget({ client, model: await client.pick(null), name: 'own' })
  // The echo model gives the token at position i a log-probability of −i.
  expect(await remote.loglikelihood({ context: 'Question: one\nAnswer:', continuation: ' yes' }, undefined)).toMatchObject({
    logprob: -(21 + 22 + 23 + 24),
    tokens: 4,
  })
  // The space at the border is scored with the answer.
  expect(await remote.loglikelihood({ context: 'with a space ', continuation: 'b' }, undefined)).toMatchObject({
    logprob: -(12 + 13),
    tokens: 2,
  })
  const request = { prompt: 'abcabc', maxTokens: 5, until: ['c'], temperature: 0, topP: 1, seed: 1 }
  expect((await remote.generate(request, undefined)).text).toBe('ab')
  await expect(new OpenAiClient({ url: origin, apiKey: 'wrong' }).models()).rejects.toMatchObject({ code: 'remote.refused' })
})

test('a load is counted by the server’s own usage', async () => {
  const { origin } = await startEcho({ contextLimit: 256 })
  const client = new OpenAiClient({ url: origin, apiKey: KEY })
  const target = createHttpLoadTarget({ client, model: (await client.pick(null)).id, api: 'completions' })
  let chunks = 0
  const prompt = { tokens: [...Buffer.from('hello')], text: '', promptTokens: 5, outputTokens: 4 }
  const end = await target.send(prompt, 0, () => chunks++, new AbortController().signal)
  expect(end).toEqual({ inputTokens: 5, outputTokens: 4, cachedTokens: 0, finish: 'length' })
  expect(chunks).toBeGreaterThan(0)
})
