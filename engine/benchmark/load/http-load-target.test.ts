import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { OpenAiClient } from '../../evaluate/remote/openai-client.ts'
import { createHttpLoadTarget } from './http-load-target.ts'
import type { LoadPrompt } from './load-target.ts'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

/** Answers with one token; what it does with a body first is the test's. */
async function serverThat(
  judge: (body: Readonly<Record<string, unknown>>) => { readonly status: number; readonly message: string } | null,
) {
  const bodies: Record<string, unknown>[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (part) => (text += String(part)))
    request.on('end', () => {
      const body = JSON.parse(text) as Record<string, unknown>
      bodies.push(body)
      const refusal = judge(body)
      if (refusal !== null) {
        response.writeHead(refusal.status, { 'content-type': 'application/json' })
        return response.end(JSON.stringify({ error: { message: refusal.message } }))
      }
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      return response.end(
        'data: {"choices":[{"text":"x","finish_reason":"stop"}]}\r\n\r\ndata: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\r\n\r\ndata: [DONE]\r\n\r\n',
      )
    })
  })
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { bodies, target: createHttpLoadTarget({ client: new OpenAiClient({ url, apiKey: null }), model: 'm', api: 'completions' }) }
}

const PROMPT: LoadPrompt = { tokens: [1, 2, 3], text: '', promptTokens: 3, outputTokens: 4 }

test('a server that refuses ignore_eos is asked without it, from then on', async () => {
  const { bodies, target } = await serverThat((body) =>
    'ignore_eos' in body ? { status: 400, message: 'Unrecognized request argument supplied: ignore_eos' } : null,
  )
  let chunks = 0
  const send = (id: number) => target.send(PROMPT, id, () => chunks++, new AbortController().signal)
  const end = { inputTokens: 3, outputTokens: 1, cachedTokens: 0, finish: 'stop' }
  expect([await send(0), await send(1)]).toEqual([end, end])
  expect([chunks, ...bodies.map((body) => 'ignore_eos' in body)]).toEqual([2, true, false, false])
  expect(bodies[2]).toMatchObject({ model: 'm', prompt: [1, 2, 3], max_tokens: 4, stream: true, stream_options: { include_usage: true } })
})

test('any other refusal is the request’s failure, with what the server said', async () => {
  const { bodies, target } = await serverThat(() => ({ status: 400, message: 'max_tokens is too large' }))
  await expect(target.send(PROMPT, 0, () => {}, new AbortController().signal)).rejects.toThrow(/^400: .*max_tokens is too large/)
  expect(bodies.length).toBe(1)
})
