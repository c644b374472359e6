/**
 * Runtimes that read prompts and one that writes answers, as one Runtime (specs/runtime.md §11). Prompts are computed on `prefill` in whole
 * blocks, handed over, and continued on `decode`; answers are bit for bit those of either alone. Between devices of one kind; where they round
 * differently, the answer is that of its own mixture.
 *
 * When it helps: with two devices, or two machines, answers stream undisturbed by others' prompts. On one device it does not: the two take
 * turns at the same arithmetic, and chunked prefill already bounds what a prompt costs the answers beside it (bench/disaggregation.ts).
 */
import { LatheError } from '../../contract/errors.ts'
import type { LocalRuntime } from '../local-runtime.ts'
import type {
  EmbedRequest,
  GenerationEvent,
  GenerationRequest,
  GenerationStats,
  Runtime,
  RuntimeInfo,
  RuntimeTelemetry,
  ScoreRequest,
  ScoreResult,
  TransferTelemetry,
} from '../types.ts'
import { cachedBlocks, decodeHandover, descriptorOf, encodeHandover, exportPrefix, importPrefix, type KvHandover } from './handover.ts'

export interface DisaggregationOptions {
  /** At least one; the least busy reads the next prompt. */
  readonly prefill: readonly LocalRuntime[]
  readonly decode: LocalRuntime
  /** Takes a handover to the other side. Default: as it is, in this process; `throughBytes` serialises it, as a network would. */
  readonly transport?: (handover: KvHandover) => Promise<KvHandover>
  /** Disposed of after both. */
  readonly resource?: AsyncDisposable | undefined
}

/** What reading a prompt elsewhere came to. */
interface Reading {
  /** Tokens that decode's cache has gained. */
  readonly transferred: number
  /** Since the request arrived; null where nothing was read. */
  readonly queueMs: number | null
}

const NOTHING_READ: Reading = { transferred: 0, queueMs: null }

/** A transport by way of one byte buffer. */
export async function throughBytes(handover: KvHandover): Promise<KvHandover> {
  return decodeHandover(encodeHandover(handover))
}

export class DisaggregatedRuntime implements Runtime {
  /** The one that writes answers: what needs a model in this process, stepped by hand, uses it. */
  readonly decode: LocalRuntime
  readonly #prefill: readonly LocalRuntime[]
  readonly #transport: (handover: KvHandover) => Promise<KvHandover>
  readonly #resource: AsyncDisposable | null
  #reading = 0
  #transfers = 0
  #tokens = 0
  #bytes = 0
  #milliseconds = 0
  #recomputed = 0

  /** Owns all of them from now on. Throws `gpu.unsupported` if one cannot hand over its cache. */
  constructor({ prefill, decode, transport, resource }: DisaggregationOptions) {
    for (const runtime of [...prefill, decode]) descriptorOf(runtime)
    this.decode = decode
    this.#prefill = prefill
    this.#transport = transport ?? (async (handover) => handover)
    this.#resource = resource ?? null
  }

  /** Of the one that answers; bytes are those of all on its device. */
  get info(): RuntimeInfo {
    const { info, backend } = this.decode
    const beside = this.#prefill.filter((runtime) => runtime.backend === backend).map((runtime) => runtime.info)
    const sum = (of: (one: RuntimeInfo) => number): number => [info, ...beside].reduce((bytes, one) => bytes + of(one), 0)
    return {
      ...info,
      weightBytes: sum((one) => one.weightBytes),
      kvBytes: sum((one) => one.kvBytes),
      otherBytes: sum((one) => one.otherBytes),
    }
  }

  get active(): number {
    return this.decode.active + this.#reading
  }

  get failure(): Error | null {
    return this.decode.failure
  }

  telemetry(): RuntimeTelemetry {
    const { running, ...telemetry } = this.decode.telemetry()
    return { ...telemetry, running: running + this.#reading, transfers: this.transferTelemetry() }
  }

  transferTelemetry(): TransferTelemetry {
    const [transfers, tokens, bytes] = [this.#transfers, this.#tokens, this.#bytes]
    return { transfers, tokens, bytes, milliseconds: this.#milliseconds, recomputed: this.#recomputed }
  }

  score(request: ScoreRequest): Promise<ScoreResult> {
    return this.decode.score(request)
  }

  embed(request: EmbedRequest): Promise<Float32Array> {
    return this.decode.embed(request)
  }

  onStep(listener: (tokens: number, milliseconds: number) => void): () => void {
    const stops = [this.decode, ...this.#prefill].map((runtime) => runtime.onStep(listener))
    return () => {
      for (const stop of stops) stop()
    }
  }

  async resetPrefixCache(): Promise<boolean> {
    const done = await Promise.all([this.decode, ...this.#prefill.filter(works)].map((runtime) => runtime.resetPrefixCache()))
    return done.every(Boolean)
  }

  async *generate(request: GenerationRequest): AsyncGenerator<GenerationEvent, undefined> {
    const began = performance.now()
    let reading = NOTHING_READ
    this.#reading++
    try {
      reading = yield* this.#handOver(request)
    } finally {
      this.#reading--
    }
    const beforeMs = performance.now() - began
    for await (const event of this.decode.generate(request)) {
      yield event.kind === 'finished' ? { ...event, stats: wholeStats(event.stats, reading, beforeMs) } : event
    }
    return undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#prefill, this.decode].map((runtime) => runtime[Symbol.asyncDispose]()))
    await this.#resource?.[Symbol.asyncDispose]()
  }

  /** Failures of prefill cost time only: decode then reads the prompt itself. */
  async *#handOver(request: GenerationRequest): AsyncGenerator<GenerationEvent, Reading> {
    const { promptTokens, cacheSalt: salt = '', signal, priority } = request
    // Logits of the prompt exist only where it is computed.
    if (request.promptLogprobs !== undefined) return NOTHING_READ
    const { blockSize } = descriptorOf(this.decode)
    // The last token is always decode's: its logits choose the first token of the answer.
    const wanted = Math.floor((promptTokens.length - 1) / blockSize)
    const has = cachedBlocks(this.decode, promptTokens, salt).length
    const reader = this.#prefill.filter(works).toSorted((a, b) => a.active - b.active)[0]
    if (wanted <= has || reader === undefined) return NOTHING_READ
    const prefix = promptTokens.slice(0, wanted * blockSize)
    const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0 }
    const asked = { id: `${request.id}:prefill`, promptTokens: prefix, sampling, maxTokens: 1, cacheSalt: salt, signal, priority }
    let queueMs: number | null = null
    try {
      for await (const event of reader.generate(asked)) {
        if (event.kind === 'prefill') yield { ...event, total: promptTokens.length }
        if (event.kind !== 'finished') continue
        if (event.reason === 'aborted') return NOTHING_READ
        queueMs = event.stats.queueMs
      }
      const began = performance.now()
      const handover = await exportPrefix(reader, prefix, salt, has)
      if (handover === null) return { transferred: 0, queueMs }
      const holds = await importPrefix(this.decode, await this.#transport(handover))
      this.#transfers++
      this.#bytes += handover.bytes.length
      this.#milliseconds += performance.now() - began
      const transferred = Math.max(0, holds - has * blockSize)
      this.#tokens += transferred
      return { transferred, queueMs }
    } catch (error) {
      // Decode's own failure, and a request that is wrong, are told by decode itself in a moment.
      if (signal?.aborted !== true && !isRefusal(error)) this.#recomputed++
      if (this.decode.failure !== null) throw error
      return { transferred: 0, queueMs }
    }
  }
}

function works(runtime: LocalRuntime): boolean {
  return runtime.failure === null
}

function isRefusal(error: unknown): boolean {
  return error instanceof LatheError && ['runtime.invalid-request', 'runtime.context-exceeded'].includes(error.code)
}

/** Decode's figures with the time before it, and without calling a saving of the cache what was computed for this request and came over. */
function wholeStats(stats: GenerationStats, { transferred, queueMs }: Reading, beforeMs: number): GenerationStats {
  const later = (time: number | null): number | null => (time === null ? null : time + beforeMs)
  const moved = Math.min(transferred, stats.cachedTokens)
  return {
    ...stats,
    queueMs: queueMs ?? later(stats.queueMs),
    firstTokenMs: later(stats.firstTokenMs),
    lastTokenMs: later(stats.lastTokenMs),
    totalMs: stats.totalMs + beforeMs,
    ...(moved === 0 ? {} : { cachedTokens: stats.cachedTokens - moved, transferredTokens: moved }),
  }
}
