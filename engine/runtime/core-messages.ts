/** The core's boundary in plain data: what it is made of, and what it says of each request after a step. */
import type { Executable } from '../gpu/program.ts'
import type { BlockPool } from './block-pool.ts'
import type { PrefixHasher } from './prefix-hash.ts'
import type { Speculator } from './speculation/speculator.ts'
import type { StepBudget } from './step-budget.ts'
import type { FinishReason, GenerationStats, ScoreResult, TokenLogprob } from './types.ts'
import type { StepWatchdog } from './watchdog.ts'

export type RequestEnd =
  | { readonly kind: 'finished'; readonly reason: FinishReason; readonly stopTokenId: number | null; readonly stats: GenerationStats }
  | { readonly kind: 'scored'; readonly result: ScoreResult }
  | { readonly kind: 'failed'; readonly error: Error }

/** What a step, or an abort, meant for one request. An output with an `end` is its last. */
export interface RequestOutput {
  readonly id: string
  readonly progress: { readonly done: number; readonly total: number; readonly cached?: number } | null
  readonly tokens: readonly number[]
  readonly logprobs: readonly number[]
  /** Per token, where the request asked for them. */
  readonly top?: readonly (readonly TokenLogprob[])[] | undefined
  readonly end: RequestEnd | null
}

export interface CoreOptions {
  readonly executable: Executable
  readonly pool: BlockPool
  /** null = no prefix cache. */
  readonly hasher: PrefixHasher | null
  readonly budget: StepBudget
  readonly contextLimit: number
  /** Names the model in error messages. */
  readonly modelId: string
  /** Called synchronously after each step, before the next is planned. Must not throw. */
  readonly emit: (outputs: readonly RequestOutput[]) => void
  readonly now?: () => number
  /** Default: none. The core disposes of it. */
  readonly speculator?: Speculator | null
  readonly watchdog?: StepWatchdog
  /** A step hangs; the device should be given up. The core has failed by then. */
  readonly onHang?: () => void
  /** Default 16 384. */
  readonly maxQueued?: number | undefined
}
