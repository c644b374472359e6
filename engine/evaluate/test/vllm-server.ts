/**
 * A server in vLLM's shape over a table p(next | previous): /v1/models, /version, /tokenize, /detokenize and /v1/completions with `prompt_logprobs` or
 * `echo`. Every figure that is measured of it can be worked out by hand.
 */
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { NextTokenTable } from './table-runtime.ts'

export interface VllmServerOptions {
  readonly table: NextTokenTable
  readonly encode: (text: string) => readonly number[]
  /** --max-logprobs; null = a server that does not know `prompt_logprobs` and answers without. */
  readonly maxLogprobs?: number | null
  readonly echoes?: boolean
  readonly contextLimit?: number
  readonly decode?: (ids: readonly number[]) => string
  readonly apiKey?: string
  /** Called before each completion is answered, with how many were before it; holds it until it resolves. */
  readonly gate?: (answered: number) => Promise<void>
}

export interface VllmServer {
  readonly url: string
  /** Bodies of /v1/completions as they came. */
  readonly asked: readonly Readonly<Record<string, unknown>>[]
  close(): void
}

type Answer = readonly [status: number, body: unknown]

export async function startVllmServer(options: VllmServerOptions): Promise<VllmServer> {
  const asked: Record<string, unknown>[] = []
  const server: Server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += String(chunk)
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    const path = request.url ?? ''
    const key = options.apiKey
    const isLocked = key !== undefined && request.headers.authorization !== `Bearer ${key}`
    let answer: Answer = isLocked ? refuse(401, 'Unauthorized') : answerTo(path, body, options)
    if (path === '/v1/completions' && !isLocked) {
      const before = asked.push(body) - 1
      await options.gate?.(before)
      answer = complete(body, options)
    }
    response.writeHead(answer[0], { 'content-type': 'application/json' })
    response.end(JSON.stringify(answer[1]))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

function refuse(status: number, message: string): Answer {
  return [status, { error: { message } }]
}

function answerTo(path: string, body: Record<string, unknown>, options: VllmServerOptions): Answer {
  if (path === '/v1/models')
    return [200, { data: [{ id: 'far', root: 'acme/far', owned_by: 'vllm', max_model_len: options.contextLimit ?? 4096 }] }]
  if (path === '/version') return [200, { version: '0.25.1' }]
  if (path === '/tokenize') return [200, { tokens: options.encode(String(body['prompt'])) }]
  if (path === '/detokenize' && options.decode !== undefined) return [200, { prompt: options.decode(body['tokens'] as number[]) }]
  return refuse(404, 'Not Found')
}

function complete(
  body: Record<string, unknown>,
  { table, maxLogprobs = 20, echoes = false, contextLimit = 4096 }: VllmServerOptions,
): Answer {
  const prompt = body['prompt'] as number[]
  const generated = Number(body['max_tokens'])
  if (prompt.length + generated > contextLimit)
    return refuse(400, `This model's maximum context length is ${contextLimit} tokens, however you requested ${prompt.length + generated}.`)
  const logprob = (i: number, id: number): number => Math.log(table(prompt[i - 1]!)[id]!)
  const count = Number(body['prompt_logprobs'] ?? 0)
  if (body['prompt_logprobs'] !== undefined && maxLogprobs !== null) {
    if (count > maxLogprobs) return refuse(400, `Requested prompt logprobs of ${count}, which is greater than max allowed: ${maxLogprobs}`)
    const list = prompt.map((own, i) => {
      if (i === 0) return null
      const row = table(prompt[i - 1]!)
      const ranked = Array.from(row.keys()).toSorted((a, b) => row[b]! - row[a]! || a - b)
      const ids = [...new Set([own, ...ranked.slice(0, count)])]
      return Object.fromEntries(ids.map((id) => [id, { logprob: logprob(i, id), rank: ranked.indexOf(id) + 1, decoded_token: '' }]))
    })
    return [200, { choices: [{ text: 'x', prompt_logprobs: list }] }]
  }
  if (body['echo'] !== true) return [200, { choices: [{ text: 'x' }] }]
  if (!echoes) return refuse(400, 'echo is not supported')
  const own = prompt.map((id, i) => (i === 0 ? null : logprob(i, id)))
  return [200, { choices: [{ text: 'x', logprobs: { token_logprobs: [...own, ...(generated > 0 ? [-1] : [])] } }] }]
}
