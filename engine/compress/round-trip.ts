/**
 * What a linear's weights become once stored and read back, for steps that search for the least loss before anything is stored. The same
 * arithmetic as storing (algorithms/), without bytes.
 */
import type { DenseDtype } from '../checkpoint/dtypes.ts'
import type { RoundTrip } from './algorithms/matrix.ts'
import { decodeMatrix, roundMatrix } from './algorithms/round-matrix.ts'
import { roundingScratch } from './algorithms/round-to-nearest.ts'
import type { LinearStorage } from './calibration/layer-context.ts'

/**
 * Null storage = stays as it is. `meanSquare` [cols] of the inputs is what the observer `imatrix` weighs by. `weightMaximum`: of the matrix that
 * the rows belong to, where its scheme wants one; by default that of the values given.
 */
export function roundTripOf(
  storage: LinearStorage | null,
  dtype: DenseDtype,
  meanSquare: ArrayLike<number>,
  weightMaximum: number | null = null,
): RoundTrip {
  if (storage === null) return (values) => values
  const { scheme, observer } = storage
  const scratch = roundingScratch()
  return (values, rows, cols, factors) => {
    const importance =
      observer.kind === 'imatrix'
        ? Float64Array.from(meanSquare, (square, c) => square / (factors === null ? 1 : (factors[c] as number) ** 2))
        : null
    return decodeMatrix(roundMatrix(values, rows, cols, scheme, dtype, observer, { importance, scratch, weightMaximum }), scheme, dtype)
  }
}
