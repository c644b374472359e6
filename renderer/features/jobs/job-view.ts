/** What a job's card says, from the job as the engine reports it. Plain functions. */
import { assertNever, type Job, type JobLayers, type JobPhase, type JobState } from '../../../engine/contract/index.ts'
import { formatBytes, formatDuration, formatEta, formatInteger, formatPercent, formatRate } from '../../lib/format.ts'
import type { Tone } from '../../ui/badge.tsx'
import type { ProgressTone } from '../../ui/progress.tsx'

/** No finished work unit for this long is worth saying. */
export const STALLED_AFTER_SECONDS = 15

interface StateView {
  readonly title: string
  readonly tone: Tone
  readonly bar: ProgressTone
}

export function stateView(state: JobState): StateView {
  switch (state) {
    case 'queued':
      return { title: 'Queued', tone: 'neutral', bar: 'idle' }
    case 'running':
      return { title: 'Running', tone: 'accent', bar: 'accent' }
    case 'cancelling':
      return { title: 'Cancelling…', tone: 'warning', bar: 'warning' }
    case 'cancelled':
      return { title: 'Cancelled', tone: 'neutral', bar: 'idle' }
    case 'failed':
      return { title: 'Failed', tone: 'danger', bar: 'danger' }
    case 'interrupted':
      return { title: 'Interrupted', tone: 'warning', bar: 'warning' }
    case 'succeeded':
      return { title: 'Done', tone: 'positive', bar: 'positive' }
    default:
      return assertNever(state, 'job state')
  }
}

const ORDINALS = new Intl.PluralRules('en', { type: 'ordinal' })
const ORDINAL_SUFFIXES: Readonly<Record<string, string>> = { one: 'st', two: 'nd', few: 'rd', other: 'th' }

export function ordinal(position: number): string {
  return `${position}${ORDINAL_SUFFIXES[ORDINALS.select(position)] ?? 'th'}`
}

export function runningPhase(job: Job): JobPhase | null {
  return job.phases.find((phase) => phase.state === 'running') ?? null
}

/** "12 of 43 tensors"; bytes are written as sizes, an unknown total is left out. */
export function phaseUnits(phase: JobPhase): string {
  if (phase.unit === 'bytes' || phase.unit === 'B') {
    return phase.total > 0 ? `${formatBytes(phase.done)} of ${formatBytes(phase.total)}` : formatBytes(phase.done)
  }
  return phase.total > 0
    ? `${formatInteger(phase.done)} of ${formatInteger(phase.total)} ${phase.unit}`
    : `${formatInteger(phase.done)} ${phase.unit}`
}

/** One line under the bar. Only what is known is said. */
export function statusLine(job: Job, secondsSinceNews: number): readonly string[] {
  if (job.state === 'queued') return [job.queuePosition > 1 ? `${ordinal(job.queuePosition)} in the queue` : 'next in the queue']
  const phase = runningPhase(job)
  if (job.state === 'cancelling') return [phase === null ? 'finishing' : `finishing the current step of ${phase.title.toLowerCase()}`]
  if (job.state !== 'running') return []
  const stalled = job.stalledSeconds + secondsSinceNews
  return [
    ...(phase === null ? [] : [`${phase.title} ${phaseUnits(phase)}`]),
    ...(job.rate === null ? [] : [formatRate(job.rate.value, `${job.rate.unit}/s`)]),
    ...(stalled > STALLED_AFTER_SECONDS || job.etaSeconds === null ? [] : [formatEta(job.etaSeconds)]),
  ]
}

export function stalledSeconds(job: Job, secondsSinceNews: number): number | null {
  if (job.state !== 'running') return null
  const stalled = Math.floor(job.stalledSeconds + secondsSinceNews)
  return stalled > STALLED_AFTER_SECONDS ? stalled : null
}

export function elapsedSeconds(job: Job, nowMs: number): number | null {
  if (job.startedAt === null) return null
  const end = job.endedAt === null ? nowMs : Date.parse(job.endedAt)
  return Math.max(0, (end - Date.parse(job.startedAt)) / 1000)
}

export interface LayerBar {
  readonly layer: number
  /** `taken`: another variant had it, and it was copied. */
  readonly state: 'done' | 'taken' | 'current' | 'pending'
  /** 0…1 of the worst layer so far. */
  readonly share: number
  readonly title: string
}

interface LayerError {
  readonly layer: number
  readonly error: number
}

export function layerSummary({ finished }: JobLayers): { readonly last: LayerError | null; readonly worst: LayerError | null } {
  const known = finished.flatMap(({ layer, error }) => (error === null ? [] : [{ layer, error }]))
  return { last: known.at(-1) ?? null, worst: known.toSorted((one, other) => other.error - one.error)[0] ?? null }
}

export function layerBars(layers: JobLayers): readonly LayerBar[] {
  const byLayer = new Map(layers.finished.map((layer) => [layer.layer, layer]))
  const most = layerSummary(layers).worst?.error ?? 0
  const taken = new Set(layers.takenOver?.layers)
  return Array.from({ length: layers.total }, (_, layer): LayerBar => {
    const done = byLayer.get(layer)
    if (done === undefined) {
      const current = layer === layers.current
      return {
        layer,
        state: current ? 'current' : 'pending',
        share: 0,
        title: `Layer ${layer}: ${current ? (layers.note ?? 'now') : 'to come'}`,
      }
    }
    const error = done.error === null ? 'not measured' : formatPercent(done.error)
    const seconds = done.seconds === null ? '' : `, ${formatDuration(done.seconds)}`
    const [state, how] = taken.has(layer) ? (['taken', ', taken over'] as const) : (['done', seconds] as const)
    return { layer, state, share: most === 0 ? 0 : (done.error ?? 0) / most, title: `Layer ${layer}: ${error}${how}` }
  })
}

/** "5 of 6 layers taken over from Pebble · Balanced 4-bit"; null where everything was computed. */
export function takenOverLine({ takenOver }: JobLayers): string | null {
  if (takenOver === null) return null
  const { layers, ofLayers, tensors, ofTensors, from } = takenOver
  return layers.length > 0
    ? `${formatInteger(layers.length)} of ${formatInteger(ofLayers)} layers taken over from ${from}`
    : `${formatInteger(tensors)} of ${formatInteger(ofTensors)} tensors taken over from ${from}`
}

/** "Layer 12 (13 of 32): GPTQ down_proj", counted from 0 as in the model's own names; null where no layer is being worked on. */
export function layerLine(layers: JobLayers | null): string | null {
  if (layers === null || layers.current === null) return null
  const note = layers.note === null ? '' : `: ${layers.note}`
  const left = layers.secondsLeft === null || layers.secondsLeft <= 0 ? '' : ` · layers: ${formatEta(layers.secondsLeft)}`
  return `Layer ${layers.current} (${layers.current + 1} of ${layers.total})${note}${left}`
}
