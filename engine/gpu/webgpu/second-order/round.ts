/**
 * Rounds weights to grids of codes with error feedback through a factored Hessian (../../second-order.ts). Rows do not depend on each other: they
 * go through in chunks that fit what an adapter binds.
 */
import type { GridCodes, GridWeights } from '../../second-order.ts'
import type { WebGpuBackend } from '../backend.ts'
import type { LedgerAccount } from '../ledger.ts'
import { readBuffer } from '../readback.ts'
import { BLOCK, type Factor } from './factor.ts'
import { FEEDBACK_USAGE, PANEL_COLUMNS, rowsPerChunk, sweep, withoutColumns } from './feedback.ts'

const WORD_BYTES = 4
const SMALLEST_NORMAL = 2 ** -126

export async function roundWithFeedback(
  backend: WebGpuBackend,
  factor: Factor,
  weights: GridWeights,
  signal: AbortSignal | undefined,
): Promise<GridCodes> {
  const { columns } = factor
  const { rows, weight, scales, zeroPoints, mask } = weights
  const groups = Math.ceil(columns / weights.columnsPerScale)
  if (weight.length !== rows * columns || scales.length !== rows * groups) throw new RangeError('Weights and scales do not fit the factor')
  const perChunk = rowsPerChunk(backend, factor)
  // Shared, so that threads can turn them into bytes where they are.
  const codes = new Int8Array(new SharedArrayBuffer(rows * columns))
  let loss = 0
  const account = backend.ledger.open(factor.account.owner)
  try {
    for (let first = 0; first < rows; first += perChunk) {
      const count = Math.min(perChunk, rows - first)
      const chunk = {
        rows: count,
        weight: withoutColumns(weight.subarray(first * columns, (first + count) * columns), columns, factor.dead),
        grid: joined(
          scales.subarray(first * groups, (first + count) * groups),
          zeroPoints?.subarray(first * groups, (first + count) * groups),
        ),
        mask: mask === null ? null : packedBits(mask.subarray(first * columns, (first + count) * columns)),
      }
      const words = await roundChunk(backend, account, factor, weights, chunk, signal)
      loss += unpack(words, factor, count, codes.subarray(first * columns, (first + count) * columns))
      account.release()
    }
  } finally {
    account.release()
  }
  return { codes, loss }
}

interface Chunk {
  readonly rows: number
  readonly weight: Float32Array
  readonly grid: Float32Array
  readonly mask: Uint32Array | null
}

async function roundChunk(
  backend: WebGpuBackend,
  account: LedgerAccount,
  factor: Factor,
  { element, columnsPerScale, zeroPoints }: GridWeights,
  chunk: Chunk,
  signal: AbortSignal | undefined,
): Promise<Uint32Array> {
  const { columns, stride } = factor
  const paddedRows = Math.ceil(chunk.rows / BLOCK) * BLOCK
  const masked = chunk.mask !== null
  const codeWords = stride / 4 + 1
  const allocate = (name: string, words: number): Promise<GPUBuffer> => account.allocateOne(name, words * WORD_BYTES, FEEDBACK_USAGE())
  const weight = await allocate('weights to round', chunk.weight.length)
  const grid = await allocate('scales', chunk.grid.length)
  const mask = chunk.mask === null ? null : await allocate('mask', chunk.mask.length)
  const codes = await allocate('codes', paddedRows * codeWords)
  const { queue } = backend.gpu.device
  queue.writeBuffer(weight, 0, chunk.weight as Float32Array<ArrayBuffer>)
  queue.writeBuffer(grid, 0, chunk.grid as Float32Array<ArrayBuffer>)
  if (mask !== null && chunk.mask !== null) queue.writeBuffer(mask, 0, chunk.mask as Uint32Array<ArrayBuffer>)
  const round = await backend.kernels.get({
    name: 'feedback-round',
    constants: {
      PANEL_COLUMNS,
      ...(element.kind === 'integer' ? { MINIMUM: { float: element.minimum }, MAXIMUM: { float: element.maximum } } : {}),
      E2M1: element.kind === 'e2m1',
      E4M3: element.kind === 'e4m3',
      ZERO_POINTS: zeroPoints !== null,
      MASKED: masked,
    },
    bindings: ['read', 'read', 'read', 'read', 'read', 'write', 'write', ...(masked ? (['read'] as const) : [])],
    immediateWords: 8,
  })
  const groups = Math.ceil(columns / columnsPerScale)
  await sweep(
    backend,
    account,
    factor,
    chunk.rows,
    (commands, { errors, moved, panel }, { start, count, inner }) => {
      const bound = [factor.orderBuffer, weight, grid, panel, moved, errors, codes, ...(mask === null ? [] : [mask])]
      commands.dispatch(round, bound, [chunk.rows, columns, stride, start, count, inner, columnsPerScale, groups], paddedRows / BLOCK)
    },
    signal,
  )
  return new Uint32Array(await readBuffer(backend.gpu, account, codes, 0, chunk.rows * codeWords * WORD_BYTES))
}

/** Codes from processing order into the weight's own; returns the loss. */
function unpack(words: Uint32Array, { columns, stride, order }: Factor, rows: number, codes: Int8Array): number {
  const bytes = new Int8Array(words.buffer, words.byteOffset, words.byteLength)
  const losses = new Float32Array(words.buffer, words.byteOffset, words.length)
  const codeWords = stride / 4 + 1
  let loss = 0
  for (let row = 0; row < rows; row++) {
    const from = row * codeWords * 4
    const to = row * columns
    for (let k = 0; k < columns; k++) codes[to + (order[k] as number)] = bytes[from + k] as number
    loss += losses[row * codeWords + stride / 4] as number
  }
  return loss
}

function joined(scales: Float32Array, zeroPoints: Float32Array | undefined): Float32Array {
  const out = new Float32Array(scales.length + (zeroPoints?.length ?? 0))
  out.set(scales)
  if (zeroPoints !== undefined) out.set(zeroPoints, scales.length)
  return out.map(normalScale)
}

/** Adapters may take a subnormal scale for 0, whose quotients are no numbers; the weights under such a scale are 0 to anyone. */
function normalScale(value: number): number {
  return value !== 0 && Math.abs(value) < SMALLEST_NORMAL ? SMALLEST_NORMAL : value
}

function packedBits(mask: Uint8Array): Uint32Array {
  const out = new Uint32Array(Math.ceil(mask.length / 32))
  for (let i = 0; i < mask.length; i++) if (mask[i] !== 0) out[i >>> 5] = (out[i >>> 5] as number) | (1 << (i & 31))
  return out
}
