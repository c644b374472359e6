/**
 * The error of stored weights ŵ against their source w, as sums that blocks of one tensor can add to in a fixed order. f64 throughout.
 * Turned into the contract's TensorError figures at the end; knows nothing of how ŵ came about.
 */

export interface ErrorSums {
  /** Σ w² */
  source: number
  /** Σ (w − ŵ)² */
  error: number
  /** Σ w·(w − ŵ) */
  cross: number
  /** max |w − ŵ| */
  max: number
}

export interface ErrorFigures {
  /** 10·log10(Σw² / Σe²); null when nothing was lost (infinite) or the source is all zeros. */
  readonly sqnrDb: number | null
  /** ‖w − ŵ‖ / ‖w‖; 0 when both are zero. */
  readonly relativeError: number
  readonly maxError: number
  /** w·ŵ / (‖w‖·‖ŵ‖); 1 when both are zero, 0 when only one is. */
  readonly cosine: number
}

export function noError(): ErrorSums {
  return { source: 0, error: 0, cross: 0, max: 0 }
}

export function addSums(total: ErrorSums, part: ErrorSums): void {
  total.source += part.source
  total.error += part.error
  total.cross += part.cross
  if (part.max > total.max) total.max = part.max
}

export function errorFigures(sums: ErrorSums): ErrorFigures {
  const { source, error, cross, max } = sums
  // Σŵ² and Σw·ŵ follow from the sums: ŵ = w − e.
  const stored = Math.max(0, source - 2 * cross + error)
  const norms = Math.sqrt(source * stored)
  const relativeError = source > 0 ? Math.sqrt(error / source) : error > 0 ? Infinity : 0
  return {
    sqnrDb: source > 0 && error > 0 ? 10 * Math.log10(source / error) : null,
    relativeError,
    maxError: max,
    cosine: norms > 0 ? Math.min(1, Math.max(-1, (source - cross) / norms)) : source === 0 && stored === 0 ? 1 : 0,
  }
}

/** Of stored values against their source, in order. */
export function errorBetween(source: Float32Array, stored: Float32Array): ErrorSums {
  const sums = noError()
  for (let i = 0; i < source.length; i++) {
    const w = source[i] as number
    const e = w - (stored[i] as number)
    sums.source += w * w
    sums.error += e * e
    sums.cross += w * e
    sums.max = Math.max(sums.max, Math.abs(e))
  }
  return sums
}
