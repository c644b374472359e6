/**
 * Device memory that steps add to and the host reads at the end: Gram matrices and column sums. A matrix is cut into shards of whole rows,
 * since 14336² floats (822 MB) exceed what an adapter binds at once.
 */
import { LatheError } from '../../contract/errors.ts'
import type { Accumulator, Operation } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'
import { readBuffer } from './readback.ts'

export interface AccumulatorShard {
  readonly buffer: GPUBuffer
  readonly firstRow: number
  readonly rows: number
}

/** Rows of a shard are a multiple of the tile of the Gram kernels, so that no tile is in two shards. */
export const SHARD_ROW_MULTIPLE = 64
/** Kinds of column sums. */
export const COLUMN_SUM_ROWS = 4

export class Accumulators {
  readonly #gpu: GpuDevice
  readonly #account: LedgerAccount
  readonly #shards: ReadonlyMap<number, readonly AccumulatorShard[]>

  private constructor(gpu: GpuDevice, account: LedgerAccount, shards: ReadonlyMap<number, readonly AccumulatorShard[]>) {
    this.#gpu = gpu
    this.#account = account
    this.#shards = shards
  }

  /** `shardBytes` null = as much as the adapter binds. New buffers, which WebGPU fills with zeros. Throws `gpu.out-of-memory`. */
  static async create(
    gpu: GpuDevice,
    account: LedgerAccount,
    operations: readonly Operation[],
    shardBytes: number | null,
  ): Promise<Accumulators> {
    const limit = shardBytes ?? Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC
    const shards = new Map<number, readonly AccumulatorShard[]>()
    for (const operation of operations) {
      if (operation.op !== 'gram' && operation.op !== 'columnSums') continue
      const { id, name, kind, width } = operation.out
      if (shards.has(id)) continue
      const rows = kind === 'gram' ? width : COLUMN_SUM_ROWS
      const fit = Math.floor(limit / (width * 4))
      const perShard = fit >= rows ? rows : Math.floor(fit / SHARD_ROW_MULTIPLE) * SHARD_ROW_MULTIPLE
      if (perShard < 1) {
        throw new LatheError(
          'gpu.unsupported',
          `${SHARD_ROW_MULTIPLE} rows of a Gram matrix of ${width} columns exceed the ${limit} bytes that this adapter binds.`,
          'Choose another adapter.',
        )
      }
      const ranges = Array.from({ length: Math.ceil(rows / perShard) }, (_, i) => {
        const firstRow = i * perShard
        return { firstRow, rows: Math.min(perShard, rows - firstRow) }
      })
      const buffers = await account.allocate(ranges.map((range) => ({ name, bytes: range.rows * width * 4, usage })))
      shards.set(
        id,
        ranges.map((range, i) => ({ ...range, buffer: buffers[i] as GPUBuffer })),
      )
    }
    return new Accumulators(gpu, account, shards)
  }

  shards(accumulator: Accumulator): readonly AccumulatorShard[] {
    const shards = this.#shards.get(accumulator.id)
    if (shards === undefined) {
      throw new LatheError('gpu.invalid-operation', `${accumulator.name} is not part of this program.`, 'This is a defect in Lathe.')
    }
    return shards
  }

  clear(): void {
    const encoder = this.#gpu.device.createCommandEncoder({ label: 'clear accumulators' })
    for (const shards of this.#shards.values()) for (const { buffer } of shards) encoder.clearBuffer(buffer)
    this.#gpu.device.queue.submit([encoder.finish()])
  }

  /** The device holds the lower triangle of a Gram matrix, by tiles; the upper one is filled in here. */
  async read(accumulator: Accumulator): Promise<Float32Array> {
    const { kind, width } = accumulator
    const out = new Float32Array(width * (kind === 'gram' ? width : COLUMN_SUM_ROWS))
    for (const { buffer, firstRow, rows } of this.shards(accumulator)) {
      out.set(new Float32Array(await readBuffer(this.#gpu, this.#account, buffer, 0, rows * width * 4)), firstRow * width)
    }
    if (kind === 'gram') mirror(out, width)
    return out
  }
}

/** Square blocks, so that the strided side of the copy stays in cache. */
const MIRROR_BLOCK = 64

function mirror(matrix: Float32Array, width: number): void {
  for (let blockRow = 0; blockRow < width; blockRow += MIRROR_BLOCK) {
    for (let blockColumn = 0; blockColumn <= blockRow; blockColumn += MIRROR_BLOCK) {
      const lastRow = Math.min(blockRow + MIRROR_BLOCK, width)
      for (let row = blockRow; row < lastRow; row++) {
        const lastColumn = Math.min(blockColumn + MIRROR_BLOCK, row)
        for (let column = blockColumn; column < lastColumn; column++) matrix[column * width + row] = matrix[row * width + column] as number
      }
    }
  }
}
