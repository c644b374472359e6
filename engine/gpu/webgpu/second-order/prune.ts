/** N:M pruning with error feedback through a factored Hessian (../../second-order.ts): SparseGPT's choice and updates for whole rows at a time. */
import type { PruneWeights } from '../../second-order.ts'
import type { WebGpuBackend } from '../backend.ts'
import { readBuffer } from '../readback.ts'
import { BLOCK, type Factor } from './factor.ts'
import { FEEDBACK_USAGE, PANEL_COLUMNS, rowsPerChunk, sweep, withoutColumns } from './feedback.ts'

export async function pruneWithFeedback(
  backend: WebGpuBackend,
  factor: Factor,
  { rows, weight, prune, of }: PruneWeights,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  const { columns, stride, dead } = factor
  if (weight.length !== rows * columns || columns % of !== 0 || !(prune > 0 && prune < of)) {
    throw new RangeError(`${weight.length} weights of ${columns} columns cannot lose ${prune} of every ${of}`)
  }
  if (BLOCK % of !== 0) throw new RangeError(`Groups of ${of} columns do not fit blocks of ${BLOCK}`)
  if (factor.order.some((column, k) => column !== k)) throw new RangeError('N:M pruning needs the original column order')
  const kernel = await backend.kernels.get({
    name: 'feedback-prune',
    constants: { PANEL_COLUMNS, PRUNE: prune, OF: of },
    bindings: ['read', 'read', 'read', 'write'],
    immediateWords: 6,
  })
  const perChunk = rowsPerChunk(backend, factor)
  const values = new Float32Array(rows * columns)
  const account = backend.ledger.open(factor.account.owner)
  try {
    for (let first = 0; first < rows; first += perChunk) {
      const count = Math.min(perChunk, rows - first)
      const own = withoutColumns(weight.subarray(first * columns, (first + count) * columns), columns, dead)
      const weights = await account.allocateOne('weights to prune', own.byteLength, FEEDBACK_USAGE())
      backend.gpu.device.queue.writeBuffer(weights, 0, own as Float32Array<ArrayBuffer>)
      const swept = await sweep(
        backend,
        account,
        factor,
        count,
        (commands, { errors, moved, panel }, { start, count: width, inner }) => {
          commands.dispatch(
            kernel,
            [weights, panel, moved, errors],
            [count, columns, stride, start, width, inner],
            Math.ceil(count / BLOCK),
          )
        },
        signal,
      )
      const lost = new Float32Array(
        await readBuffer(backend.gpu, account, swept.errors, 0, count * stride * Float32Array.BYTES_PER_ELEMENT),
      )
      for (let row = 0; row < count; row++) {
        const to = (first + row) * columns
        for (let c = 0; c < columns; c++) values[to + c] = (own[row * columns + c] as number) - (lost[row * stride + c] as number)
      }
      account.release()
    }
  } finally {
    account.release()
  }
  return values
}
