/** The figures of a server's course, as data: what to read of a sample, how it is written, what its scale is. The charts are all made from this list. */
import type { MonitorSample } from '../../../engine/contract/index.ts'
import { formatDuration, formatInteger, formatPercent, formatRate } from '../../lib/format.ts'
import type { TermName } from '../../ui/term.tsx'

export interface CourseLine {
  readonly title: string
  readonly read: (sample: MonitorSample) => number | null
}

export interface CourseMetric {
  readonly id: string
  readonly title: string
  readonly term: TermName | null
  readonly format: (value: number) => string
  /** Most important first: it is printed large. */
  readonly lines: readonly CourseLine[]
  /** Top of the scale where it is fixed. */
  readonly top: number | null
}

function quantiles(read: (sample: MonitorSample) => MonitorSample['firstTokenMs']): readonly CourseLine[] {
  return [
    { title: 'p50', read: (sample) => read(sample).p50 },
    { title: 'p90', read: (sample) => read(sample).p90 },
    { title: 'p99', read: (sample) => read(sample).p99 },
  ]
}

function milliseconds(value: number): string {
  return formatDuration(value / 1000)
}

function share(value: number): string {
  return formatPercent(value)
}

function perSecond(value: number): string {
  return formatRate(value, 'tok/s')
}

function whole(value: number): string {
  return formatInteger(value)
}

function single(id: keyof MonitorSample & string, title: string, read: CourseLine['read']): Pick<CourseMetric, 'id' | 'title' | 'lines'> {
  return { id, title, lines: [{ title, read }] }
}

export const COURSE_METRICS: readonly CourseMetric[] = [
  {
    id: 'requests',
    title: 'Requests',
    term: null,
    format: whole,
    top: null,
    lines: [
      { title: 'running', read: (sample) => sample.running },
      { title: 'waiting', read: (sample) => sample.waiting },
    ],
  },
  { ...single('kvUsage', 'KV cache in use', (sample) => sample.kvUsage), term: 'kv', format: share, top: 1 },
  {
    id: 'firstToken',
    title: 'Time to first token',
    term: 'ttft',
    format: milliseconds,
    top: null,
    lines: quantiles((sample) => sample.firstTokenMs),
  },
  {
    id: 'interToken',
    title: 'Inter-token latency',
    term: 'itl',
    format: milliseconds,
    top: null,
    lines: quantiles((sample) => sample.interTokenMs),
  },
  {
    id: 'tokens',
    title: 'Tokens',
    term: null,
    format: perSecond,
    top: null,
    lines: [
      { title: 'generated', read: (sample) => sample.generatedTokensPerSecond },
      { title: 'prompt', read: (sample) => sample.promptTokensPerSecond },
    ],
  },
  {
    id: 'endToEnd',
    title: 'Whole request',
    term: null,
    format: milliseconds,
    top: null,
    lines: quantiles((sample) => sample.endToEndMs),
  },
  { ...single('cacheHitRate', 'Prefix cache hits', (sample) => sample.cacheHitRate), term: 'prefix-cache', format: share, top: 1 },
  {
    ...single('draftAcceptance', 'Drafted tokens accepted', (sample) => sample.draftAcceptance),
    term: 'speculation',
    format: share,
    top: 1,
  },
]

/** Whether a server tells this figure at all. */
export function isTold(metric: CourseMetric, samples: readonly MonitorSample[]): boolean {
  return samples.some((sample) => metric.lines.some((line) => line.read(sample) !== null))
}
