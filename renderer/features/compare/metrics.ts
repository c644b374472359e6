/**
 * Everything that Compare can show of a model, as data: how to read it from the results, which direction is better, how it is written, and under
 * which protocol it was measured. Charts, table and exports are all made from this list, so they cannot disagree.
 */
import type { ModelSummary, Provenance, ResultSet } from '../../../engine/contract/index.ts'
import { formatBytes, formatDuration, formatPercent, formatRate, formatSignificant, formatPoints } from '../../lib/format.ts'
import type { TermName } from '../../ui/term.tsx'
import { energyMetric } from './energy-metrics.ts'
import { qualityMetrics } from './quality-metrics.ts'
import { fact, measured } from './reading.ts'
import { protocolReason } from './same-protocol.ts'
import { servedMetrics } from './served-metrics.ts'
import { ratioInTurns, type RatioName } from './speed-ratio.ts'
import { meanTasks, taskMean, taskMeanRange, taskMetric } from './task-metrics.ts'

/** One model on the board. `series` fixes its colour, shape and dash for as long as it exists. */
export interface Entry {
  readonly model: ModelSummary
  readonly result: ResultSet | null
  readonly series: number
  readonly isSource: boolean
}

export interface Reading {
  readonly value: number
  /** What it is of is at least this much. */
  readonly atLeast?: true
  /** Lower and upper end of its uncertainty, where there is one. */
  readonly range: readonly [number, number] | null
  readonly rangeMeaning: string | null
  readonly provenance: Provenance | null
  readonly details: Readonly<Record<string, string>>
}

export type MetricGroup = 'Size' | 'Quality' | 'Tasks' | 'Speed' | 'Served'

export interface Metric {
  readonly id: string
  readonly title: string
  readonly group: MetricGroup
  readonly term: TermName | null
  readonly better: 'up' | 'down'
  readonly format: (value: number) => string
  /** Where `format` writes none and there is one. */
  readonly unit?: string
  /** How a difference is written; relative where a ratio says more than an amount. */
  readonly delta: 'absolute' | 'relative' | 'points'
  /** Part of the results whose protocol must match before two values may meet; null for facts of the files. */
  readonly protocol: string | null
  /** Speeds and memory additionally need the same adapter. */
  readonly perAdapter: boolean
  readonly read: (entry: Entry) => Reading | null
  /** Why there is no reading where one was tried; null where there is one, or nobody tried. */
  readonly missing?: (entry: Entry) => string | null
  /** What must be the same besides protocol and adapter before two values may meet, as it is said of one: "read from" a counter. */
  readonly basis?: (entry: Entry) => string | null
  /** In place of the protocol, where more than that decides what may meet. */
  readonly incomparable?: (entry: Entry, baseline: Entry) => string | null
  /** Its value here is what the metric is measured from, and wins nothing. */
  readonly isDefined?: (entry: Entry) => boolean
  /** What may be set against others when the best is named, where the values themselves may not; null where there is nothing of the kind. */
  readonly rival?: (entry: Entry, baseline: Entry) => Pick<Reading, 'value' | 'range'> | null
  /** The difference from this baseline as it was measured beside it, in the manner of `delta`; null where they were measured apart. */
  readonly paired?: (entry: Entry, baseline: Entry) => number | null
}

const percent = (value: number) => formatPercent(value)
const bytesOnDisk = (value: number) => formatBytes(value)
const bytesInMemory = (value: number) => formatBytes(value, 'memory')
const tokensPerSecond = (value: number) => formatRate(value, 'tok/s')
const milliseconds = (value: number) => formatDuration(value / 1000)

const FIXED_METRICS: readonly Metric[] = [
  {
    id: 'size',
    title: 'Size of the weights',
    group: 'Size',
    term: null,
    better: 'down',
    format: bytesOnDisk,
    delta: 'relative',
    protocol: null,
    perAdapter: false,
    read: (entry) => (entry.model.origin === 'folder' ? fact(entry.model.weightBytes) : null),
  },
  {
    id: 'bits',
    title: 'Bits per weight',
    group: 'Size',
    term: 'bits-per-weight',
    better: 'down',
    format: (value) => formatSignificant(value),
    delta: 'absolute',
    protocol: null,
    perAdapter: false,
    read: (entry) => (entry.model.origin === 'folder' ? fact(entry.model.bitsPerWeight) : null),
  },
  {
    id: 'peak',
    title: 'Peak GPU memory',
    group: 'Size',
    term: null,
    better: 'down',
    format: bytesInMemory,
    delta: 'relative',
    protocol: 'throughput',
    perAdapter: true,
    read: (entry) => measured(entry, 'throughput', entry.result?.throughput?.peakGpuBytes ?? null),
  },
  speedMetric('decode', 'Decode', 'decode', 'up', tokensPerSecond, 'decodeTokensPerSecond', 'decodeRatio'),
  speedMetric('prefill', 'Prefill', 'prefill', 'up', tokensPerSecond, 'prefillTokensPerSecond', 'prefillRatio'),
  speedMetric('ttft', 'Time to first token', 'ttft', 'down', milliseconds, 'timeToFirstTokenMs', 'timeToFirstTokenRatio'),
  energyMetric({
    id: 'energy',
    title: 'Energy per output token',
    group: 'Speed',
    protocol: 'throughput',
    of: (entry) => entry.result?.throughput?.energy ?? null,
    details: (entry) => ({
      Load: `${entry.result?.throughput?.promptTokens} prompt, ${entry.result?.throughput?.generatedTokens} generated tokens, one request at a time`,
    }),
  }),
]

type Throughput = NonNullable<ResultSet['throughput']>

function speedMetric(
  id: string,
  title: string,
  term: TermName,
  better: 'up' | 'down',
  format: (value: number) => string,
  field: 'decodeTokensPerSecond' | 'prefillTokensPerSecond' | 'timeToFirstTokenMs',
  ratio: RatioName,
): Metric {
  return {
    id,
    title,
    group: 'Speed',
    term,
    better,
    format,
    delta: 'relative',
    protocol: 'throughput',
    perAdapter: true,
    read: (entry) => {
      const throughput = entry.result?.throughput ?? null
      if (throughput === null) return null
      const stats = throughput[field]
      return measured(entry, 'throughput', stats.median, {
        range: [stats.min, stats.max],
        rangeMeaning: 'fastest and slowest run',
        details: {
          Samples: `median of ${stats.n}, ${throughput.warmups} warm-up left out`,
          Load: `${throughput.promptTokens} prompt, ${throughput.generatedTokens} generated tokens`,
          ...versusDetails(throughput.versus, ratio),
        },
      })
    },
    // Two jobs' speeds say as much about the day as about the model: only runs that took turns in one job make a ratio.
    paired: (entry, baseline) => {
      const found = ratioInTurns(entry, baseline, ratio)
      return found === null ? null : found.value - 1
    },
    // For the same reason only those ratios compete.
    rival: (entry, baseline) => (entry === baseline ? { value: 1, range: null } : ratioInTurns(entry, baseline, ratio)),
  }
}

function times(value: number): string {
  return `${formatSignificant(value)}×`
}

function versusDetails(versus: Throughput['versus'], ratio: RatioName): Record<string, string> {
  if (versus === null) return {}
  const { median, min, max } = versus[ratio]
  return { 'Beside its baseline, in turns': `${times(median)} (${times(min)}–${times(max)})` }
}

/** Metrics in the order they are read: size, quality, tasks as they were run, speed. Drift is from the baseline where it was measured from there. */
export function metricsOf(entries: readonly Entry[], baseline?: Entry): readonly Metric[] {
  const tasks = new Map(entries.flatMap((entry) => entry.result?.tasks ?? []).map((task) => [task.name, task]))
  const averaged = meanTasks(entries)
  const mean: Metric = {
    id: 'tasks',
    title: 'Task accuracy, mean',
    group: 'Tasks',
    term: null,
    better: 'up',
    format: percent,
    delta: 'points',
    protocol: 'tasks',
    perAdapter: false,
    read: (entry) => measured(entry, 'tasks', taskMean(entry, averaged), taskMeanRange(entry, averaged)),
  }
  const index = FIXED_METRICS.findIndex((metric) => metric.group === 'Speed')
  return [
    ...FIXED_METRICS.slice(0, index),
    ...qualityMetrics(entries, baseline),
    ...(averaged.length > 1 ? [mean] : []),
    ...[...tasks].map(([name, task]) => taskMetric(name, task.title, task)),
    ...FIXED_METRICS.slice(index),
    ...servedMetrics(entries),
  ]
}

/** Why two readings of one metric must not meet on an axis; null when they may. */
export function incomparableReason(metric: Metric, entry: Entry, baseline: Entry): string | null {
  if (metric.protocol === null || entry.model.id === baseline.model.id) return null
  if (metric.incomparable !== undefined) return metric.incomparable(entry, baseline)
  const reason = protocolReason(metric.protocol, entry, baseline)
  if (reason !== null) return reason
  const [ownBasis, theirBasis] = [metric.basis?.(entry) ?? null, metric.basis?.(baseline) ?? null]
  if (ownBasis !== null && theirBasis !== null && ownBasis !== theirBasis) return `${ownBasis}, the baseline ${theirBasis}`
  if (!metric.perAdapter) return null
  const { protocol } = metric
  const adapter = (of: Entry) => of.result?.provenance[protocol]?.adapter
  const here = adapter(entry)
  const there = adapter(baseline)
  if (here !== undefined && there !== undefined && here !== there) return `measured on ${here}, the baseline on ${there}`
  return null
}

/** The difference from the baseline in the metric's own manner: a ratio minus one, an amount, or percentage points. */
export function difference(metric: Metric, value: number, baseline: number): number | null {
  if (metric.delta !== 'relative') return value - baseline
  return baseline === 0 ? null : value / baseline - 1
}

/** The difference from the baseline: as measured beside it where that was done, else of the two values. */
export function differenceOf(metric: Metric, entry: Entry, baseline: Entry): number | null {
  const paired = metric.paired?.(entry, baseline) ?? null
  if (paired !== null) return paired
  const own = metric.read(entry)?.value
  const base = metric.read(baseline)?.value
  return own === undefined || base === undefined ? null : difference(metric, own, base)
}

export function formatDifference(metric: Metric, value: number): string {
  const text = amountOf(metric, Math.abs(value))
  // What prints as nothing has no direction: two means of the same answers may differ in their last bit.
  const sign = !/[1-9]/.test(text) ? '±' : value > 0 ? '+' : '−'
  return `${sign}${text}`
}

function amountOf(metric: Metric, magnitude: number): string {
  if (metric.delta === 'relative') return formatPercent(magnitude)
  return metric.delta === 'points' ? formatPoints(magnitude) : metric.format(magnitude)
}

/** "172–180 tok/s": the unit once where both ends have the same. */
export function formatRange(metric: Metric, [low, high]: readonly [number, number]): string {
  const [from, to] = [metric.format(low), metric.format(high)]
  const unit = /[\s\u00a0\u202f]?[^\d\s.,]+$/u
  const [own] = unit.exec(from) ?? ['']
  return `${own !== '' && to.endsWith(own) ? from.slice(0, -own.length) : from}–${to}`
}

/** What stands along an axis; `atLeast` where its points are lower bounds. */
export function axisTitle({ title, unit }: Metric, atLeast = false): string {
  return `${title}${atLeast ? ', at least' : ''}${unit === undefined ? '' : ` (${unit})`}`
}

export function printReading(metric: Metric, reading: Reading): string {
  return `${reading.atLeast === true ? '≥ ' : ''}${metric.format(reading.value)}`
}

/** Whether this speed and the baseline's, as they stand on the board, are of one job in which both took turns. */
export function isOfOneJob(entry: Entry, baseline: Entry): boolean {
  const [own, theirs] = [entry.result?.throughput ?? null, baseline.result?.throughput ?? null]
  if (entry === baseline || own === null || theirs === null) return true
  return own.interleavedWith === baseline.model.id && theirs.interleavedWith === entry.model.id
}
