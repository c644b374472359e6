/**
 * A served model without a neural network: one token per byte, answers by repeating the prompt, one token per turn of the event loop. Its
 * answers, counts and finish reasons can be written down by hand. For tests of the HTTP surface only.
 */
import { LatheError } from '../../contract/errors.ts'
import type { GenerationEvent, GenerationRequest, Runtime } from '../../runtime/types.ts'
import type { ServedModel, ServedModels } from '../served-model.ts'

export interface EchoRuntime extends Runtime {
  /** Requests as they arrived. */
  readonly requests: GenerationRequest[]
  /** Resolves when a request has been seen to end by abort. */
  readonly aborted: Promise<string>
}

export interface EchoOptions {
  readonly contextLimit?: number
  /** Never finishes until aborted. */
  readonly endless?: boolean
  /** Thrown instead of the token of that index. */
  readonly failAt?: { readonly index: number; readonly error: Error }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

export function createEchoRuntime(options: EchoOptions = {}): EchoRuntime {
  const requests: GenerationRequest[] = []
  let active = 0
  const { promise: aborted, resolve: resolveAborted } = Promise.withResolvers<string>()
  async function* generate(request: GenerationRequest): AsyncGenerator<GenerationEvent> {
    requests.push(request)
    active++
    const limit = request.maxTokens ?? 1
    const stats = (completionTokens: number) => ({
      promptTokens: request.promptTokens.length,
      cachedTokens: 0,
      completionTokens,
      queueMs: 1,
      firstTokenMs: 2,
      lastTokenMs: 2 + completionTokens,
      totalMs: 3 + completionTokens,
      preemptions: 0,
      seed: request.sampling.seed ?? 0,
    })
    const finished = (reason: 'stop' | 'length' | 'aborted', count: number): GenerationEvent => ({
      kind: 'finished',
      reason,
      stopString: null,
      stopTokenId: reason === 'stop' ? 0 : null,
      stats: stats(count),
    })
    try {
      yield { kind: 'prefill', done: request.promptTokens.length, total: request.promptTokens.length }
      for (let count = 0; ; count++) {
        await nextTurn()
        if (request.signal?.aborted === true) {
          resolveAborted(request.id)
          yield finished('aborted', count)
          return
        }
        if (options.failAt?.index === count) throw options.failAt.error
        if (options.endless !== true && count === request.promptTokens.length) {
          yield finished('stop', count)
          return
        }
        if (count === limit) {
          yield finished('length', count)
          return
        }
        const id = request.promptTokens[count % request.promptTokens.length]!
        yield { kind: 'tokens', ids: [id], logprobs: [-0.5], text: String.fromCharCode(id) }
      }
    } finally {
      active--
    }
  }
  return {
    requests,
    aborted,
    info: {
      modelId: 'echo',
      adapterId: 'none',
      software: true,
      contextLimit: options.contextLimit ?? 64,
      modelContextLimit: 64,
      maxSequences: 8,
      kvDtype: 'f16',
      vocabulary: 256,
      eosTokenIds: [0],
      defaultSampling: { temperature: 0.7, topK: 5, topP: 0.9, minP: 0 },
      weightBytes: 0,
      kvBytes: 0,
      otherBytes: 0,
      loadMs: 0,
    },
    generate,
    async score(request) {
      const count = request.tokens.length - request.from
      const top = request.topCount ?? 0
      return {
        logprobs: Float32Array.from({ length: count }, (_, j) => -1 - j),
        argmax: new Uint32Array(count),
        topIds: Uint32Array.from({ length: count * top }, () => 122),
        topLogprobs: Float32Array.from({ length: count * top }, () => -0.25),
      }
    },
    get active() {
      return active
    },
    failure: null,
    telemetry: () => ({
      running: active,
      waiting: 0,
      kvBlocksUsed: active,
      kvBlocksTotal: 4,
      tokenBudget: 64,
      lastStepMs: null,
      steps: 0,
      preemptions: 0,
      promptTokens: 0,
      cachedPromptTokens: 0,
      generatedTokens: 0,
      hostMsPerStep: null,
    }),
    async [Symbol.asyncDispose]() {},
  }
}

export function echoModel(runtime: Runtime): ServedModel {
  return {
    name: 'echo-1',
    created: 1_700_000_000,
    runtime,
    tokenizer: {
      encode: (text) => Uint32Array.from(Buffer.from(text)),
      decode: (ids) => Buffer.from(ids).toString(),
      tokenBytes: (id) => Uint8Array.of(id),
    },
    renderChat: (messages, { addGenerationPrompt }) => {
      if (messages.some((message) => message.content === 'no template')) {
        throw new LatheError('tokenizer.no-chat-template', 'This model has no chat template.', 'Use /v1/completions.')
      }
      return messages.map((message) => `${message.role[0]}:${message.content};`).join('') + (addGenerationPrompt ? 'a:' : '')
    },
  }
}

export function serveOnly(model: ServedModel): ServedModels & { readonly leases: () => number } {
  let leases = 0
  return {
    leases: () => leases,
    cards: () => [{ name: model.name, aliases: ['echo'], created: model.created, contextLimit: model.runtime.info.contextLimit }],
    acquire: async (name) => {
      if (name !== model.name && name !== 'echo') return null
      leases++
      return {
        model,
        release: () => {
          leases--
        },
      }
    },
  }
}
