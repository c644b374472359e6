/** Whole blocks of cache: what sequences take of it in each engine, and how many tokens or sequences fit into what is free. */
import { BLOCK_TOKENS, DEFAULT_SEQUENCES } from './budget.ts'
import type { ServingEngine } from './machine.ts'

export function roundToBlocks(engine: ServingEngine, tokens: number): number {
  return Math.ceil(tokens / BLOCK_TOKENS[engine]) * BLOCK_TOKENS[engine]
}

/** vLLM: every sequence in blocks of its own. */
export function vllmKvBytes(bytesPerToken: number, contextTokens: number, sequences: number): number {
  return bytesPerToken * roundToBlocks('vllm', contextTokens) * sequences
}

/**
 * Lathe reserves at load: the contexts, the better part of a block for every sequence but one, and a null block that is never handed out
 * (engine/runtime/open-runtime.ts, engine/model/memory.ts).
 */
export function latheKvBytes(bytesPerToken: number, contextTokens: number, sequences: number): number {
  return bytesPerToken * (roundToBlocks('lathe', contextTokens * sequences + spareTokens(sequences)) + BLOCK_TOKENS.lathe)
}

function spareTokens(sequences: number): number {
  return (Math.max(sequences, DEFAULT_SEQUENCES.lathe) - 1) * BLOCK_TOKENS.lathe
}

export interface KvRoom {
  /** Tokens of cache in all; null where the budget is unknown. */
  readonly tokens: number | null
  /** Longest context that this many sequences can have at once, no longer than the model's own limit. */
  largestContext(sequences: number): number | null
  /** Sequences of this length. */
  sequences(tokens: number): number | null
}

export function kvRoom(
  engine: ServingEngine,
  {
    bytesPerToken,
    freeBytes,
    contextLimit,
  }: { readonly bytesPerToken: number; readonly freeBytes: number | null; readonly contextLimit: number | null },
): KvRoom {
  if (freeBytes === null || bytesPerToken === 0) {
    const unbounded = freeBytes === null ? null : contextLimit
    return { tokens: null, largestContext: () => unbounded, sequences: () => null }
  }
  const block = BLOCK_TOKENS[engine]
  const blocks = Math.max(0, Math.floor(freeBytes / (bytesPerToken * block)))
  const spare = (sequences: number): number => (engine === 'lathe' ? spareTokens(sequences) / block + 1 : 0)
  return {
    tokens: Math.max(0, blocks - spare(1)) * block,
    largestContext: (sequences) => {
      const each = Math.floor(Math.max(0, blocks - spare(sequences)) / sequences) * block
      return Math.min(each, contextLimit ?? each)
    },
    sequences: (tokens) => {
      const each = Math.max(1, Math.ceil(tokens / block))
      if (engine === 'vllm') return Math.floor(blocks / each)
      const few = Math.floor(Math.max(0, blocks - spare(1)) / each)
      // beyond the default number of sequences each brings a spare block of its own
      return few <= DEFAULT_SEQUENCES.lathe ? few : Math.floor((blocks - 1) / (each + 1))
    },
  }
}
