/**
 * A served model without a neural network: one token per byte, answers by repeating the prompt or by a script, one token per turn of the event
 * loop; where a mask binds it, it writes the first thing that is allowed. Its answers, counts and finish reasons can be written down by hand.
 * For tests of the HTTP surface only.
 */
import { LatheError } from '../../contract/errors.ts'
import { createGrammarEngine } from '../../runtime/structured/grammar-engine.ts'
import type { GenerationEvent, GenerationRequest, Runtime, ScoreResult } from '../../runtime/types.ts'
import type { ServedModel, ServedModels } from '../served-model.ts'

export interface EchoRuntime extends Runtime {
  /** Requests as they arrived. */
  readonly requests: GenerationRequest[]
  /** Resolves when a request has been seen to end by abort. */
  readonly aborted: Promise<string>
}

export interface EchoOptions {
  readonly contextLimit?: number
  /** Answers this text instead of the prompt. */
  readonly script?: string
  /** The chat template; tests of tools and of thinking look like a model that has them. */
  readonly template?: string
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
    const source = options.script === undefined ? request.promptTokens : Buffer.from(options.script)
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
    const finished = (reason: 'stop' | 'length' | 'aborted', count: number): Extract<GenerationEvent, { kind: 'finished' }> => ({
      kind: 'finished',
      reason,
      stopString: null,
      stopTokenId: reason === 'stop' ? 0 : null,
      stats: stats(count),
    })
    try {
      if (request.promptLogprobs !== undefined)
        yield { kind: 'prompt', scores: scoresOf(request.promptTokens.length - 1, request.promptLogprobs) }
      yield { kind: 'prefill', done: request.promptTokens.length, total: request.promptTokens.length }
      for (let count = 0; ; count++) {
        await nextTurn()
        if (request.signal?.aborted === true) {
          resolveAborted(request.id)
          yield finished('aborted', count)
          return
        }
        if (options.failAt?.index === count) throw options.failAt.error
        const mask = (await request.mask?.mask()) ?? null
        const allowed = mask === null ? null : allowedBytes(mask)
        // A byte that the script wants is taken where it is allowed; otherwise what ends things soonest.
        const wanted = source[count % source.length]!
        const bound =
          allowed === null ? wanted : count < (options.script?.length ?? 0) && allowed.includes(wanted) ? wanted : soonest(allowed)
        const ended = allowed === null ? options.endless !== true && count === source.length : bound === 0
        if (ended) {
          yield finished('stop', count)
          return
        }
        if (count === limit) {
          yield finished('length', count)
          return
        }
        request.mask?.accept(bound)
        const stop = request.stopStrings?.find((text) => text === String.fromCharCode(bound))
        if (stop !== undefined) {
          yield { ...finished('stop', count + 1), stopString: stop, stopTokenId: null }
          return
        }
        const top = Array.from({ length: request.topLogprobs ?? 0 }, (_, k) => ({ id: k === 0 ? bound : 122, logprob: -0.5 - k }))
        const alternatives = request.topLogprobs === undefined ? {} : { top: [top] }
        yield { kind: 'tokens', ids: [bound], logprobs: [-0.5], text: String.fromCharCode(bound), ...alternatives }
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
    score: async (request) => scoresOf(request.tokens.length - request.from, request.topCount ?? 0),
    embed: async ({ tokens, pooling }) => Float32Array.of(tokens.length, pooling === 'last' ? tokens.at(-1)! : tokens[0]!, 0, 0),
    resetPrefixCache: async () => active === 0,
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

function scoresOf(count: number, top: number): ScoreResult {
  return {
    logprobs: Float32Array.from({ length: count }, (_, j) => -1 - j),
    argmax: new Uint32Array(count),
    topIds: Uint32Array.from({ length: count * top }, () => 122),
    topLogprobs: Float32Array.from({ length: count * top }, () => -0.25),
  }
}

function allowedBytes(mask: Uint32Array): readonly number[] {
  return Array.from({ length: 256 }, (_, id) => id).filter((id) => ((mask[id >> 5]! >>> (id & 31)) & 1) === 1)
}

/** The end if it may come, then closing characters, then whatever is first. */
function soonest(allowed: readonly number[]): number {
  // Where any letter may come, a bracket would not close anything.
  const inText = allowed.includes(122) && allowed.includes(120)
  const order = [0, ...Buffer.from(inText ? '"' : '}]"'), ...allowed]
  return order.find((id) => allowed.includes(id))!
}

export function echoModel(runtime: Runtime, options: EchoOptions = {}): ServedModel & { readonly rendered: RenderedChat[] } {
  const rendered: RenderedChat[] = []
  const tokenizer = {
    vocabSize: 256,
    encode: (text: string) => Uint32Array.from(Buffer.from(text)),
    decode: (ids: Uint32Array) => Buffer.from(ids).toString(),
    tokenBytes: (id: number) => Uint8Array.of(id),
    isSpecial: (id: number) => id === 0,
  }
  const grammars = createGrammarEngine({ tokenizer, vocabulary: 256, stopTokenIds: [0] })
  return {
    name: 'echo-1',
    created: 1_700_000_000,
    runtime,
    rendered,
    tokenizer,
    grammars,
    template: () => options.template ?? 'plain',
    renderChat: (chat) => {
      rendered.push(chat)
      const { messages, addGenerationPrompt } = chat
      if (messages.some((message) => message.content === 'no template')) {
        throw new LatheError('tokenizer.no-chat-template', 'This model has no chat template.', 'Use /v1/completions.')
      }
      return messages.map((message) => `${message.role[0]}:${String(message.content)};`).join('') + (addGenerationPrompt ? 'a:' : '')
    },
    [Symbol.asyncDispose]: () => grammars[Symbol.asyncDispose](),
  }
}

type RenderedChat = Parameters<ServedModel['renderChat']>[0]

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
