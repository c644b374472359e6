/**
 * Joins a linear that makes gates and values with the SwiGLU that follows into one dispatch, where nothing else wants what lies between: one
 * dispatch and one round through memory less per layer, with the same bits. Knows nothing of kernels.
 */
import type { Operation, WeightSpec } from '../program.ts'
import { inputsOf } from './arena.ts'
import type { Linear } from './kernels/linear.ts'
import { multipliesIntegers } from './kernels/prepare-input.ts'

/** The operations with pairs joined, for weights of which `fitsOneShard` says that they are in one piece. */
export function joinGates(
  operations: readonly Operation[],
  fitsOneShard: (weight: WeightSpec) => boolean,
): readonly (Operation | Linear)[] {
  const joined: (Operation | Linear)[] = []
  for (let i = 0; i < operations.length; i++) {
    const [operation, next] = [operations[i], operations[i + 1]]
    if (operation === undefined) break
    const pair = operation.op === 'linear' && next?.op === 'swiglu' && next.gateUp.id === operation.out.id
    if (pair && isWhole(operation) && !multipliesIntegers(operation) && fitsOneShard(operation.weight) && isAlone(operations, i)) {
      joined.push({ ...operation, out: next.out, gated: true })
      i++
    } else {
      joined.push(operation)
    }
  }
  return joined
}

/** The linear writes all of its output: both halves, and nothing was there before. */
function isWhole({ weight, out, outOffset, accumulate }: Linear): boolean {
  return weight.rows === out.width && outOffset === 0 && !accumulate
}

/** Only the SwiGLU after operation `index` reads what it makes, and only it writes that before. */
function isAlone(operations: readonly Operation[], index: number): boolean {
  const made = operations[index]
  if (made?.op !== 'linear') return false
  const later = operations.slice(index + 2).findIndex((operation) => inputsOf(operation).some(({ id }) => id === made.out.id))
  const rewritten = operations
    .slice(index + 2)
    .findIndex((operation) => operation.op === 'linear' && operation.out.id === made.out.id && !operation.accumulate)
  return later < 0 || (rewritten >= 0 && rewritten < later)
}
