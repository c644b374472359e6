/**
 * d·H·dᵀ for many rows at once (../../second-order.ts): the Hessian stays where it lies, rows go through in chunks that fit what an adapter binds,
 * and one number per row and tile of 64 columns comes back, added up here in f64.
 */
import { LatheError } from '../../../contract/errors.ts'
import type { HessianSource, QuadraticForms } from '../../second-order.ts'
import type { WebGpuBackend } from '../backend.ts'
import type { LedgerAccount } from '../ledger.ts'
import { readBuffer } from '../readback.ts'
import { CommandStream } from './commands.ts'
import { BLOCK, type Shard, sourceShards } from './factor.ts'

/** Device memory for the rows of a chunk. */
const CHUNK_BYTES = 64 * 2 ** 20

class WebGpuQuadraticForms implements QuadraticForms {
  readonly columns: number
  readonly #backend: WebGpuBackend
  readonly #account: LedgerAccount
  readonly #shards: readonly Shard[]

  constructor(backend: WebGpuBackend, account: LedgerAccount, columns: number, shards: readonly Shard[]) {
    this.#backend = backend
    this.#account = account
    this.columns = columns
    this.#shards = shards
  }

  async ofRows(pieces: readonly Float32Array[], signal?: AbortSignal): Promise<Float64Array> {
    const { columns } = this
    const { limits } = this.#backend.gpu
    const stride = Math.ceil(columns / BLOCK) * BLOCK
    const bound = this.#backend.tuning.weightShardBytes ?? Math.min(CHUNK_BYTES, limits.maxStorageBufferBindingSize, limits.maxBufferSize)
    const perChunk = Math.max(BLOCK, Math.floor(bound / (stride * Float32Array.BYTES_PER_ELEMENT * BLOCK)) * BLOCK)
    for (const { length } of pieces) {
      if (length % columns !== 0) throw new RangeError(`${length} values are no rows of ${columns}`)
    }
    const rows = pieces.reduce((sum, { length }) => sum + length / columns, 0)
    const forms = new Float64Array(rows)
    const rowsOf = rowReader(pieces, columns)
    const account = this.#backend.ledger.open(this.#account.owner)
    try {
      for (let first = 0; first < rows; first += perChunk) {
        const count = Math.min(perChunk, rows - first)
        const padded = Math.ceil(count / BLOCK) * BLOCK
        const chunk = new Float32Array(padded * stride)
        for (let row = 0; row < count; row++) chunk.set(rowsOf(first + row), row * stride)
        await this.#chunk(account, chunk, padded, stride, forms.subarray(first, first + count), signal)
        account.release()
      }
    } finally {
      account.release()
    }
    return forms
  }

  async #chunk(
    account: LedgerAccount,
    chunk: Float32Array,
    rows: number,
    stride: number,
    forms: Float64Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { gpu, kernels } = this.#backend
    const tiles = stride / BLOCK
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC
    const differences = await account.allocateOne('differences', chunk.byteLength, usage)
    const partial = await account.allocateOne('quadratic forms', rows * tiles * 4, usage)
    gpu.device.queue.writeBuffer(differences, 0, chunk as Float32Array<ArrayBuffer>)
    const kernel = await kernels.get({ name: 'quadratic-form', constants: {}, bindings: ['read', 'read', 'write'], immediateWords: 4 })
    const commands = new CommandStream(gpu, kernels, 'quadratic forms')
    for (const shard of this.#shards) {
      const bound = [differences, shard.buffer, partial]
      commands.dispatch(kernel, bound, [this.columns, stride, shard.firstRow, tiles], Math.ceil(shard.rows / BLOCK), rows / BLOCK)
    }
    await commands.flush(signal)
    const sums = new Float32Array(await readBuffer(gpu, account, partial, 0, forms.length * tiles * 4))
    for (let row = 0; row < forms.length; row++) {
      let sum = 0
      for (let tile = 0; tile < tiles; tile++) sum += sums[row * tiles + tile] as number
      // A Gram matrix has no negative directions, rounding has.
      forms[row] = Math.max(0, sum)
    }
  }

  [Symbol.dispose](): void {
    this.#account.release()
  }
}

/** Row `row` of the pieces put one under another; rows are asked for in order. */
function rowReader(pieces: readonly Float32Array[], columns: number): (row: number) => Float32Array {
  let piece = 0
  let firstRow = 0
  return (row) => {
    while (row >= firstRow + (pieces[piece] as Float32Array).length / columns) {
      firstRow += (pieces[piece] as Float32Array).length / columns
      piece++
    }
    return (pieces[piece] as Float32Array).subarray((row - firstRow) * columns, (row - firstRow + 1) * columns)
  }
}

/** Throws `gpu.out-of-memory`, `gpu.unsupported`; all memory is released then. A Hessian of an executable must outlive the result. */
export async function openQuadraticForms(backend: WebGpuBackend, columns: number, source: HessianSource): Promise<QuadraticForms> {
  const account = backend.ledger.open('second-order')
  try {
    const shards = await sourceShards(backend, account, columns, source)
    // Tiles of columns are counted from a shard's first row.
    if (shards.some(({ firstRow }) => firstRow % BLOCK !== 0)) {
      throw new LatheError('gpu.invalid-operation', 'A shard of the Hessian does not start at a whole block.', 'This is a defect in Lathe.')
    }
    return new WebGpuQuadraticForms(backend, account, columns, shards)
  } catch (thrown) {
    account.release()
    throw thrown
  }
}
