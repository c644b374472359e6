import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { LatheError } from '../../contract/errors.ts'
import { OpenAiClient } from '../../evaluate/remote/openai-client.ts'
import { createHttpLoadTarget, readStream } from './http-load-target.ts'
import type { LoadPrompt } from './load-target.ts'
import { parseTrace } from './schedule.ts'

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

const SEED = 20_261_123

async function* pieces(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]
  for (const [i, from] of at.slice(0, -1).entries()) yield bytes.subarray(from, at[i + 1])
}

test('a stream is read the same wherever the network cuts it, between the bytes of a letter too (fuzz)', async () => {
  const frames = [
    ': a comment',
    'data: {"choices":[{"text":"für","finish_reason":null}]}',
    'data:{"choices":[{"delta":{"content":"日本"}}]}',
    'data: {"choices":[{"text":"","finish_reason":null}]}',
    'event: ping',
    'data: {"choices":[{"delta":{"reasoning_content":"so"},"finish_reason":"length"}]}',
    'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":2}}}',
    'data: [DONE]',
  ]
  const bytes = new TextEncoder().encode(frames.join('\r\n\r\n'))
  const cuts = fc.array(fc.nat(), { maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(cuts, async (at) => {
      let chunks = 0
      const end = await readStream(pieces(bytes, at), PROMPT, () => chunks++)
      expect({ chunks, ...end }).toEqual({ chunks: 3, inputTokens: 7, outputTokens: 9, cachedTokens: 2, finish: 'length' })
    }),
    { seed: SEED, numRuns: 200 },
  )
})

/** Its entries, or what it was refused with; anything but a LatheError is a defect. */
function traceOf(text: string): ReturnType<typeof parseTrace> | string {
  try {
    return parseTrace('t', text, 1)
  } catch (error) {
    if (error instanceof LatheError) return error.message
    throw error
  }
}

test('a trace is arrivals in order from 0, or a refusal that names the line (fuzz)', () => {
  const good = fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.double({ min: 0, max: 1e6, noNaN: true }))
  const odd = fc.oneof(fc.integer({ max: -1 }), fc.double(), fc.constant('12'), fc.constant(null))
  const number = fc.oneof({ weight: 30, arbitrary: good }, { weight: 1, arbitrary: odd })
  const entry = fc.record({ timestamp: number, arrival_time: number, input_length: number, output_length: number })
  const line = fc.oneof({ weight: 30, arbitrary: entry.map((value) => JSON.stringify(value)) }, { weight: 1, arbitrary: fc.string() })
  let accepted = 0
  fc.assert(
    fc.property(fc.array(line, { maxLength: 4 }), (lines) => {
      const trace = traceOf(lines.join('\n'))
      if (typeof trace === 'string') return /^t(, line \d+:| has 0 requests)/.test(trace)
      accepted++
      return (
        trace[0]?.atMs === 0 &&
        trace.every(({ atMs }, i) => atMs >= (trace[i - 1]?.atMs ?? 0)) &&
        trace.every(({ promptTokens, outputTokens }) => [promptTokens, outputTokens].every((n) => Number.isInteger(n) && n > 0))
      )
    }),
    { seed: SEED, numRuns: 500 },
  )
  expect(accepted).toBeGreaterThan(100)
})
