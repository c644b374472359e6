/**
 * Proxies for what a unit loses as one of its options, from its weights and, where calibration has them, its inputs' Gram matrix: the share of
 * the output's energy that the error has, ‖(W − Ŵ)X‖² / ‖WX‖², or without inputs the same of the weights. Cheap and blind to what the rest
 * of the model makes of the error; a measured divergence of the output is the better measure where there is time for it.
 */
import { DTYPE_BYTES, isDenseDtype, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { outputError } from '../algorithms/matrix.ts'
import type { Gram } from '../algorithms/matrix.ts'
import type { Observer } from '../recipe.ts'
import { roundTripOf } from '../round-trip.ts'
import type { UnitLoss } from './scheme-map.ts'

/** Statistics of a module's inputs, or null where none were collected. */
export type GramOf = (module: string) => Promise<{ readonly gram: Gram; readonly meanSquare: ArrayLike<number> } | null>

/** The error's share of the energy, times the unit's share of the model's parameters: the losses of a map add up to a mean over all weights. */
export function proxyLoss(checkpoint: Checkpoint, observer: Observer, gramOf: GramOf): UnitLoss {
  const parameters = [...checkpoint.tensors.values()].reduce(
    (sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1),
    0,
  )
  return async (unit, index) => {
    const option = unit.options[index]
    if (option === undefined) throw new RangeError(`${unit.id} has no option ${index}`)
    let error = 0
    let energy = 0
    for (const module of unit.modules) {
      const weight = await readMatrix(checkpoint, `${module}.weight`)
      const statistics = await gramOf(module)
      const meanSquare = statistics?.meanSquare ?? new Float32Array(weight.cols).fill(1)
      const roundTrip = roundTripOf({ scheme: option.scheme, observer }, weight.dtype, meanSquare)
      const decoded = roundTrip(weight.values, weight.rows, weight.cols, null)
      const { rows, cols, values } = weight
      if (statistics === null) {
        for (let i = 0; i < values.length; i++) {
          error += ((values[i] as number) - (decoded[i] as number)) ** 2
          energy += (values[i] as number) ** 2
        }
      } else {
        error += outputError(values, decoded, rows, cols, statistics.gram)
        energy += outputError(values, new Float32Array(values.length), rows, cols, statistics.gram)
      }
    }
    return energy > 0 ? (error / energy) * (unit.parameters / parameters) : 0
  }
}

async function readMatrix(
  checkpoint: Checkpoint,
  name: string,
): Promise<{ rows: number; cols: number; dtype: 'BF16' | 'F16' | 'F32'; values: Float32Array }> {
  const entry = checkpoint.tensors.get(name)
  if (entry === undefined || !isDenseDtype(entry.dtype)) throw new RangeError(`${name} is no dense matrix of this checkpoint`)
  const [rows = 0, cols = 0] = entry.shape
  const bytes = await checkpoint.open(name).read(0, rows * cols * DTYPE_BYTES[entry.dtype])
  return { rows, cols, dtype: entry.dtype, values: widenToF32(bytes, entry.dtype).slice() }
}
