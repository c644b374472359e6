/**
 * Any server with OpenAI's interface as a target of evaluation. Likelihoods come from /v1/completions: `echo` with `logprobs` and no new token, or
 * with one where the server wants one, or vLLM's `prompt_logprobs`; answers from /v1/completions and /v1/chat/completions. Where the server has
 * /tokenize, borders between context and continuation are counted in tokens as for local models. What a server can't do is refused by name.
 */
import { LatheError } from '../../contract/errors.ts'
import { isGreedyTemperature } from '../../runtime/sampling.ts'
import { rollingWindows } from '../windows.ts'
import { cutAtStops } from '../tasks/target.ts'
import type { EvaluationTarget, GenerateRequest, Generated, Loglikelihood, LoglikelihoodRequest } from '../tasks/target.ts'
import { readTrace } from './answer-logprobs.ts'
import { invalidResponse, isObject } from './openai-client.ts'
import type { OpenAiClient, RemoteModel } from './openai-client.ts'
import { firstChoice, readEcho } from './prompt-scores.ts'
import type { PromptToken } from './prompt-scores.ts'

export interface RemoteTargetOptions {
  readonly client: OpenAiClient
  readonly model: RemoteModel
  readonly name: string
  readonly parallel?: number
  /** Start token for texts without context; null = ask /tokenize what it puts in front. */
  readonly prefixToken?: number | null
  readonly signal?: AbortSignal
}

/** How a server gives the likelihoods of a prompt's own tokens. */
type ScoreMode = 'echo-0' | 'echo-1' | 'prompt-logprobs'
const SCORE_MODES: readonly ScoreMode[] = ['echo-0', 'echo-1', 'prompt-logprobs']

export async function connectRemoteTarget(options: RemoteTargetOptions): Promise<EvaluationTarget> {
  const { client, model, signal } = options
  const tokenizes = await client.canTokenize(model.id, signal)
  const startToken = async (): Promise<number | null> => {
    if (!tokenizes) return null
    // Some servers refuse an empty text; then there is no telling.
    return (await client.tokenize(model.id, '', { addSpecialTokens: true, signal }).catch(() => []))[0] ?? null
  }
  return new RemoteTarget(options, tokenizes, options.prefixToken ?? (await startToken()))
}

/** What tells one served model from another: a server may change what a name stands for, which this can't see. */
export function remoteFingerprint({ baseUrl }: Pick<OpenAiClient, 'baseUrl'>, { id, root, contextLimit }: RemoteModel): string {
  return `remote:${baseUrl}:${id}:${root ?? ''}:${contextLimit ?? ''}`
}

class RemoteTarget implements EvaluationTarget {
  readonly name: string
  readonly kind = 'remote'
  readonly fingerprint: string
  readonly protocol: string
  readonly parallel: number
  // The server applies its own template, unseen.
  readonly renderChat = null
  readonly endText = null
  readonly #client: OpenAiClient
  readonly #model: RemoteModel
  readonly #tokenizes: boolean
  readonly #prefixToken: number | null
  #mode: ScoreMode | null = null
  #traces = true

  constructor(options: RemoteTargetOptions, tokenizes: boolean, prefixToken: number | null) {
    const { client, model } = options
    this.name = options.name
    this.fingerprint = remoteFingerprint(client, model)
    this.protocol = tokenizes ? 'lm-eval:no-bos:remote-tokens' : 'lm-eval:remote-text'
    this.parallel = options.parallel ?? 8
    this.#client = client
    this.#model = model
    this.#tokenizes = tokenizes
    this.#prefixToken = prefixToken
  }

  async loglikelihood({ context, continuation }: LoglikelihoodRequest, signal: AbortSignal | undefined): Promise<Loglikelihood> {
    return this.#tokenizes ? this.#likelihoodOfTokens(context, continuation, signal) : this.#likelihoodOfText(context, continuation, signal)
  }

  #encode(text: string, signal: AbortSignal | undefined): Promise<number[]> {
    return this.#client.tokenize(this.#model.id, text, { signal })
  }

  async #likelihoodOfTokens(context: string, continuation: string, signal: AbortSignal | undefined): Promise<Loglikelihood> {
    const whole = await this.#encode(context + continuation, signal)
    const trimmed = context.trimEnd()
    const contextTokens = trimmed === '' ? 0 : (await this.#encode(trimmed, signal)).length
    const tokens = contextTokens === 0 ? [this.#requirePrefix(), ...whole] : whole
    const from = Math.max(1, contextTokens)
    if (tokens.length <= from) throw emptyContinuation(continuation)
    // One token more than the server holds is scored, never fed.
    const most = this.#model.contextLimit ?? Infinity
    const surplus = Math.max(0, tokens.length - most)
    return sumOf(await this.#score(tokens.slice(surplus), signal), Math.max(1, from - surplus))
  }

  async #likelihoodOfText(context: string, continuation: string, signal: AbortSignal | undefined): Promise<Loglikelihood> {
    const trimmed = context.trimEnd()
    if (trimmed === '') {
      throw new LatheError(
        'remote.unsupported',
        `${this.name} has no /tokenize, so a text without context can't be scored on it.`,
        'Use a task with prompts, or a server with /tokenize (vLLM, Lathe).',
      )
    }
    const scored = await this.#score(context + continuation, signal)
    const border = [...trimmed].length
    const from = scored.findIndex(({ offset }) => offset !== null && offset >= border)
    if (scored.some(({ offset }) => offset === null)) {
      throw new LatheError(
        'remote.unsupported',
        `${this.name} does not say where its tokens lie in the text and has no /tokenize.`,
        'Use a server with /tokenize (vLLM, Lathe).',
      )
    }
    if (from < 1) throw emptyContinuation(continuation)
    return sumOf(scored, from)
  }

  async rolling(
    text: string,
    window: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly logprob: number; readonly tokens: number }> {
    if (!this.#tokenizes) {
      throw new LatheError(
        'remote.unsupported',
        `${this.name} has no /tokenize, which rolling windows are cut with.`,
        'Use a server with /tokenize (vLLM, Lathe), or another task.',
      )
    }
    const tokens = Uint32Array.from(await this.#encode(text, signal))
    const size = Math.min(window, (this.#model.contextLimit ?? Infinity) - 1)
    let logprob = 0
    for (const { input, from } of rollingWindows(tokens, size, this.#requirePrefix()))
      logprob += sumOf(await this.#score([...input], signal), from).logprob
    return { logprob, tokens: tokens.length }
  }

  async generate(request: GenerateRequest, signal: AbortSignal | undefined): Promise<Generated> {
    const isChat = typeof request.prompt !== 'string'
    const url = `${this.#client.baseUrl}/${isChat ? 'chat/completions' : 'completions'}`
    const body = await this.#generateTraced(
      url,
      {
        model: this.#model.id,
        ...(isChat ? { messages: request.prompt } : { prompt: request.prompt }),
        max_tokens: request.maxTokens,
        temperature: request.temperature,
        ...(request.temperature === 0 ? {} : { top_p: request.topP, seed: request.seed }),
        ...(request.until.length === 0 ? {} : { stop: request.until }),
      },
      !isGreedyTemperature(request.temperature) ? {} : isChat ? { logprobs: true, top_logprobs: 2 } : { logprobs: 2 },
      signal,
    )
    const choice = firstChoice(body)
    const message = isObject(choice?.['message']) ? choice['message']['content'] : undefined
    const text = isChat ? message : choice?.['text']
    if (typeof text !== 'string' && !(isChat && text === null)) throw invalidResponse(url, 'has no text')
    const usage = isObject(body) && isObject(body['usage']) ? body['usage']['completion_tokens'] : null
    const trace = choice === null ? null : readTrace(choice)
    return {
      text: cutAtStops(text ?? '', request.until),
      tokens: typeof usage === 'number' ? usage : 0,
      ...(trace === null ? {} : { trace }),
    }
  }

  /** Asks for log-probabilities too until the server is found to answer only without them. */
  async #generateTraced(url: string, body: object, traced: object, signal: AbortSignal | undefined): Promise<unknown> {
    if (!this.#traces) return this.#client.request('POST', url, body, signal)
    try {
      return await this.#client.request('POST', url, { ...body, ...traced }, signal)
    } catch (error) {
      if (!(error instanceof LatheError) || error.code !== 'remote.unsupported') throw error
      // Whatever else is wrong with the request is wrong without them, too.
      const answer = await this.#client.request('POST', url, body, signal)
      this.#traces = false
      return answer
    }
  }

  #requirePrefix(): number {
    if (this.#prefixToken !== null) return this.#prefixToken
    throw new LatheError(
      'remote.unsupported',
      `${this.name} puts no start token before a text, so a text without context can't be scored on it.`,
      'Use a task with prompts.',
    )
  }

  /** Tries the ways a server may have, in order, and stays with the first that works. */
  async #score(prompt: string | readonly number[], signal: AbortSignal | undefined): Promise<readonly PromptToken[]> {
    if (this.#mode !== null) return this.#scoreBy(this.#mode, prompt, signal)
    const refusals: string[] = []
    for (const mode of SCORE_MODES) {
      try {
        const scored = await this.#scoreBy(mode, prompt, signal)
        this.#mode = mode
        return scored
      } catch (error) {
        if (!(error instanceof LatheError) || (error.code !== 'remote.unsupported' && error.code !== 'remote.invalid-response')) throw error
        refusals.push(`${mode}: ${error.message}`)
      }
    }
    throw new LatheError(
      'remote.unsupported',
      `${this.name} does not give the likelihoods of a prompt. ${refusals.join(' ')}`,
      'Use generate_until tasks on this server, or a server that has echo with logprobs or prompt_logprobs (vLLM, llama.cpp, Lathe).',
    )
  }

  async #scoreBy(mode: ScoreMode, prompt: string | readonly number[], signal: AbortSignal | undefined): Promise<readonly PromptToken[]> {
    const url = `${this.#client.baseUrl}/completions`
    const shared = { model: this.#model.id, prompt, temperature: 0 }
    const asked =
      mode === 'prompt-logprobs'
        ? { ...shared, max_tokens: 1, prompt_logprobs: 1 }
        : { ...shared, max_tokens: mode === 'echo-0' ? 0 : 1, echo: true, logprobs: 1 }
    const choice = firstChoice(await this.#client.request('POST', url, asked, signal))
    if (choice === null) throw invalidResponse(url, 'has no choices')
    const scored = mode === 'prompt-logprobs' ? readPromptLogprobs(choice) : readEcho(choice)
    if (scored === null) throw invalidResponse(url, `has no log-probabilities of the prompt (${mode})`)
    const kept = mode === 'echo-1' ? scored.slice(0, -1) : scored
    if (typeof prompt !== 'string' && kept.length !== prompt.length)
      throw invalidResponse(url, `has ${kept.length} log-probabilities for ${prompt.length} tokens`)
    return kept
  }
}

/** vLLM's `prompt_logprobs`: per position null or {token id: {logprob, rank}}; the prompt's own token is the entry of any rank that comes last or is listed by its id. */
function readPromptLogprobs(choice: Readonly<Record<string, unknown>>): PromptToken[] | null {
  const list = choice['prompt_logprobs']
  if (!Array.isArray(list)) return null
  const ids = Array.isArray(choice['prompt_token_ids']) ? (choice['prompt_token_ids'] as unknown[]) : []
  return (list as unknown[]).map((entry, i) => {
    if (!isObject(entry)) return { logprob: null, isTop: false, offset: null }
    const own = entry[String(ids[i])] ?? ownEntry(entry)
    const logprob = isObject(own) && typeof own['logprob'] === 'number' ? own['logprob'] : null
    return { logprob, isTop: isObject(own) && own['rank'] === 1, offset: null }
  })
}

/** With one alternative asked for there are at most two entries: the top one (rank 1), and the prompt's own where it is another. */
function ownEntry(entry: Readonly<Record<string, unknown>>): unknown {
  const values = Object.values(entry)
  return values.find((value) => isObject(value) && value['rank'] !== 1) ?? values[0]
}

function sumOf(scored: readonly PromptToken[], from: number): Loglikelihood {
  const own = scored.slice(from)
  let logprob = 0
  for (const token of own) {
    if (token.logprob === null)
      throw new LatheError(
        'remote.invalid-response',
        'A token of the answer has no log-probability.',
        'The server left it out; use another server.',
      )
    logprob += token.logprob
  }
  return { logprob, isGreedy: own.every(({ isTop }) => isTop), tokens: own.length }
}

function emptyContinuation(continuation: string): LatheError {
  return new LatheError(
    'evaluate.invalid-data',
    `The answer ${JSON.stringify(continuation.slice(0, 80))} adds no token to its prompt.`,
    'Check doc_to_choice or doc_to_target and the target delimiter.',
  )
}
