/** What each layer keeps per token of context: everything, a window, a latent vector, or a state of constant size (specs/benchmark.md §7.2). */
import { LatheError } from '../contract/errors.ts'
import { type Config, required, wholeNumber } from './config-fields.ts'

/** Element counts, not bytes. */
export type LayerCache =
  /** Grouped-query attention over the whole context. */
  | { readonly kind: 'full'; readonly elementsPerToken: number; readonly kvHeads: number }
  /** Grouped-query attention over the last `window` tokens. */
  | { readonly kind: 'window'; readonly elementsPerToken: number; readonly kvHeads: number; readonly window: number }
  /** Multi-head latent attention: one compressed vector shared by all heads, replicated over tensor-parallel ranks. */
  | { readonly kind: 'latent'; readonly elementsPerToken: number }
  /** Linear attention or a state-space layer: independent of context. */
  | { readonly kind: 'constant' }

interface Heads {
  readonly layers: number
  readonly kvHeads: number
  readonly headDim: number
}

export function layerCaches(config: Config, { layers, kvHeads, headDim }: Heads): LayerCache[] {
  const latentRank = wholeNumber(config, 'kv_lora_rank')
  if (latentRank !== null) {
    const elementsPerToken = latentRank + required(config, 'qk_rope_head_dim')
    return Array.from({ length: layers }, () => ({ kind: 'latent', elementsPerToken }))
  }
  return layerTypes(config, layers).map((type) => cacheOf(type, config, 2 * kvHeads * headDim, kvHeads))
}

function layerTypes(config: Config, layers: number): readonly string[] {
  const listed = config['layer_types']
  if (Array.isArray(listed) && listed.length === layers && listed.every((entry) => typeof entry === 'string')) return listed as string[]
  const byLayer = (isFull: (layer: number) => boolean, other: string): string[] =>
    Array.from({ length: layers }, (_, layer) => (isFull(layer) ? 'full_attention' : other))
  const window = wholeNumber(config, 'sliding_window')
  const every = wholeNumber(config, 'full_attention_interval')
  if (every !== null) return byLayer((layer) => (layer + 1) % every === 0, 'linear_attention')
  const pattern = wholeNumber(config, 'sliding_window_pattern')
  if (window !== null && pattern !== null) return byLayer((layer) => (layer + 1) % pattern === 0, 'sliding_attention')
  // Gemma 2 alternates without saying so in its config; Qwen2 ships a window that its own switch turns off.
  if (window !== null && config['model_type'] === 'gemma2') return byLayer((layer) => layer % 2 !== 0, 'sliding_attention')
  const windowOn = window !== null && config['use_sliding_window'] !== false
  return byLayer(() => !windowOn, 'sliding_attention')
}

function cacheOf(type: string, config: Config, elementsPerToken: number, kvHeads: number): LayerCache {
  if (type === 'full_attention') return { kind: 'full', elementsPerToken, kvHeads }
  if (type === 'sliding_attention' || type === 'chunked_attention') {
    return { kind: 'window', elementsPerToken, kvHeads, window: required(config, 'sliding_window', 'attention_chunk_size') }
  }
  if (type === 'linear_attention' || type === 'mamba' || type === 'mamba2') return { kind: 'constant' }
  throw new LatheError(
    'checkpoint.invalid-config',
    `config.json names an attention type that the planner does not know: "${type}".`,
    'Plan from measured figures instead.',
  )
}
