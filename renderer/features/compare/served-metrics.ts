/** Figures of a benchmark under load as metrics of the board: one set per load, since two loads are two questions. */
import type { LatencySummary, ServedRun } from '../../../engine/contract/index.ts'
import { formatDuration, formatPercent, formatRate, formatSignificant } from '../../lib/format.ts'
import { energyMetric } from './energy-metrics.ts'
import type { Entry, Metric } from './metrics.ts'
import { measured } from './reading.ts'

/** More would drown the table; the rest is in the export. */
const MOST_LOADS = 4

export function loadOf(run: Pick<ServedRun, 'profile' | 'rate' | 'concurrency'>): string {
  if (run.rate !== null) return `${run.profile}, ${formatSignificant(run.rate)} requests/s`
  return run.concurrency === null ? run.profile : `${run.profile}, ${run.concurrency} at once`
}

function runOf(entry: Entry, load: string): ServedRun | null {
  return entry.result?.served?.runs.find((run) => loadOf(run) === load) ?? null
}

export function servedMetrics(entries: readonly Entry[]): readonly Metric[] {
  const loads = new Set(entries.flatMap((entry) => entry.result?.served?.runs.map(loadOf) ?? []))
  return [...loads].slice(0, MOST_LOADS).flatMap((load) => metricsOfLoad(load))
}

function milliseconds(value: number): string {
  return formatDuration(value / 1000)
}

function metricsOfLoad(load: string): readonly Metric[] {
  const common = { group: 'Served', delta: 'relative', protocol: 'served', perAdapter: true } as const
  const details = (entry: Entry, run: ServedRun): Record<string, string> => ({
    Load: `${load}; ${entry.result?.served?.load ?? ''}`,
    Requests: `${run.completed} completed, ${run.failed} failed, ${run.warmup} warm-up left out`,
    ...(run.warnings.length === 0 ? {} : { Doubts: run.warnings.join('; ') }),
  })
  const latency = (id: string, title: string, pick: (run: ServedRun) => LatencySummary | null): Metric => ({
    ...common,
    id: `served:${id}:${load}`,
    title: `${title}, p90 · ${load}`,
    term: null,
    better: 'down',
    format: milliseconds,
    read: (entry) => {
      const run = runOf(entry, load)
      const summary = run === null ? null : pick(run)
      if (run === null || summary === null) return null
      return measured(entry, 'served', summary.p90, {
        range: [summary.p50, summary.p99],
        rangeMeaning: 'median and 99th percentile of the requests',
        details: details(entry, run),
      })
    },
  })
  return [
    {
      ...common,
      id: `served:rate:${load}`,
      title: `Output of all requests · ${load}`,
      term: null,
      better: 'up',
      format: (value) => formatRate(value, 'tok/s'),
      read: (entry) => {
        const run = runOf(entry, load)
        return run === null ? null : measured(entry, 'served', run.outputTokensPerSecond, { details: details(entry, run) })
      },
    },
    latency('ttft', 'First token, from the schedule', (run) => run.ttftMs),
    latency('tpot', 'Each token after it', (run) => run.tpotMs),
    {
      ...common,
      id: `served:goodput:${load}`,
      title: `Requests within the service level · ${load}`,
      term: null,
      better: 'up',
      delta: 'points',
      format: (value) => formatPercent(value),
      read: (entry) => {
        const run = runOf(entry, load)
        const goodput = run?.goodput ?? null
        if (run === null || goodput === null) return null
        return measured(entry, 'served', goodput.share, {
          details: {
            ...details(entry, run),
            Level: goodput.level.name,
            Rate: `${formatSignificant(goodput.requestsPerSecond)} such requests/s`,
          },
        })
      },
      basis: (entry) => {
        const level = runOf(entry, load)?.goodput?.level ?? null
        return level === null
          ? null
          : `held against ${level.name} (${[level.ttftMs, level.tpotMs, level.e2eMs].map((ms) => ms ?? '–').join(' / ')} ms)`
      },
    },
    energyMetric({
      id: `served:energy:${load}`,
      title: `Energy per output token · ${load}`,
      group: 'Served',
      protocol: 'served',
      of: (entry) => runOf(entry, load)?.energy ?? null,
      details: (entry) => {
        const run = runOf(entry, load)
        return run === null ? {} : details(entry, run)
      },
    }),
  ]
}
