/**
 * How much room a model of this process is loaded with before a load is put on it: as many places as the load fills, each with a cache of its own.
 * With fewer, the figures would be those of the line before the model.
 */
import type { ServedBenchmarkOptions } from './served-benchmark.ts'

/** The runtime's own number of places; open loops, which have no number of their own, get these. */
export const USUAL_PLACES = 8
/** As many as a server lets one ask for. */
export const MOST_PLACES = 64

export interface LoadRoom {
  /** Of the longest request, prompt and answer. */
  readonly requestTokens: number
  readonly maxSequences: number
  readonly kvTokens: number
}

type Load = Pick<ServedBenchmarkOptions, 'profile' | 'concurrency' | 'promptTokens' | 'outputTokens' | 'trace'>

/** `places` null: as many as the load has in flight. */
export function loadRoom(load: Load, places: number | null = null): LoadRoom {
  const lengths = load.trace?.map((entry) => entry.promptTokens + entry.outputTokens) ?? [load.promptTokens + load.outputTokens]
  const requestTokens = lengths.reduce((most, length) => Math.max(most, length), 1)
  const wanted =
    places ?? (load.profile === 'synchronous' ? 1 : load.profile === 'concurrent' ? Math.max(...load.concurrency) : USUAL_PLACES)
  const held = Math.min(MOST_PLACES, wanted)
  return { requestTokens, maxSequences: Math.max(places ?? USUAL_PLACES, held), kvTokens: held * requestTokens }
}
