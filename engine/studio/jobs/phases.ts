/** The phases a job may have, with what their units are and how fast they are assumed to go before this machine has been measured. */
import type { Adapter, EvaluationOptions } from '../../contract/index.ts'
import type { CompressPhaseId } from '../../compress/types.ts'
import type { StoredPhase } from '../store/job-store.ts'
import type { EvaluationPlan } from './evaluation-plan.ts'

/** Bytes per second of a plain disk and of a scale search on two cores; only until the first compression has been timed here. */
const PRIOR_BYTES_PER_SECOND: Readonly<Record<CompressPhaseId, number>> = { read: 200e6, quantize: 30e6, write: 200e6, verify: 100e6 }

const COMPRESS_TITLES: Readonly<Record<CompressPhaseId, string>> = { read: 'Read', quantize: 'Quantize', write: 'Write', verify: 'Verify' }

/** Weights touched per second (parameters × tokens) that an adapter of a type is assumed to manage in one batch. */
const PRIOR_PARAMETER_TOKENS: Readonly<Record<Adapter['type'], number>> = {
  discrete: 5e12,
  integrated: 5e11,
  unknown: 5e11,
  software: 2e9,
  reference: 2e8,
}

/** One question with four choices, in tokens; for the first estimate only. */
const TOKENS_PER_ITEM = 200

/** Passes over the calibration text that fitting a layer is worth, averaged over GPTQ and AWQ; until a run has been timed here. */
const CALIBRATION_PASSES = 8

export interface CompressScope {
  /** What the speed is remembered under. */
  readonly name: string
  readonly bytesIn: number
  readonly bytesOut: number
  readonly parameters: number
  readonly adapter: Adapter['type']
  /** Of the calibration text; null for what is not fitted to any. */
  readonly calibrationTokens: number | null
  /** A preset that promises an outcome, and its compressions in all as far as known beforehand. */
  readonly outcome: { readonly kind: 'best-of' | 'holds'; readonly candidates: number } | null
}

/** Held-out tokens of one measurement, by both models (studio/outcomes/held-out-bench.ts). */
const MEASURED_TOKENS = 2 * 8192
/** Layers' measurements before anybody has counted them; a load and a thousand tokens each. */
const LAYER_MEASUREMENTS = 100
const LAYER_MEASUREMENT_TOKENS = 1024

export function compressPhases({ name, bytesIn, bytesOut, parameters, adapter, calibrationTokens, outcome }: CompressScope): StoredPhase[] {
  const times = outcome?.candidates ?? 1
  const tokensPerSecond = PRIOR_PARAMETER_TOKENS[adapter] / Math.max(1, parameters)
  const fitted = calibrationTokens === null ? null : (bytesIn * tokensPerSecond) / (CALIBRATION_PASSES * Math.max(1, calibrationTokens))
  const phase = (id: CompressPhaseId, total: number, group: string): StoredPhase => ({
    id,
    title: fitted !== null && id === 'quantize' ? 'Calibrate and store' : COMPRESS_TITLES[id],
    state: 'pending',
    done: 0,
    total,
    unit: 'bytes',
    rateKey: `compress:${name}:${id}`,
    priorRate: fitted !== null && id === 'quantize' ? Math.min(fitted, PRIOR_BYTES_PER_SECOND.quantize) : PRIOR_BYTES_PER_SECOND[id],
    group,
  })
  // reading, quantizing and writing overlap; verifying follows
  const compressing = [
    phase('read', bytesIn * times, 'stream'),
    phase('quantize', bytesIn * times, 'stream'),
    phase('write', bytesOut * times, 'stream'),
    phase('verify', bytesOut * times, 'verify'),
  ]
  if (outcome === null) return compressing
  const measuring = (id: 'layers' | 'measure', title: string, unit: string, total: number, priorRate: number): StoredPhase => ({
    id,
    title,
    state: 'pending',
    done: 0,
    total,
    unit,
    rateKey: `compress:${name}:${id}`,
    priorRate,
    group: id,
  })
  const layers = measuring('layers', 'Measure layers', 'measurements', LAYER_MEASUREMENTS, tokensPerSecond / LAYER_MEASUREMENT_TOKENS)
  const judging = measuring('measure', 'Measure on held-out text', 'tokens', MEASURED_TOKENS * times, tokensPerSecond)
  return outcome.kind === 'holds' ? [layers, ...compressing, judging] : [...compressing, judging]
}

/** Seconds that phases will take by the speeds remembered here, and whether the slowest of them has ever been timed. */
export function expectedTime(
  phases: readonly StoredPhase[],
  rememberedRate: (key: string) => number | null,
): { readonly seconds: number; readonly basis: 'measured' | 'guess' } {
  let seconds = 0
  let slowest = { seconds: -1, measured: false }
  for (const members of Map.groupBy(phases, (phase) => phase.group).values()) {
    const timed = members.map((phase) => {
      const remembered = phase.rateKey === null ? null : rememberedRate(phase.rateKey)
      return { seconds: phase.total / (remembered ?? phase.priorRate), measured: remembered !== null }
    })
    const longest = timed.reduce((most, each) => (each.seconds > most.seconds ? each : most))
    seconds += longest.seconds
    if (longest.seconds > slowest.seconds) slowest = longest
  }
  return { seconds, basis: slowest.measured ? 'measured' : 'guess' }
}

/** Tokens per second of a prompt on a server that nobody has timed. */
const PRIOR_REMOTE_TOKENS_PER_SECOND = 2000

/** Perplexity and drift of a model on a server; how long its text is, the job finds out. */
export function remoteTextPhase(modelId: string): StoredPhase {
  return {
    id: 'perplexity',
    title: 'Perplexity and drift',
    state: 'pending',
    done: 0,
    total: 0,
    unit: 'tokens',
    rateKey: `perplexity:remote:${modelId}`,
    priorRate: PRIOR_REMOTE_TOKENS_PER_SECOND,
    group: 'perplexity',
  }
}

export interface EvaluationScope {
  readonly options: EvaluationOptions
  readonly plan: EvaluationPlan
  readonly adapter: Pick<Adapter, 'id' | 'type'>
  /** Speeds are remembered per family: its variants have the same shapes. */
  readonly rootId: string
  readonly parameters: number
  /** 2 when a baseline is measured beside it. */
  readonly models: 1 | 2
  readonly taskCount: number
}

export function evaluationPhases(scope: EvaluationScope): StoredPhase[] {
  const tokensPerSecond = PRIOR_PARAMETER_TOKENS[scope.adapter.type] / Math.max(1, scope.parameters)
  const { plan, models } = scope
  const throughputTokens = plan.throughput.promptTokens + plan.throughput.generatedTokens
  const phase = (id: string, title: string, unit: string, total: number, tokensPerUnit: number): StoredPhase => ({
    id,
    title,
    state: 'pending',
    done: 0,
    total,
    unit,
    rateKey: `${id}:${scope.adapter.id}:${scope.rootId}`,
    priorRate: tokensPerSecond / tokensPerUnit,
    group: id,
  })
  const windows = plan.perplexity.maxWindows
  const phases: StoredPhase[] = []
  if (scope.options.perplexity) {
    phases.push(
      phase(
        'perplexity',
        models === 2 ? 'Perplexity and drift' : 'Perplexity',
        'tokens',
        windows === null ? 0 : windows * plan.perplexity.window,
        models,
      ),
    )
  }
  if (scope.options.tasks) {
    const items = plan.taskItems === null ? 0 : plan.taskItems * scope.taskCount * models
    phases.push(phase('tasks', 'Tasks', 'items', items, TOKENS_PER_ITEM))
  }
  if (scope.options.throughput) {
    phases.push(phase('throughput', 'Throughput', 'runs', (plan.throughput.warmups + plan.throughput.repeats) * models, throughputTokens))
  }
  return phases
}
