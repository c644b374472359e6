/**
 * What a type of KV cache costs and saves on one model: bytes a token, and the Kullback-Leibler divergence of its predictions from those of the
 * same weights with an f32 cache, over a text, position by position. Measured in lock-step, so the weights are on the device twice meanwhile.
 */
import type { KvSetting } from '../gpu/kv-format.ts'
import type { ModelLease, ScorePair } from './types.ts'

export interface CacheCost {
  readonly kvDtype: KvSetting
  /** null where the runtime does not say. */
  readonly bytesPerToken: number | null
  /** Natural units, over all positions. */
  readonly kldMean: number
  readonly kldP99: number
  /** Share of positions whose most probable token is the same. */
  readonly sameTop: number
  readonly positions: number
}

export interface CacheCostOptions {
  readonly tokens: Uint32Array
  /** Tokens of a sequence; the text is cut into such. */
  readonly window: number
  readonly types: readonly KvSetting[]
  /** The same model with that cache, for at least one window. */
  readonly acquire: (kvDtype: KvSetting) => Promise<ModelLease>
  readonly scorePair: ScorePair
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export const CACHE_TYPES: readonly KvSetting[] = ['f16', 'int8', 'fp8', 'int8/int4', 'fp8/int4', 'int4/int8', 'int4']

/** Yields each type as it is measured. Throws what acquiring and scoring throw. */
export async function* measureCacheCost(options: CacheCostOptions): AsyncGenerator<CacheCost, undefined> {
  const { tokens, window, types, acquire, scorePair, signal, onProgress } = options
  using baseline = await acquire('f32')
  const starts = Array.from({ length: Math.ceil(tokens.length / window) }, (_, i) => i * window).filter((at) => tokens.length - at > 1)
  for (const [index, kvDtype] of types.entries()) {
    using candidate = await acquire(kvDtype)
    const klds: number[] = []
    let same = 0
    for (const [place, start] of starts.entries()) {
      const rows = await scorePair(baseline.runtime, candidate.runtime, { tokens: tokens.slice(start, start + window), from: 1, signal })
      for (const [i, kld] of rows.kld.entries()) {
        klds.push(kld)
        if (rows.baselineArgmax[i] === rows.candidateArgmax[i]) same++
      }
      onProgress?.(index * starts.length + place + 1, types.length * starts.length)
    }
    const sorted = klds.toSorted((a, b) => a - b)
    yield {
      kvDtype,
      bytesPerToken: candidate.runtime.info.kvBytesPerToken ?? null,
      kldMean: klds.reduce((sum, kld) => sum + kld, 0) / klds.length,
      kldP99: sorted[Math.floor(0.99 * sorted.length)] ?? Number.NaN,
      sameTop: same / klds.length,
      positions: klds.length,
    }
  }
  return undefined
}
