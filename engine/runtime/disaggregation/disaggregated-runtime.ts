/**
 * One runtime that reads prompts and one that writes answers, as one Runtime (specs/runtime.md §11). Prompts are computed on `prefill` in whole
 * blocks, handed over, and continued on `decode`; answers are bit for bit those of either alone.
 *
 * When it helps: with two devices, or two machines, answers stream undisturbed by others' prompts. On one device it does not: the two take
 * turns at the same arithmetic, and chunked prefill already bounds what a prompt costs the answers beside it.
 */
import type { LocalRuntime } from '../local-runtime.ts'
import type {
  GenerationEvent,
  GenerationRequest,
  Runtime,
  RuntimeInfo,
  RuntimeTelemetry,
  ScoreRequest,
  ScoreResult,
  TransferTelemetry,
} from '../types.ts'
import { cachedBlocks, decodeHandover, descriptorOf, encodeHandover, exportPrefix, importPrefix, type KvHandover } from './handover.ts'

export interface DisaggregationOptions {
  readonly prefill: LocalRuntime
  readonly decode: LocalRuntime
  /** Takes a handover to the other side. Default: as it is, in this process; `throughBytes` serialises it, as a network would. */
  readonly transport?: (handover: KvHandover) => Promise<KvHandover>
}

/** A transport by way of one byte buffer. */
export async function throughBytes(handover: KvHandover): Promise<KvHandover> {
  return decodeHandover(encodeHandover(handover))
}

export class DisaggregatedRuntime implements Runtime {
  readonly #prefill: LocalRuntime
  readonly #decode: LocalRuntime
  readonly #transport: (handover: KvHandover) => Promise<KvHandover>
  #reading = 0
  #transfers = 0
  #tokens = 0
  #bytes = 0
  #milliseconds = 0
  #recomputed = 0

  /** Owns both runtimes from now on. Throws `gpu.unsupported` if either cannot hand over its cache. */
  constructor({ prefill, decode, transport }: DisaggregationOptions) {
    descriptorOf(prefill)
    descriptorOf(decode)
    this.#prefill = prefill
    this.#decode = decode
    this.#transport = transport ?? (async (handover) => handover)
  }

  get info(): RuntimeInfo {
    return this.#decode.info
  }

  get active(): number {
    return this.#decode.active + this.#reading
  }

  get failure(): Error | null {
    return this.#decode.failure
  }

  telemetry(): RuntimeTelemetry {
    return { ...this.#decode.telemetry(), transfers: this.transferTelemetry() }
  }

  transferTelemetry(): TransferTelemetry {
    const [transfers, tokens, bytes] = [this.#transfers, this.#tokens, this.#bytes]
    return { transfers, tokens, bytes, milliseconds: this.#milliseconds, recomputed: this.#recomputed }
  }

  score(request: ScoreRequest): Promise<ScoreResult> {
    return this.#decode.score(request)
  }

  async *generate(request: GenerationRequest): AsyncGenerator<GenerationEvent, undefined> {
    let transferred = 0
    this.#reading++
    try {
      transferred = yield* this.#handOver(request)
    } finally {
      this.#reading--
    }
    for await (const event of this.#decode.generate(request)) {
      if (event.kind !== 'finished' || transferred === 0) yield event
      else {
        // What came over the wire was computed for this request: no saving of the cache.
        const { stats } = event
        const moved = Math.min(transferred, stats.cachedTokens)
        yield { ...event, stats: { ...stats, cachedTokens: stats.cachedTokens - moved, transferredTokens: moved } }
      }
    }
    return undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#prefill[Symbol.asyncDispose](), this.#decode[Symbol.asyncDispose]()])
  }

  /** Tokens that decode's cache has gained. Failures of prefill cost time only: decode then reads the prompt itself. */
  async *#handOver(request: GenerationRequest): AsyncGenerator<GenerationEvent, number> {
    const { promptTokens, cacheSalt: salt = '', signal, priority } = request
    const { blockSize } = descriptorOf(this.#decode)
    // The last token is always decode's: its logits choose the first token of the answer.
    const wanted = Math.floor((promptTokens.length - 1) / blockSize)
    const has = cachedBlocks(this.#decode, promptTokens, salt).length
    if (wanted <= has || this.#prefill.failure !== null) return 0
    const prefix = promptTokens.slice(0, wanted * blockSize)
    const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0 }
    const reading = { id: `${request.id}:prefill`, promptTokens: prefix, sampling, maxTokens: 1, cacheSalt: salt, signal, priority }
    try {
      for await (const event of this.#prefill.generate(reading)) {
        if (event.kind === 'prefill') yield { ...event, total: promptTokens.length }
        if (event.kind === 'finished' && event.reason === 'aborted') return 0
      }
      const began = performance.now()
      const handover = await exportPrefix(this.#prefill, prefix, salt, has)
      if (handover === null) return 0
      const holds = await importPrefix(this.#decode, await this.#transport(handover))
      this.#transfers++
      this.#bytes += handover.bytes.length
      this.#milliseconds += performance.now() - began
      const gained = Math.max(0, holds - has * blockSize)
      this.#tokens += gained
      return gained
    } catch (error) {
      // Decode's own failure, and a request that is wrong, are told by decode itself in a moment.
      if (signal?.aborted !== true) this.#recomputed++
      if (this.#decode.failure !== null) throw error
      return 0
    }
  }
}
