/**
 * The engine part of `lathe bench`: prefill and decode one request at a time, a baseline in turn with it, the grid by batch and context, and the share
 * of the adapter's read speed that decoding reaches. Loading, compiling and memory stand apart from the speeds.
 */
import { measureEnergy } from '../../../engine/benchmark/energy/measure-energy.ts'
import { bandwidthShare, measureGrid } from '../../../engine/benchmark/engine-grid.ts'
import type { GridOptions } from '../../../engine/benchmark/engine-grid.ts'
import { measureThroughput } from '../../../engine/benchmark/throughput.ts'
import type { ThroughputOptions } from '../../../engine/benchmark/throughput.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import type { HardwareBenchmark, SampleStats, ThroughputResult } from '../../../engine/contract/index.ts'
import type { ModelLease } from '../../../engine/runtime/types.ts'
import type { ModelRef } from '../../../engine/studio/ports.ts'
import type { CommandContext } from '../command.ts'
import { describeEnergy, energyJson } from '../energy.ts'
import { formatBytes, formatSeconds, formatTable } from '../format.ts'

export type Grid = Pick<GridOptions, 'prefillTokens' | 'batches' | 'contexts' | 'decodeTokens' | 'warmups' | 'repeats'>

/** For CPUs: enough to see that it works. */
export const SOFTWARE_GRID: Grid = {
  prefillTokens: [32, 128],
  batches: [1, 2],
  contexts: [32, 128],
  decodeTokens: 9,
  warmups: 1,
  repeats: 2,
}

export interface EngineSubject {
  readonly ref: ModelRef
  readonly lease: ModelLease
}

export interface EnginePlan {
  readonly throughput: Pick<ThroughputOptions, 'promptTokens' | 'generatedTokens' | 'warmups' | 'repeats'>
  readonly grid: Grid | null
  /** As the models were loaded, so that the profile finds that load. */
  readonly contextTokens: number
  readonly matrixUnits: boolean
}

/** Tokens that the cache must hold for every cell whose sequences the model can hold. */
export function cacheTokens(grid: Grid, contextLimit: number): number {
  const contexts = grid.contexts.filter((context) => context + grid.decodeTokens <= contextLimit)
  return Math.max(0, ...contexts) === 0 ? 0 : Math.max(...grid.batches) * (Math.max(...contexts) + grid.decodeTokens)
}

/** Results in the order of the subjects; the first is what the others are compared with. */
export async function measureEngine(
  context: CommandContext,
  subjects: readonly EngineSubject[],
  plan: EnginePlan,
): Promise<ThroughputResult[]> {
  const { models, gpu } = await context.engine()
  const { signal } = context
  const timed = await measureThroughput(
    subjects.map(({ ref, lease }) => ({
      modelId: ref.modelId,
      runtime: lease.runtime,
      peakGpuBytes: () => models.peakGpuBytes(ref.modelId),
    })),
    { ...plan.throughput, signal, onProgress: (done, total) => context.progress(`run ${done} of ${total}`) },
  )
  context.progress('energy')
  const energies = await measureEnergy(
    subjects.map(({ lease }) => ({ runtime: lease.runtime })),
    await gpu.energy(),
    { ...plan.throughput, signal },
  )
  const results = timed.map((result, i) => ({ ...result, energy: energies[i] }))
  const { grid } = plan
  if (grid === null) return results
  const points = await measureGrid(
    subjects.map(({ ref, lease }) => ({ modelId: ref.modelId, runtime: lease.runtime })),
    { ...grid, signal, onProgress: (done, total) => context.progress(`grid: run ${done} of ${total}`) },
  )
  const shares = await bandwidthShares(context, subjects, results, plan)
  context.progress(null)
  return results.map((result, i) => ({ ...result, points: points[i] ?? [], bandwidthShare: shares[i] ?? null }))
}

/** null for each where the adapter has no timestamps; then there is no telling what a step moved. */
async function bandwidthShares(
  context: CommandContext,
  subjects: readonly EngineSubject[],
  results: readonly ThroughputResult[],
  { contextTokens, matrixUnits }: EnginePlan,
): Promise<(number | null)[]> {
  const { models, gpu } = await context.engine()
  const shares: (number | null)[] = []
  let limits: HardwareBenchmark | null = null
  for (const [index, { ref }] of subjects.entries()) {
    try {
      context.progress(`profile of ${ref.name}`)
      const { decode } = await models.profile({ ...ref, contextTokens, matrixUnits, kvDtype: 'f16', signal: context.signal })
      limits ??= await gpu.benchmark(context.signal)
      shares.push(bandwidthShare(decode, results[index]?.decodeTokensPerSecond.median ?? 0, limits.readGigabytesPerSecond))
    } catch (error) {
      if (!(error instanceof LatheError) || error.code !== 'gpu.unsupported') throw error
      context.note(`${error.message} The share of the memory's speed is not measured.`)
      return subjects.map(() => null)
    }
  }
  return shares
}

export function engineJson(result: ThroughputResult) {
  const { versus } = result
  return {
    prefill_tokens_per_second: result.prefillTokensPerSecond.median,
    decode_tokens_per_second: result.decodeTokensPerSecond.median,
    time_to_first_token_ms: result.timeToFirstTokenMs.median,
    prefill_tokens_per_second_samples: result.prefillTokensPerSecond,
    decode_tokens_per_second_samples: result.decodeTokensPerSecond,
    peak_gpu_bytes: result.peakGpuBytes,
    weight_gpu_bytes: result.weightGpuBytes,
    kv_gpu_bytes: result.kvGpuBytes,
    load_seconds: result.loadSeconds,
    compile_seconds: result.compileSeconds,
    prompt_tokens: result.promptTokens,
    generated_tokens: result.generatedTokens,
    warmups: result.warmups,
    repeats: result.repeats,
    bandwidth_share: result.bandwidthShare,
    ...energyJson(result.energy),
    versus:
      versus === null
        ? null
        : {
            baseline: versus.baselineId,
            prefill_ratio: versus.prefillRatio,
            decode_ratio: versus.decodeRatio,
            time_to_first_token_ratio: versus.timeToFirstTokenRatio,
          },
    points: result.points.map(({ kind, batch, context, tokensPerSecond }) => ({
      kind,
      batch,
      context,
      tokens_per_second: tokensPerSecond,
    })),
  }
}

export function describeEngine(subjects: readonly EngineSubject[], results: readonly ThroughputResult[]): string {
  const lines = results.flatMap((result, index) => {
    const { promptTokens, generatedTokens, repeats, warmups, versus, bandwidthShare: share } = result
    return [
      ...(results.length > 1 ? [`${index > 0 ? '\n' : ''}${subjects[index]?.ref.name ?? ''}`] : []),
      formatTable([
        ['', 'Median', 'Least', 'Most'],
        sampleRow('Prefill, tok/s', result.prefillTokensPerSecond),
        sampleRow('Decode, tok/s', result.decodeTokensPerSecond),
        sampleRow('First token, ms', result.timeToFirstTokenMs),
        ...(versus === null ? [] : [sampleRow('Prefill, ratio', versus.prefillRatio), sampleRow('Decode, ratio', versus.decodeRatio)]),
      ]),
      [
        `${promptTokens} + ${generatedTokens} tokens, ${repeats} runs after ${warmups} to warm up${results.length > 1 ? ', in turn' : ''}`,
        `loaded in ${formatSeconds(result.loadSeconds)}`,
        ...(result.compileSeconds === null ? [] : [`of it compiling ${formatSeconds(result.compileSeconds)}`]),
        `peak GPU memory ${formatBytes(result.peakGpuBytes)}`,
        describeEnergy(result.energy),
        ...(share === null ? [] : [`decoding reads at ${Math.round(share * 100)} % of what the memory gives`]),
      ].join('; '),
    ]
  })
  return [...lines, ...gridLines(subjects, results)].join('\n')
}

const speedCell = (stats: SampleStats | undefined): string =>
  stats === undefined ? '–' : `${threeDigits(stats.median)} (${threeDigits(stats.min)}–${threeDigits(stats.max)})`

function gridLines(subjects: readonly EngineSubject[], results: readonly ThroughputResult[]): string[] {
  const [first] = results
  if (first === undefined || first.points.length === 0) return []
  const rows = first.points.map((point) => {
    const own = results.map(({ points }) =>
      points.find(({ kind, batch, context }) => kind === point.kind && batch === point.batch && context === point.context),
    )
    return [point.kind, String(point.batch), String(point.context), ...own.map((entry) => speedCell(entry?.tokensPerSecond))]
  })
  return ['', formatTable([['', 'Batch', 'Context', ...subjects.map(({ ref }) => `${ref.name}, tok/s`)], ...rows])]
}

function sampleRow(name: string, stats: SampleStats): string[] {
  return [name, ...[stats.median, stats.min, stats.max].map(threeDigits)]
}

/** 1030 rather than 1.03e+3. */
function threeDigits(value: number): string {
  return String(Number(value.toPrecision(3)))
}
