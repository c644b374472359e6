/** A server with OpenAI's interface under load: streamed completions, timed as their frames arrive. Parses server-sent events and nothing more of them. */
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { LatheError } from '../../contract/errors.ts'
import { isObject } from '../../evaluate/remote/openai-client.ts'
import type { OpenAiClient } from '../../evaluate/remote/openai-client.ts'
import type { LoadEnd, LoadPrompt, LoadTarget } from './load-target.ts'

export interface HttpLoadOptions {
  readonly client: OpenAiClient
  readonly model: string
  /** `chat` for servers without /v1/completions; lengths are then the server's own. */
  readonly api: 'completions' | 'chat'
}

export function createHttpLoadTarget({ client, model, api }: HttpLoadOptions): LoadTarget {
  const url = `${client.baseUrl}/${api === 'chat' ? 'chat/completions' : 'completions'}`
  // vLLM's, llama.cpp's and ours know it; strict servers refuse any field that is not OpenAI's own, and end their answers where they like.
  let takesIgnoreEos = true
  return {
    kind: 'server',
    model,
    url: client.baseUrl,
    async send(prompt, _id, onChunk, signal): Promise<LoadEnd> {
      const ask = (): Promise<IncomingMessage> => {
        const body = JSON.stringify({
          model,
          ...(api === 'chat' ? { messages: [{ role: 'user', content: prompt.text }] } : { prompt: prompt.tokens ?? prompt.text }),
          max_tokens: prompt.outputTokens,
          ...(takesIgnoreEos ? { ignore_eos: true } : {}),
          temperature: 0,
          stream: true,
          stream_options: { include_usage: true },
        })
        return post(url, client.headers, body, signal)
      }
      const response = await ask()
      if (response.statusCode === 200) return readStream(response, prompt, onChunk)
      const said = await textOf(response)
      if (!(response.statusCode === 400 || response.statusCode === 422) || !said.includes('ignore_eos')) throw refused(response, said)
      takesIgnoreEos = false
      const again = await ask()
      if (again.statusCode !== 200) throw refused(again, await textOf(again))
      return readStream(again, prompt, onChunk)
    },
  }
}

function refused({ statusCode }: IncomingMessage, said: string): LatheError {
  return new LatheError('remote.unsupported', `${statusCode}: ${said.slice(0, 200)}`, 'Look at the server’s log.')
}

/**
 * node:http rather than fetch: it takes a third of a millisecond where fetch takes more than one, and here that would be the server's latency.
 * Connections are kept, as many as there are requests in flight.
 */
const AGENTS = { 'http:': new HttpAgent({ keepAlive: true }), 'https:': new HttpsAgent({ keepAlive: true }) }

function post(url: string, headers: Readonly<Record<string, string>>, body: string, signal: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const secure = url.startsWith('https:')
  const length = { 'content-length': String(Buffer.byteLength(body)) }
  const options = { method: 'POST', headers: { ...headers, ...length }, agent: AGENTS[secure ? 'https:' : 'http:'], signal }
  const request = secure ? httpsRequest(url, options, resolve) : httpRequest(url, options, resolve)
  // Small frames must not wait for an acknowledgement of the last.
  request.setNoDelay(true)
  request.on('error', reject)
  request.end(body)
  return promise
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const bytes of response) text += String(bytes)
  return text
}

/** Server-sent events, however the network cuts them; `onChunk` for each frame with output. */
export async function readStream(body: AsyncIterable<Uint8Array>, prompt: LoadPrompt, onChunk: () => void): Promise<LoadEnd> {
  let chunks = 0
  let end = { inputTokens: 0, outputTokens: 0, cachedTokens: 0, finish: 'unknown' }
  const decoder = new TextDecoder()
  let rest = ''
  const read = (line: string): void => {
    if (!line.startsWith('data:')) return
    const data = line.slice(5).trim()
    if (data === '' || data === '[DONE]') return
    const frame: unknown = JSON.parse(data)
    if (!isObject(frame)) return
    if (isObject(frame['error']))
      throw new LatheError('remote.unsupported', String(frame['error']['message'] ?? 'The server failed.'), 'Look at the server’s log.')
    const choice: unknown = Array.isArray(frame['choices']) ? frame['choices'][0] : undefined
    if (isObject(choice)) {
      if (hasText(choice)) {
        chunks++
        onChunk()
      }
      if (typeof choice['finish_reason'] === 'string') end = { ...end, finish: choice['finish_reason'] }
    }
    if (isObject(frame['usage'])) end = { ...end, ...usageOf(frame['usage']) }
  }
  for await (const bytes of body) {
    rest += decoder.decode(bytes, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) read(line)
  }
  // A last frame without the end of its line may be the one with the counts.
  read(rest)
  // A server that counts nothing is taken at a token a chunk.
  return {
    ...end,
    inputTokens: end.inputTokens === 0 ? prompt.promptTokens : end.inputTokens,
    outputTokens: end.outputTokens === 0 ? chunks : end.outputTokens,
  }
}

/** Output of any kind: text, a reasoning model's thoughts. */
function hasText(choice: Readonly<Record<string, unknown>>): boolean {
  if (typeof choice['text'] === 'string' && choice['text'] !== '') return true
  const delta = choice['delta']
  return isObject(delta) && ['content', 'reasoning_content', 'reasoning'].some((key) => typeof delta[key] === 'string' && delta[key] !== '')
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0
}

function usageOf(usage: Readonly<Record<string, unknown>>): Partial<LoadEnd> {
  const details = usage['prompt_tokens_details']
  return {
    inputTokens: count(usage['prompt_tokens']),
    outputTokens: count(usage['completion_tokens']),
    cachedTokens: isObject(details) ? count(details['cached_tokens']) : 0,
  }
}
