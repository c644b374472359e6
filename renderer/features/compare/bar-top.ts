/** The value at full width of a bar. */
import type { Metric, Reading } from './metrics.ts'

/** Accuracies share one scale from 0 to 100 % in every chart; everything else fills its own. */
export function barTop(metric: Metric, readings: readonly (Reading | null)[]): number {
  if (metric.group === 'Tasks' || metric.id === 'top1') return 1
  return Math.max(1e-12, ...readings.map((reading) => Math.max(reading?.value ?? 0, reading?.range?.[1] ?? 0)))
}
