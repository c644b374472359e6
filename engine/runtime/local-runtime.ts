/**
 * The front of one loaded model: validates requests, gives them to the core, and routes the core's outputs to whoever waits for them.
 * Knows text only through a tokenizer's streaming decoder; knows no files (open-runtime.ts) and no other model (pair.ts, manager.ts).
 */
import { LatheError } from '../contract/errors.ts'
import type { Backend, KvCache } from '../gpu/program.ts'
import { createStopMatcher } from '../tokenizer/stop-strings.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { closedError } from './core-errors.ts'
import type { RequestOutput } from './core-messages.ts'
import type { Core } from './core.ts'
import { embed } from './embed.ts'
import { GenerationStream } from './generation-stream.ts'
import { Request } from './request.ts'
import { resolveRules, resolveSampling, validateGeneration, validateScore } from './sampling.ts'
import { createTokenRules } from './token-rules.ts'
import type {
  EmbedRequest,
  GenerationEvent,
  GenerationRequest,
  Runtime,
  RuntimeInfo,
  RuntimeTelemetry,
  ScoreRequest,
  ScoreResult,
} from './types.ts'

/** Enough of the prompt for a decoder to know that the answer continues a text. */
const PROMPT_TAIL_TOKENS = 8

export interface RuntimeParts {
  readonly info: RuntimeInfo
  readonly backend: Backend
  /** null = tokens have no text. */
  readonly tokenizer: Tokenizer | null
  /** Makes the core, given where its outputs go. */
  readonly createCore: (emit: (outputs: readonly RequestOutput[]) => void) => Core
  /** What holds keys and values, and a digest of all that they depend on; null = they cannot be handed over. */
  readonly kv?: { readonly cache: KvCache; readonly build: string } | null
  /** Releases what the model holds; called once, when no step is in flight. */
  readonly release: () => void
}

/** Blocks held for a sequence that is stepped from outside of the core. */
export interface Reservation extends Disposable {
  readonly table: readonly number[]
}

export class LocalRuntime implements Runtime {
  readonly info: RuntimeInfo
  readonly backend: Backend
  readonly core: Core
  readonly kv: RuntimeParts['kv']
  readonly #tokenizer: Tokenizer | null
  readonly #release: () => void
  readonly #listeners = new Map<string, (output: RequestOutput) => void>()
  #nextId = 0
  #disposed: Promise<void> | null = null

  constructor(parts: RuntimeParts) {
    this.info = parts.info
    this.backend = parts.backend
    this.kv = parts.kv ?? null
    this.#tokenizer = parts.tokenizer
    this.#release = parts.release
    this.core = parts.createCore((outputs) => this.#route(outputs))
    failWhenLost(this.core, parts.backend)
  }

  get active(): number {
    return this.core.active
  }

  get failure(): Error | null {
    return this.core.failure ?? (this.#disposed === null ? null : closedError())
  }

  telemetry(): RuntimeTelemetry {
    return this.core.telemetry()
  }

  generate(request: GenerationRequest): AsyncIterable<GenerationEvent> {
    if (request.promptLogprobs !== undefined) return this.#withPromptScores(request, request.promptLogprobs)
    return { [Symbol.asyncIterator]: () => new GenerationStream((stream) => this.#start(request, stream)) }
  }

  embed(request: EmbedRequest): Promise<Float32Array> {
    return embed(this, request)
  }

  onStep(listener: (tokens: number, milliseconds: number) => void): () => void {
    this.core.stepListeners.add(listener)
    return () => void this.core.stepListeners.delete(listener)
  }

  async resetPrefixCache(): Promise<boolean> {
    const { core } = this
    return core.exclusive(async () => {
      if (core.pool.used > 0) return false
      core.pool.reset()
      return true
    })
  }

  async score(request: ScoreRequest): Promise<ScoreResult> {
    return this.#score(request, { interactive: false })
  }

  /** Scores the prompt first, which leaves its keys and values in the cache for the answer. */
  async *#withPromptScores(request: GenerationRequest, topCount: number): AsyncGenerator<GenerationEvent, undefined> {
    const { promptTokens, signal } = request
    validateGeneration(request, this.info)
    try {
      const nothing = {
        logprobs: new Float32Array(0),
        argmax: new Uint32Array(0),
        topIds: new Uint32Array(0),
        topLogprobs: new Float32Array(0),
      }
      const asked = { tokens: promptTokens, from: 1, topCount, signal }
      const scores = promptTokens.length === 1 ? nothing : await this.#score(asked, { interactive: true })
      yield { kind: 'prompt', scores }
    } catch (error) {
      // A generation ends with an event when its caller aborts it.
      if (signal?.aborted !== true) throw error
    }
    yield* { [Symbol.asyncIterator]: () => new GenerationStream((stream) => this.#start(request, stream)) }
    return undefined
  }

  async #score(request: ScoreRequest, { interactive }: { readonly interactive: boolean }): Promise<ScoreResult> {
    validateScore(request, this.info)
    const { signal, onProgress, topCount = 0, from } = request
    if (signal?.aborted === true) throw aborted('Scoring')
    const id = `score:${this.#nextId++}`
    const { promise, resolve, reject } = Promise.withResolvers<ScoreResult>()
    this.#add(
      new Request(id, request.tokens.slice(), { kind: 'score', from, topCount, interactive }, performance.now()),
      signal,
      (output) => {
        const { progress, end } = output
        if (progress !== null) onProgress?.(progress.done, progress.total)
        if (end?.kind === 'scored') resolve(end.result)
        else if (end?.kind === 'failed') reject(end.error)
        else if (end !== null) reject(aborted('Scoring'))
      },
    )
    return promise
  }

  /** Waits in the same queue as everybody else until blocks for `tokens` can be held. */
  async reserve(tokens: Uint32Array, signal: AbortSignal | undefined): Promise<Reservation> {
    if (signal?.aborted === true) throw aborted('The comparison')
    const id = `reserved:${this.#nextId++}`
    const { promise, resolve, reject } = Promise.withResolvers<Reservation>()
    const release = (): void => this.core.abort(id)
    const granted = (table: readonly number[]): void => resolve({ table, [Symbol.dispose]: release })
    this.#add(new Request(id, tokens, { kind: 'reserved', granted }, performance.now()), signal, ({ end }) => {
      if (end !== null) reject(end.kind === 'failed' ? end.error : aborted('The comparison'))
    })
    return promise
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.core.close().then(() => this.#release())
    return this.#disposed
  }

  #start(request: GenerationRequest, stream: GenerationStream): ReturnType<ConstructorParameters<typeof GenerationStream>[0]> {
    const { id, promptTokens, maxTokens = null, stopStrings = [], stopTokenIds = [], ignoreEos = false, signal, cacheSalt = '' } = request
    validateGeneration(request, this.info)
    if (stopStrings.length > 0 && this.#tokenizer === null) {
      throw new LatheError(
        'runtime.invalid-request',
        `${this.info.modelId} has no tokenizer, so stop strings cannot be found in its output.`,
        'Use stop token ids, or add the tokenizer files to the model folder.',
      )
    }
    const sampling = resolveSampling(request.sampling)
    const { minTokens = 0, topLogprobs = 0, promptLogprobs, priority = 0, mask = null } = request
    const ids = new Set([...(ignoreEos ? [] : this.info.eosTokenIds), ...stopTokenIds])
    const entry = new Request(
      id,
      promptTokens.slice(),
      {
        kind: 'generate',
        sampling,
        maxTokens,
        stopTokenIds: ids,
        rules: createTokenRules(resolveRules(request.sampling, this.info.vocabulary), {
          vocabulary: this.info.vocabulary,
          minTokens,
          // Those that the caller ignores may come, and mean nothing.
          endTokenIds: [...ids],
          mask,
        }),
        topCount: topLogprobs,
        priority,
        group: request.group,
        fresh: promptLogprobs !== undefined,
      },
      performance.now(),
      cacheSalt,
    )
    const parts = {
      decoder:
        this.#tokenizer?.createStreamDecoder({
          skipSpecialTokens: request.skipSpecialTokens ?? true,
          promptTail: promptTokens.slice(-PROMPT_TAIL_TOKENS),
        }) ?? null,
      matcher: stopStrings.length > 0 ? createStopMatcher(stopStrings) : null,
      minTokens,
      abort: () => this.core.abort(id),
    }
    if (signal?.aborted === true) {
      stream.finish({ kind: 'finished', reason: 'aborted', stopString: null, stopTokenId: null, stats: entry.stats(performance.now()) })
    } else this.#add(entry, signal, (output) => stream.accept(output))
    return parts
  }

  /** Adds the request, with its signal wired to an abort for as long as it lives. Throws what `Core.add` throws. */
  #add(request: Request, signal: AbortSignal | undefined, listener: (output: RequestOutput) => void): void {
    const { id } = request
    const onAbort = (): void => this.core.abort(id)
    this.core.add(request)
    signal?.addEventListener('abort', onAbort)
    this.#listeners.set(id, (output) => {
      if (output.end !== null) {
        signal?.removeEventListener('abort', onAbort)
        this.#listeners.delete(id)
      }
      listener(output)
    })
  }

  #route(outputs: readonly RequestOutput[]): void {
    for (const output of outputs) this.#listeners.get(output.id)?.(output)
  }
}

/** The device outlives the model: through a weak reference its promise does not keep an unloaded one in memory. */
function failWhenLost(core: Core, backend: Backend): void {
  const reference = new WeakRef(core)
  const { id, lost } = backend
  void lost.then((reason) => reference.deref()?.fail(deviceLost(id, reason)))
}

function deviceLost(adapter: string, reason: string): LatheError {
  return new LatheError(
    'gpu.device-lost',
    `The graphics device (${adapter}) was lost: ${reason}`,
    'Lathe opens it again with the next request. If it happens again, use a smaller model or context, or update the graphics driver.',
  )
}

function aborted(what: string): LatheError {
  return new LatheError('runtime.aborted', `${what} was cancelled.`, 'Start it again when you want the result.')
}
