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

/** Layers through a device, several times each; only until the first calibrated run has been timed here. */
const PRIOR_CALIBRATED_BYTES_PER_SECOND = 2e6

/** `name` is what the speed is remembered under. */
export function compressPhases(name: string, bytesIn: number, bytesOut: number, calibrated: boolean): StoredPhase[] {
  const phase = (id: CompressPhaseId, total: number, group: string): StoredPhase => ({
    id,
    title: calibrated && id === 'quantize' ? 'Calibrate and store' : COMPRESS_TITLES[id],
    state: 'pending',
    done: 0,
    total,
    unit: 'bytes',
    rateKey: `compress:${name}:${id}`,
    priorRate: calibrated && id === 'quantize' ? PRIOR_CALIBRATED_BYTES_PER_SECOND : PRIOR_BYTES_PER_SECOND[id],
    group,
  })
  // reading, quantizing and writing overlap; verifying follows
  return [
    phase('read', bytesIn, 'stream'),
    phase('quantize', bytesIn, 'stream'),
    phase('write', bytesOut, 'stream'),
    phase('verify', bytesOut, 'verify'),
  ]
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
