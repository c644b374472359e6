/** What the user has chosen on the Optimize screen, read from the address and completed with defaults. Plain functions. */
import {
  assertNever,
  DEFAULT_CALIBRATION,
  type CalibrationChoice,
  type CalibrationReport,
  type EvaluationOptions,
  type MixedTarget,
  type PresetPrediction,
  type StartCompression,
} from '../../../engine/contract/index.ts'
import { formatBytes } from '../../lib/format.ts'

/** Stands in the address for "deliberately nothing", which is not the same as "not chosen yet". */
export const NONE = 'none'

export const EVALUATIONS = [
  {
    id: 'perplexity',
    title: 'Perplexity and drift',
    description: 'On held-out text: perplexity, KL divergence and top-1 agreement with the original.',
  },
  { id: 'tasks', title: 'Tasks', description: 'Multiple-choice questions, with the same items for both models.' },
  { id: 'throughput', title: 'Throughput', description: 'Prefill, decode and time to first token, alternating with the original.' },
] as const satisfies readonly { id: keyof EvaluationOptions; title: string; description: string }[]

/** The recommended preset until the user chooses; never one that cannot be applied. */
export function chosenPresets(predictions: readonly PresetPrediction[], raw: string): readonly string[] {
  const possible = predictions.filter((prediction) => prediction.predicted !== null)
  if (raw === NONE) return []
  if (raw === '') {
    return possible
      .filter((prediction) => prediction.preset.recommended && prediction.existingVariantId === null)
      .map((prediction) => prediction.preset.id)
  }
  const asked = new Set(raw.split(','))
  return possible.filter((prediction) => asked.has(prediction.preset.id)).map((prediction) => prediction.preset.id)
}

export function togglePreset(chosen: readonly string[], presetId: string): string {
  const next = chosen.includes(presetId) ? chosen.filter((id) => id !== presetId) : [...chosen, presetId]
  return next.length === 0 ? NONE : next.join(',')
}

export function parseEvaluation(raw: string, defaults: EvaluationOptions): EvaluationOptions {
  if (raw === '') return defaults
  const asked = new Set(raw.split(','))
  return { perplexity: asked.has('perplexity'), tasks: asked.has('tasks'), throughput: asked.has('throughput') }
}

export function serializeEvaluation(evaluate: EvaluationOptions): string {
  const on = EVALUATIONS.filter((evaluation) => evaluate[evaluation.id]).map((evaluation) => evaluation.id)
  return on.length === 0 ? NONE : on.join(',')
}

/** What of it can be done: nothing is measured on text that can't be tokenized. */
export function possibleEvaluation(evaluate: EvaluationOptions, hasTokenizer: boolean): EvaluationOptions {
  return hasTokenizer ? evaluate : { perplexity: false, tasks: false, throughput: evaluate.throughput }
}

/** "Start" for one, "Run 3 and compare" for several that are evaluated. */
export function startLabel(request: Pick<StartCompression, 'presetIds' | 'recipes' | 'evaluate'>): string {
  const count = request.presetIds.length + request.recipes.length
  const evaluated = request.evaluate.perplexity || request.evaluate.tasks || request.evaluate.throughput
  if (count <= 1) return evaluated ? 'Run and compare' : 'Start'
  return evaluated ? `Run ${count} and compare` : `Start ${count}`
}

/** Sorted by what they store, so that the list reads from careful to small. */
export function byBitsPerWeight(predictions: readonly PresetPrediction[]): readonly PresetPrediction[] {
  return predictions.toSorted((one, other) => other.preset.nominalBitsPerWeight - one.preset.nominalBitsPerWeight)
}

export interface RawCalibration {
  readonly source: 'bundled' | 'file'
  readonly path: string
  readonly samples: string
  readonly sequenceLength: string
}

/** What is typed, with defaults for what can't be meant. The seed is that of the whole run. */
export function calibrationOf({ source, path, samples, sequenceLength }: RawCalibration, seed: number): CalibrationChoice {
  const count = Number.parseInt(samples, 10)
  const length = Number.parseInt(sequenceLength, 10)
  return {
    source: source === 'bundled' ? { kind: 'bundled' } : { kind: 'file', path },
    samples: count >= 1 && count <= 1_000_000 ? count : DEFAULT_CALIBRATION.samples,
    sequenceLength: length >= 2 && length <= 1_000_000 ? length : DEFAULT_CALIBRATION.sequenceLength,
    seed,
  }
}

/** The line in front of the message, unless the message names it. */
export function withLine({
  line,
  ...error
}: NonNullable<CalibrationReport['error']>): Omit<NonNullable<CalibrationReport['error']>, 'line'> {
  return line === null || /\bline \d/i.test(error.message) ? error : { ...error, message: `Line ${line}: ${error.message}` }
}

export type TargetKind = MixedTarget['kind']

/** null for what is no amount. Sizes are typed in MB. */
export function targetOf(kind: TargetKind, typed: string): MixedTarget | null {
  const value = Number(typed.trim().replace(',', '.'))
  if (typed.trim() === '' || !Number.isFinite(value) || value < 0) return null
  switch (kind) {
    case 'bytes':
      return value === 0 ? null : { kind, bytes: value * 1e6 }
    case 'bits-per-weight':
      return value === 0 || value > 64 ? null : { kind, bits: value }
    case 'loss':
      return { kind, bound: value }
    case 'fits':
      return Number.isInteger(value) && value > 0 ? { kind, contextTokens: value } : null
    default:
      return assertNever(kind, 'target')
  }
}

export function targetTitle(target: MixedTarget): string {
  switch (target.kind) {
    case 'bytes':
      return formatBytes(target.bytes)
    case 'bits-per-weight':
      return `${target.bits} bits`
    case 'loss':
      return `loss ${target.bound}`
    case 'fits':
      return 'fits this GPU'
    default:
      return assertNever(target, 'target')
  }
}
