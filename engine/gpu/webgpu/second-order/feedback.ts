/**
 * Columns in processing order with error feedback through a factored Hessian (../../second-order.ts): blocks of 64 columns are decided by a kernel of
 * the caller's; before that the errors of all earlier columns reach the block, those before its wide panel in one matrix product, those within the
 * panel in another. Knows how errors travel, not what is decided.
 */
import type { WebGpuBackend } from '../backend.ts'
import type { LedgerAccount } from '../ledger.ts'
import { CommandStream } from './commands.ts'
import { BLOCK, type Factor } from './factor.ts'

/** Columns of a panel: enough tiles to fill a GPU with few rows, and a panel of the factor of 30 MB at 14336 columns. */
export const PANEL_COLUMNS = 512
/** Device memory for a chunk's weights; their errors take as much again. */
const CHUNK_BYTES = 64 * 2 ** 20
const WORD_BYTES = 4

export const FEEDBACK_USAGE = (): number => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC

/** Rows that go through together. */
export function rowsPerChunk(backend: WebGpuBackend, { stride }: Factor): number {
  const { limits } = backend.gpu
  const bound = backend.tuning.weightShardBytes ?? Math.min(CHUNK_BYTES, limits.maxStorageBufferBindingSize, limits.maxBufferSize)
  return Math.max(BLOCK, Math.floor(bound / (stride * WORD_BYTES * BLOCK)) * BLOCK)
}

export interface FeedbackBuffers {
  /** [padded rows, stride]: for each column decided, the weight minus what it became; written by the caller's kernel. */
  readonly errors: GPUBuffer
  /** [padded rows, PANEL_COLUMNS]: how far earlier errors move the columns of the panel. */
  readonly moved: GPUBuffer
  /** [columns, PANEL_COLUMNS]: the factor's columns of the panel, over their pivots. */
  readonly panel: GPUBuffer
}

export interface FeedbackBlock {
  readonly start: number
  readonly count: number
  /** The block's first column in the panel. */
  readonly inner: number
}

/** All columns of `rows` rows. `decide` adds the dispatch that decides a block. */
export async function sweep(
  backend: WebGpuBackend,
  account: LedgerAccount,
  factor: Factor,
  rows: number,
  decide: (commands: CommandStream, buffers: FeedbackBuffers, block: FeedbackBlock) => void,
  signal: AbortSignal | undefined,
): Promise<FeedbackBuffers> {
  const { columns, stride } = factor
  const paddedRows = Math.ceil(rows / BLOCK) * BLOCK
  const allocate = (name: string, words: number): Promise<GPUBuffer> => account.allocateOne(name, words * WORD_BYTES, FEEDBACK_USAGE())
  const errors = await allocate('rounding errors', paddedRows * stride)
  const moved = await allocate('moved weights', paddedRows * PANEL_COLUMNS)
  const panel = await allocate('factor panel', stride * PANEL_COLUMNS)
  const buffers = { errors, moved, panel }
  const constants = { PANEL_COLUMNS }
  const [gather, product] = await Promise.all([
    backend.kernels.get({ name: 'feedback-panel', constants, bindings: ['read', 'read', 'write'], immediateWords: 6 }),
    backend.kernels.get({ name: 'feedback-product', constants, bindings: ['read', 'read', 'write'], immediateWords: 5 }),
  ])
  const commands = new CommandStream(backend.gpu, backend.kernels, 'feedback')
  const rowTiles = paddedRows / BLOCK
  for (let first = 0; first < columns; first += PANEL_COLUMNS) {
    const width = Math.min(PANEL_COLUMNS, columns - first)
    for (const shard of factor.shards) {
      const bound = [shard.buffer, factor.pivots, panel]
      commands.dispatch(gather, bound, [columns, stride, shard.firstRow, shard.rows, first, width], Math.ceil(width / BLOCK), first + width)
    }
    // Sums start from nothing: also for the very first block, whose range of earlier columns is empty.
    commands.dispatch(product, [errors, panel, moved], [stride, 0, first, 0, 0], Math.ceil(width / BLOCK), rowTiles)
    for (let inner = 0; inner < width; inner += BLOCK) {
      const start = first + inner
      if (inner > 0) commands.dispatch(product, [errors, panel, moved], [stride, first, start, inner, 1], 1, rowTiles)
      decide(commands, buffers, { start, count: Math.min(BLOCK, columns - start), inner })
    }
    await commands.flush(signal)
  }
  return buffers
}

export function withoutColumns(weight: Float32Array, columns: number, dead: readonly number[]): Float32Array {
  if (dead.length === 0) return weight
  const copy = weight.slice()
  for (let row = 0; row < copy.length; row += columns) for (const column of dead) copy[row + column] = 0
  return copy
}
