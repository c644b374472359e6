/**
 * Sends the requests of one run and notes their times. Closed loops (a fixed number of streams) send the next request when one ends; open loops
 * send when the schedule says so, at most so many at once, and count waiting from the schedule (specs/benchmark.md §5). Warm-up requests hand
 * their places to the next ones while everything runs; there is no pause after which all would start together.
 */
import type { LoadClock, LoadPrompt, LoadTarget, RequestRecord } from './load-target.ts'

export interface LoadPlan {
  /** null = closed loop. Due times in ms from the start, one per prompt. */
  readonly dueMs: readonly number[] | null
  /** Streams of a closed loop; most requests in flight of an open one. */
  readonly concurrency: number
  readonly prompts: readonly LoadPrompt[]
  /** The first so many are sent and not counted. */
  readonly warmupRequests: number
  readonly maxSeconds: number
}

export interface LoadOptions {
  readonly clock: LoadClock
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (doneRequests: number, totalRequests: number) => void
  /** The time of the clock from which all times of the records count. */
  readonly onStart?: (startMs: number) => void
}

/** All records in the order of the schedule. After `maxSeconds` nothing more is sent, and what is in flight ends as `incomplete`. Throws when cancelled. */
export async function runLoad(
  target: LoadTarget,
  plan: LoadPlan,
  { clock, signal, onProgress, onStart }: LoadOptions,
): Promise<RequestRecord[]> {
  signal?.throwIfAborted()
  const start = clock.now()
  onStart?.(start)
  const stop = new AbortController()
  const all = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  const records: RequestRecord[] = []
  let next = 0
  const stream = async (): Promise<void> => {
    for (let index = next++; index < plan.prompts.length; index = next++) {
      const prompt = plan.prompts[index]
      if (prompt === undefined || all.aborted) return
      const due = plan.dueMs?.[index] ?? null
      if (due !== null) {
        const waited = await clock.until(start + due, all).then(
          () => true,
          () => false,
        )
        if (!waited) return
      }
      records.push(await sendOne(target, prompt, index, due === null ? null : start + due, plan, clock, start, all))
      onProgress?.(records.length, plan.prompts.length)
    }
  }
  // A run that takes too long ends by the clock of the run, not of the wall.
  const limit = clock.until(start + plan.maxSeconds * 1000, all).then(
    () => stop.abort(new Error('The time of the run is over.')),
    () => null,
  )
  await Promise.all(Array.from({ length: Math.min(plan.concurrency, plan.prompts.length) }, stream))
  stop.abort(new Error('The run is over.'))
  await limit
  signal?.throwIfAborted()
  return records.toSorted((a, b) => a.index - b.index)
}

async function sendOne(
  target: LoadTarget,
  prompt: LoadPrompt,
  index: number,
  dueMs: number | null,
  plan: LoadPlan,
  clock: LoadClock,
  start: number,
  signal: AbortSignal,
): Promise<RequestRecord> {
  const sent = clock.now()
  const chunksMs: number[] = []
  const chunkTokens: number[] = []
  /** Those of all chunks, or of none. */
  const tokensOfChunks = (): readonly number[] | undefined => (chunkTokens.length === chunksMs.length ? chunkTokens : undefined)
  const base = {
    index,
    isWarmup: index < plan.warmupRequests,
    scheduledMs: (dueMs ?? sent) - start,
    sentMs: sent - start,
    chunksMs,
  }
  try {
    const onChunk = (tokens?: number): void => {
      chunksMs.push(clock.now() - start)
      if (tokens !== undefined) chunkTokens.push(tokens)
    }
    const end = await target.send(prompt, index, onChunk, signal)
    // An answer that came whole is one chunk at its end.
    if (chunksMs.length === 0 && end.outputTokens > 0) onChunk(end.outputTokens)
    return {
      ...base,
      ...end,
      chunkTokens: tokensOfChunks(),
      endMs: chunksMs.at(-1) ?? clock.now() - start,
      status: 'completed',
      error: null,
    }
  } catch (error) {
    const status = signal.aborted ? 'incomplete' : 'failed'
    const message = error instanceof Error ? error.message.slice(0, 300) : String(error)
    return {
      ...base,
      chunkTokens: tokensOfChunks(),
      endMs: clock.now() - start,
      inputTokens: 0,
      outputTokens: 0,
      cachedTokens: 0,
      finish: null,
      status,
      error: status === 'failed' ? message : null,
    }
  }
}
