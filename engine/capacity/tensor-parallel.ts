/** Over how many GPUs vLLM can split a model, and why not over others (specs/benchmark.md §7.2, specs/deploy.md §3). */
import type { ModelShape } from './model-shape.ts'
import type { StorageSchemeSpec } from './storage-schemes.ts'

export const PARALLEL_COUNTS = [1, 2, 4, 8, 16, 32] as const

/** null when the split is possible, else the rule that forbids it. */
export function parallelObstacle(shape: ModelShape, scheme: StorageSchemeSpec, count: number): string | null {
  if (count === 1) return null
  const { attentionHeads, kvHeads, intermediateSize, experts } = shape
  if (attentionHeads % count !== 0) return `${attentionHeads} attention heads don't divide by ${count}`
  const latent = shape.caches.some((cache) => cache.kind === 'latent')
  if (!latent && kvHeads % count !== 0 && count % kvHeads !== 0) return `${kvHeads} key-value heads neither divide by ${count} nor into it`
  const width = experts === null ? intermediateSize : (shape.matrices.find((matrix) => matrix.routed)?.rows ?? intermediateSize)
  if (width % count !== 0) return `an MLP width of ${width} doesn't divide by ${count}`
  const group = scheme.scale?.columns ?? null
  if (group !== null && (width / count) % group !== 0) return `a share of ${width / count} MLP columns holds no whole groups of ${group}`
  return null
}
