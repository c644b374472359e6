/** The per-layer error as a grid of cells and colours. Plain functions; heatmap.tsx draws them. */
import type { TensorError } from '../../../engine/contract/index.ts'

export const HEAT_METRICS = ['sqnr', 'relative'] as const
export type HeatMetric = (typeof HEAT_METRICS)[number]

export interface HeatGrid {
  /** Columns, left to right. null = tensors outside the layers. */
  readonly layers: readonly (number | null)[]
  /** Rows, top to bottom, in the order in which a layer uses them. */
  readonly kinds: readonly string[]
  readonly cells: ReadonlyMap<string, TensorError>
  /** Smallest and largest error over all cells: the ends of the colour scale. */
  readonly range: readonly [number, number]
}

const KIND_ORDER = [
  'embed_tokens',
  'q_proj',
  'k_proj',
  'v_proj',
  'qkv_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'gate_up_proj',
  'down_proj',
  'lm_head',
]

export function cellKey(kind: string, layer: number | null): string {
  return `${kind} ${layer ?? 'none'}`
}

/** Larger is worse: relative error itself, and SQNR with its sign turned. null = no error to speak of (stored exactly). */
export function heatValue(error: TensorError, metric: HeatMetric): number | null {
  if (metric === 'relative') return error.relativeError
  return error.sqnrDb === null ? null : -error.sqnrDb
}

export function heatGrid(errors: readonly TensorError[], metric: HeatMetric): HeatGrid {
  const kinds = [...new Set(errors.map((error) => error.kind))].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other))
  const layers = [...new Set(errors.map((error) => error.layer))].sort(
    (one, other) => (one ?? Number.POSITIVE_INFINITY) - (other ?? Number.POSITIVE_INFINITY),
  )
  const values = errors.map((error) => heatValue(error, metric)).filter((value) => value !== null)
  return {
    kinds,
    layers,
    cells: new Map(errors.map((error) => [cellKey(error.kind, error.layer), error])),
    range: values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)],
  }
}

function rank(kind: string): number {
  const index = KIND_ORDER.indexOf(kind)
  return index === -1 ? KIND_ORDER.length : index
}

/** 0 = best of the grid, 1 = worst. SQNR is logarithmic already; relative error is put on a log scale where asked. */
export function heatShare(value: number, [low, high]: readonly [number, number], logarithmic: boolean): number {
  if (high <= low) return 0
  if (!logarithmic) return (value - low) / (high - low)
  // A zero error has no logarithm: it counts as a thousandth of the worst.
  const floor = Math.max(low, high / 1000)
  if (floor >= high) return 0
  return Math.max(0, Math.log(Math.max(value, floor) / floor) / Math.log(high / floor))
}

/** A sequential scale from pale to deep through one hue family (readable with any colour vision): [lightness, chroma, hue] per theme. */
export function heatColor(share: number, theme: 'light' | 'dark'): string {
  const at = Math.min(1, Math.max(0, share))
  const lightness = theme === 'light' ? 0.96 - 0.5 * at : 0.27 + 0.55 * at
  const chroma = 0.025 + 0.15 * at
  // Yellow-ish to red in light, blue-ish to amber in dark: lightness alone carries the order.
  const hue = theme === 'light' ? 85 - 60 * at : 265 - 185 * at
  return `oklch(${lightness.toFixed(3)} ${chroma.toFixed(3)} ${hue.toFixed(1)})`
}
