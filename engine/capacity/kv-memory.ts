/**
 * Bytes of KV cache, exactly, for one GPU of a tensor-parallel group (specs/benchmark.md §7.2): grouped-query heads are split over ranks
 * and replicated where there are more ranks than heads; latent caches are replicated on every rank; windows stop growing.
 */
import type { KvElement } from '../contract/capacity.ts'
import type { LayerCache, ModelShape } from './model-shape.ts'

export interface KvOptions {
  readonly bytesPerElement: number
  /** GPUs that share the attention heads; 1 on a desktop. */
  readonly tensorParallel: number
}

/** A 16-bit scale for the elements of one head of one token, where codes need one. */
const HEAD_SCALE_BYTES = 2

/** Bytes of one element, its share of a scale included. `fp8` is a cast with one scale per tensor. */
export function kvElementBytes(element: KvElement, headDim: number): number {
  switch (element) {
    case 'f32':
      return 4
    case 'f16':
      return 2
    case 'fp8':
      return 1
    case 'int8':
      return 1 + HEAD_SCALE_BYTES / headDim
    case 'int4':
      return 0.5 + HEAD_SCALE_BYTES / headDim
  }
}

function bytesPerTokenOf(cache: LayerCache, options: KvOptions): number {
  if (cache.kind === 'constant') return 0
  if (cache.kind === 'latent') return cache.elementsPerToken * options.bytesPerElement
  const headsPerRank = Math.max(1, cache.kvHeads / options.tensorParallel)
  return (cache.elementsPerToken / cache.kvHeads) * headsPerRank * options.bytesPerElement
}

/** Bytes that one more token of context costs while no window is full; what an engine reserves that gives every layer the same pages. */
export function kvBytesPerToken(shape: ModelShape, options: KvOptions): number {
  return shape.caches.reduce((sum, cache) => sum + bytesPerTokenOf(cache, options), 0)
}

/** Bytes of a sequence of `tokens`, windows respected, rounded up to whole blocks of `blockSize` tokens per layer. */
export function kvBytesOf(shape: ModelShape, tokens: number, options: KvOptions & { readonly blockSize: number }): number {
  const blocks = (count: number): number => Math.ceil(count / options.blockSize) * options.blockSize
  return shape.caches.reduce((sum, cache) => {
    const held = cache.kind === 'window' ? Math.min(tokens, cache.window) : tokens
    return sum + bytesPerTokenOf(cache, options) * blocks(held)
  }, 0)
}
