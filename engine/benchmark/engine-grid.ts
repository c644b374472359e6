/**
 * Prefill by prompt length and decode by batch and context (specs/benchmark.md §4), on subjects in turn. A batch is that many requests in flight at
 * once; only tokens made while all of them decode are counted, so that no prefill is in the figure.
 */
import { randomUUID } from 'node:crypto'
import { LatheError } from '../contract/errors.ts'
import type { KernelShare, ThroughputResult } from '../contract/index.ts'
import { DEFAULT_BLOCK_SIZE } from '../model/memory.ts'
import type { Runtime } from '../runtime/types.ts'
import { summarize, syntheticPrompt } from './throughput.ts'
import type { ThroughputSubject } from './throughput.ts'

export interface GridOptions {
  readonly prefillTokens: readonly number[]
  readonly batches: readonly number[]
  readonly contexts: readonly number[]
  /** Tokens that each request of a batch makes. */
  readonly decodeTokens: number
  readonly warmups: number
  readonly repeats: number
  readonly signal?: AbortSignal
  readonly onProgress?: (doneRuns: number, totalRuns: number) => void
}

type Point = ThroughputResult['points'][number]
type Cell = Pick<Point, 'kind' | 'batch' | 'context'>

interface Progress {
  firstMs: number | null
  lastMs: number
  /** Times of all tokens. */
  readonly tokensMs: number[]
  prefillTokensPerSecond: number
}

/** What a subject can hold: tokens of one sequence, sequences, and blocks of the cache for all of them together. */
export interface GridLimits {
  readonly contextLimit: number
  readonly maxSequences: number
  readonly kvBlocks: number
}

/** Cells that fit; larger ones are left out, not cut. */
export function gridCells(options: GridOptions, { contextLimit, maxSequences, kvBlocks }: GridLimits): Cell[] {
  const prefill = options.prefillTokens
    .filter((tokens) => tokens + 1 <= contextLimit)
    .map((context): Cell => ({ kind: 'prefill', batch: 1, context }))
  const decode = options.contexts
    .map((context) => ({ context, length: context + options.decodeTokens }))
    .filter(({ length }) => length <= contextLimit)
    .flatMap(({ context, length }) =>
      options.batches
        .filter((batch) => batch <= maxSequences && batch * Math.ceil(length / DEFAULT_BLOCK_SIZE) <= kvBlocks)
        .map((batch): Cell => ({ kind: 'decode', batch, context })),
    )
  return [...prefill, ...decode]
}

let requests = 0

/**
 * A prefill cell's requests share no prefix with any other, so that none is in the cache. A decode cell's are the same in every round: what is timed
 * begins after them, and from the second round on the cache brings them in at once, so that the whole batch starts together.
 */
async function request(runtime: Runtime, cell: Cell, slot: number, maxTokens: number, signal: AbortSignal | undefined): Promise<Progress> {
  const serial = requests++
  const progress: Progress = { firstMs: null, lastMs: 0, tokensMs: [], prefillTokensPerSecond: 0 }
  const events = runtime.generate({
    id: `grid-${serial}`,
    promptTokens: syntheticPrompt(cell.context, runtime.info.vocabulary, cell.kind === 'prefill' ? serial : slot),
    cacheSalt: cell.kind === 'prefill' ? `grid-${randomUUID()}` : 'grid',
    sampling: { ...runtime.info.defaultSampling, temperature: 0, topK: 0, topP: 1, minP: 0 },
    maxTokens,
    ignoreEos: true,
    signal,
  })
  for await (const event of events) {
    if (event.kind === 'tokens') {
      const now = performance.now()
      progress.firstMs ??= now
      progress.lastMs = now
      for (let i = 0; i < event.ids.length; i++) progress.tokensMs.push(now)
    }
    if (event.kind !== 'finished') continue
    if (event.reason === 'aborted') throw new LatheError('job.cancelled', 'The benchmark was cancelled.', 'Start it again when you like.')
    const { firstTokenMs, queueMs, promptTokens, cachedTokens } = event.stats
    if (firstTokenMs !== null && queueMs !== null)
      progress.prefillTokensPerSecond = ((promptTokens - cachedTokens) / (firstTokenMs - queueMs)) * 1000
  }
  return progress
}

/** Tokens per second of one cell, once; null where no window was common to the whole batch. */
async function once(runtime: Runtime, cell: Cell, options: GridOptions): Promise<number | null> {
  if (cell.kind === 'prefill') return (await request(runtime, cell, 0, 1, options.signal)).prefillTokensPerSecond
  const all = await Promise.all(
    Array.from({ length: cell.batch }, (_, slot) => request(runtime, cell, slot, options.decodeTokens, options.signal)),
  )
  const from = Math.max(...all.map(({ firstMs }) => firstMs ?? Infinity))
  const to = Math.min(...all.map(({ lastMs }) => lastMs))
  const tokens = all.reduce((sum, { tokensMs }) => sum + tokensMs.filter((at) => at > from && at <= to).length, 0)
  return to > from && tokens > 0 ? (tokens / (to - from)) * 1000 : null
}

/** Points of every subject, in the order of the subjects. */
export async function measureGrid(
  subjects: readonly Pick<ThroughputSubject, 'modelId' | 'runtime'>[],
  options: GridOptions,
): Promise<Point[][]> {
  const least = (of: (runtime: Runtime) => number): number => Math.min(...subjects.map(({ runtime }) => of(runtime)))
  const cells = gridCells(options, {
    contextLimit: least(({ info }) => info.contextLimit),
    maxSequences: least(({ info }) => info.maxSequences),
    kvBlocks: least((runtime) => runtime.telemetry().kvBlocksTotal),
  })
  const points: Point[][] = subjects.map(() => [])
  const rounds = options.warmups + options.repeats
  let done = 0
  for (const cell of cells) {
    const values: number[][] = subjects.map(() => [])
    for (let round = 0; round < rounds; round++) {
      for (const [index, { runtime }] of subjects.entries()) {
        options.signal?.throwIfAborted()
        const value = await once(runtime, cell, options)
        if (round >= options.warmups && value !== null && Number.isFinite(value)) values[index]?.push(value)
        options.onProgress?.(++done, rounds * subjects.length * cells.length)
      }
    }
    for (const [index, own] of values.entries()) if (own.length > 0) points[index]?.push({ ...cell, tokensPerSecond: summarize(own) })
  }
  return points
}

/**
 * Share of the adapter's read speed that decoding reached: bytes that the kernels of one step move (from their shapes), times steps per second
 * (from the unprofiled run, since timestamps slow a step down). null where either is not known.
 */
export function bandwidthShare(
  decode: readonly KernelShare[],
  decodeTokensPerSecond: number,
  readGigabytesPerSecond: number,
): number | null {
  const bytes = decode.reduce((sum, kernel) => sum + (kernel.gigabytesPerSecond ?? 0) * kernel.milliseconds * 1e6, 0)
  return bytes > 0 && readGigabytesPerSecond > 0 ? (bytes * decodeTokensPerSecond) / (readGigabytesPerSecond * 1e9) : null
}
