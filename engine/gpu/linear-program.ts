/**
 * A program of linears alone, its inputs a table that stands where embeddings do: for checking a device's kernels and for timing them. Knows no model.
 */
import type { Program, Value, WeightSpec } from './program.ts'

/** `inputs` [tokens, cols]; each of `weights` [rows, cols] multiplies all of them, and the last one's results are the logits. */
export function linearProgramOf(inputs: WeightSpec, weights: readonly WeightSpec[]): Program {
  const rows = weights[0]?.rows ?? 0
  const x: Value = { id: 0, name: 'x', extent: 'tokens', width: inputs.cols }
  const out: Value = { id: 1, name: 'out', extent: 'tokens', width: rows }
  const last: Value = { id: 2, name: 'last', extent: 'rows', width: rows }
  return {
    operations: [
      { op: 'embed', weight: inputs, scale: 1, out: x },
      ...weights.map((weight) => ({ op: 'linear', x, weight, bias: null, accumulate: false, outOffset: 0, out }) as const),
      { op: 'gatherRows', x: out, out: last },
    ],
    weights: [inputs, ...weights],
    ropes: [],
    logits: last,
    vocabulary: rows,
  }
}
