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
export function latheKvBytes(bytesPerToken: number, contextTokens: number, sequences: number, opened = latheSequences(sequences)): number {
  return bytesPerToken * (roundToBlocks('lathe', contextTokens * sequences) + opened * BLOCK_TOKENS.lathe)
}

/** Sequences that a model is opened for. `exact`: for no more than are asked for, as a server opens it. */
export function latheSequences(asked: number, exact = false): number {
  return exact ? asked : Math.max(asked, DEFAULT_SEQUENCES.lathe)
}

export interface KvRoom {
  /** Tokens of cache in all; null where the budget is unknown. */
  readonly tokens: number | null
  /** Longest context that this many sequences can have at once, no longer than the model's own limit. */
  largestContext(sequences: number): number | null
  /** Sequences of this length. */
  sequences(tokens: number): number | null
}

interface KvRoomInput {
  readonly bytesPerToken: number
  /** Beside everything else that a load with `contextTokens` takes. */
  readonly freeBytes: number | null
  readonly contextTokens: number
  readonly contextLimit: number | null
  /** What else grows with the longest sequence, for each token of it. */
  readonly bytesPerPosition?: number
  readonly exact?: boolean | undefined
}

export function kvRoom(
  engine: ServingEngine,
  { bytesPerToken, freeBytes, contextTokens, contextLimit, bytesPerPosition = 0, exact = false }: KvRoomInput,
): KvRoom {
  if (freeBytes === null || bytesPerToken === 0) {
    const unbounded = freeBytes === null ? null : contextLimit
    return { tokens: null, largestContext: () => unbounded, sequences: () => null }
  }
  const block = BLOCK_TOKENS[engine]
  const blocks = Math.max(0, Math.floor(freeBytes / (bytesPerToken * block)))
  const spare = (sequences: number): number => (engine === 'lathe' ? latheSequences(sequences, exact) : 0)
  return {
    tokens: Math.max(0, blocks - spare(1)) * block,
    largestContext: (sequences) => {
      const bytes = freeBytes + contextTokens * bytesPerPosition - spare(sequences) * block * bytesPerToken
      const each = Math.floor(Math.max(0, bytes) / ((sequences * bytesPerToken + bytesPerPosition) * block)) * block
      return Math.min(each, contextLimit ?? each)
    },
    sequences: (tokens) => {
      const each = Math.max(1, Math.ceil(tokens / block))
      if (engine === 'vllm') return Math.floor(blocks / each)
      const least = latheSequences(1, exact)
      const few = Math.floor(Math.max(0, blocks - least) / each)
      // beyond those that it is opened for anyway each brings a spare block of its own
      return few <= least ? few : Math.floor(blocks / (each + 1))
    },
  }
}
