/**
 * H = R·Rᵀ on the device (../../second-order.ts): a blocked Cholesky factorization of the damped Hessian in reversed processing order, whose lower
 * factor L is R with rows and columns reversed. The matrix is cut into shards of whole rows, so that a layer of 14336 inputs (822 MB) fits what
 * an adapter binds. Knows no weights.
 */
import { LatheError } from '../../../contract/errors.ts'
import type { HessianFactorRequest, HessianSource } from '../../second-order.ts'
import type { WebGpuBackend } from '../backend.ts'
import { WebGpuExecutable } from '../executable.ts'
import type { Kernel, KernelSpec } from '../kernel.ts'
import type { LedgerAccount } from '../ledger.ts'
import { readBuffer } from '../readback.ts'
import { CommandStream } from './commands.ts'

/** Side of the blocks of the factorization; the kernels' tiles. */
export const BLOCK = 64
/** Panels per submission: at the largest sizes a tenth of a second on a GPU. */
const PANELS_PER_SUBMISSION = 8
/** A pivot below this share of where it started is f32 rounding, not information. */
const PIVOT_FLOOR = 1e-6
/** As on the CPU: each failure multiplies the damping; a whole mean diagonal leaves round-to-nearest in all but name. */
const DAMPENING_STEP = 10
const DAMPENING_LIMIT = 1

export interface Shard {
  readonly buffer: GPUBuffer
  readonly firstRow: number
  readonly rows: number
}

/** L in `shards` (rows × stride), and its diagonal. Buffers belong to `account`. */
export interface Factor {
  readonly account: LedgerAccount
  readonly columns: number
  readonly stride: number
  readonly shards: readonly Shard[]
  readonly pivots: GPUBuffer
  readonly order: Uint32Array
  readonly orderBuffer: GPUBuffer
  readonly dead: readonly number[]
  readonly dampeningUsed: number
}

const STORAGE = (): number => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC

/** Rows of `stride` floats in shards of at most what the adapter binds, each a multiple of a block. */
function shardRows(backend: WebGpuBackend, rows: number, stride: number): readonly { firstRow: number; rows: number }[] {
  const { limits } = backend.gpu
  const most = backend.tuning.weightShardBytes ?? Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize)
  const perShard = Math.floor(most / (stride * Float32Array.BYTES_PER_ELEMENT * BLOCK)) * BLOCK
  if (perShard === 0) {
    throw new LatheError(
      'gpu.unsupported',
      `${BLOCK} rows of a Hessian of ${stride} columns exceed the ${most} bytes that this adapter binds.`,
      'Choose another adapter.',
    )
  }
  return Array.from({ length: Math.ceil(rows / perShard) }, (_, i) => {
    return { firstRow: i * perShard, rows: Math.min(perShard, rows - i * perShard) }
  })
}

async function allocateShards(
  backend: WebGpuBackend,
  account: LedgerAccount,
  name: string,
  rows: number,
  stride: number,
): Promise<readonly Shard[]> {
  const ranges = shardRows(backend, rows, stride)
  const buffers = await account.allocate(ranges.map((range) => ({ name, bytes: range.rows * stride * 4, usage: STORAGE() })))
  return ranges.map((range, i) => ({ ...range, buffer: buffers[i] as GPUBuffer }))
}

/** H's rows as shards; those of host memory are uploaded into `account`. */
export async function sourceShards(
  backend: WebGpuBackend,
  account: LedgerAccount,
  columns: number,
  source: HessianSource,
): Promise<readonly Shard[]> {
  if (source.kind === 'device') {
    if (!(source.executable instanceof WebGpuExecutable) || source.accumulator.width !== columns) {
      throw new LatheError(
        'gpu.invalid-operation',
        `${source.accumulator.name} is not a Hessian of this device.`,
        'This is a defect in Lathe.',
      )
    }
    return source.executable.accumulatorShards(source.accumulator)
  }
  if (source.gram.length !== columns * columns)
    throw new RangeError(`${columns} columns need ${columns ** 2} values, got ${source.gram.length}`)
  const shards = await allocateShards(backend, account, 'hessian', columns, columns)
  for (const { buffer, firstRow, rows } of shards) {
    const values = source.gram.subarray(firstRow * columns, (firstRow + rows) * columns)
    backend.gpu.device.queue.writeBuffer(buffer, 0, values as Float32Array<ArrayBuffer>)
  }
  return shards
}

function kernel(
  backend: WebGpuBackend,
  name: string,
  bindings: KernelSpec['bindings'],
  immediateWords: number,
  constants: KernelSpec['constants'] = {},
): Promise<Kernel> {
  return backend.kernels.get({ name, constants, bindings, immediateWords })
}

async function diagonalOf(
  backend: WebGpuBackend,
  account: LedgerAccount,
  shards: readonly Shard[],
  columns: number,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  const out = await account.allocateOne('hessian diagonal', columns * 4, STORAGE())
  try {
    const gather = await kernel(backend, 'hessian-diagonal', ['read', 'write'], 3)
    const commands = new CommandStream(backend.gpu, backend.kernels, 'hessian diagonal')
    for (const { buffer, firstRow, rows } of shards) {
      commands.dispatch(gather, [buffer, out], [firstRow, rows, columns], Math.ceil(rows / 64))
    }
    await commands.flush(signal)
    return new Float32Array(await readBuffer(backend.gpu, account, out, 0, columns * 4))
  } finally {
    account.free(out)
  }
}

/** null where H is zero, not finite, or not positive definite even at full damping. */
export async function factorHessian(backend: WebGpuBackend, account: LedgerAccount, request: HessianFactorRequest): Promise<Factor | null> {
  const { columns, signal } = request
  const temporary = backend.ledger.open(account.owner)
  try {
    const source = await sourceShards(backend, temporary, columns, request.source)
    const diagonal = await diagonalOf(backend, temporary, source, columns, signal)
    let mean = 0
    for (const value of diagonal) {
      if (!(value >= 0 && value < Infinity)) return null
      mean += value / columns
    }
    if (mean === 0) return null
    const indexes = Array.from(diagonal, (_, i) => i)
    if (request.order === 'importance') indexes.sort((a, b) => (diagonal[b] as number) - (diagonal[a] as number) || a - b)
    const order = Uint32Array.from(indexes)
    const stride = Math.ceil(columns / BLOCK) * BLOCK
    const shards = await allocateShards(backend, account, 'hessian factor', stride, stride)
    const [orderBuffer, pivots, start, damping, block, panel, status] = (await account.allocate(
      [columns, stride, stride, columns, BLOCK * BLOCK, stride * BLOCK, 1].map((words) => ({
        name: 'factorization',
        bytes: words * 4,
        usage: STORAGE(),
      })),
    )) as [GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer]
    const { queue } = backend.gpu.device
    queue.writeBuffer(orderBuffer, 0, order)
    const dead = indexes.filter((column) => diagonal[column] === 0).toSorted((a, b) => a - b)
    for (let dampening = request.dampening; dampening <= DAMPENING_LIMIT; dampening *= DAMPENING_STEP) {
      const added = Float32Array.from(diagonal, (value) => (value === 0 ? 1 : 0) + dampening * mean)
      const starts = new Float32Array(stride).fill(1)
      for (let i = 0; i < columns; i++)
        starts[i] = (diagonal[order[columns - 1 - i] as number] as number) + (added[order[columns - 1 - i] as number] as number)
      queue.writeBuffer(damping, 0, added)
      queue.writeBuffer(start, 0, starts)
      queue.writeBuffer(status, 0, new Uint32Array(1))
      await arrange(backend, source, shards, orderBuffer, damping, columns, stride, signal)
      await cholesky(backend, shards, stride, { start, pivots, block, panel, status }, signal)
      const failures = new Uint32Array(await readBuffer(backend.gpu, temporary, status, 0, 4))[0]
      if (failures !== 0) continue
      for (const buffer of [start, damping, block, panel, status]) account.free(buffer)
      return { account, columns, stride, shards, pivots, order, orderBuffer, dead, dampeningUsed: dampening }
    }
    return null
  } finally {
    temporary.release()
  }
}

async function arrange(
  backend: WebGpuBackend,
  source: readonly Shard[],
  target: readonly Shard[],
  order: GPUBuffer,
  damping: GPUBuffer,
  columns: number,
  stride: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const arranged = await kernel(backend, 'hessian-arrange', ['read', 'read', 'read', 'write'], 6)
  const commands = new CommandStream(backend.gpu, backend.kernels, 'arrange hessian')
  for (const to of target) {
    for (const from of source) {
      commands.dispatch(
        arranged,
        [order, damping, from.buffer, to.buffer],
        [columns, stride, to.firstRow, to.rows, from.firstRow, from.rows],
        stride / BLOCK,
        to.rows,
      )
    }
  }
  await commands.flush(signal)
}

interface CholeskyBuffers {
  readonly start: GPUBuffer
  readonly pivots: GPUBuffer
  readonly block: GPUBuffer
  readonly panel: GPUBuffer
  readonly status: GPUBuffer
}

/** Right-looking, in place: factor a diagonal block, solve the rows below it, take their products from what remains. */
async function cholesky(
  backend: WebGpuBackend,
  shards: readonly Shard[],
  stride: number,
  buffers: CholeskyBuffers,
  signal: AbortSignal | undefined,
): Promise<void> {
  const [diagonal, below, update] = await Promise.all([
    kernel(backend, 'cholesky-diagonal', ['read', 'write', 'write', 'write', 'write'], 3, { PIVOT_FLOOR: { float: PIVOT_FLOOR } }),
    kernel(backend, 'cholesky-panel', ['read', 'write', 'write'], 5),
    kernel(backend, 'cholesky-update', ['read', 'write'], 4),
  ])
  const commands = new CommandStream(backend.gpu, backend.kernels, 'factor hessian')
  for (let column = 0; column < stride; column += BLOCK) {
    for (const { buffer, firstRow, rows } of shards) {
      if (column < firstRow || column >= firstRow + rows) continue
      const bound = [buffers.start, buffer, buffers.block, buffers.pivots, buffers.status]
      commands.dispatch(diagonal, bound, [column - firstRow, column, stride], 1)
    }
    const next = column + BLOCK
    const rest = shards.filter(({ firstRow, rows }) => firstRow + rows > next)
    for (const { buffer, firstRow, rows } of rest) {
      const from = Math.max(next, firstRow)
      const count = firstRow + rows - from
      commands.dispatch(
        below,
        [buffers.block, buffer, buffers.panel],
        [from - firstRow, count, column, stride, from],
        Math.ceil(count / BLOCK),
      )
    }
    for (const { buffer, firstRow, rows } of rest) {
      const from = Math.max(next, firstRow)
      const tiles = (firstRow + rows - from) / BLOCK
      commands.dispatch(update, [buffers.panel, buffer], [from, from - firstRow, next, stride], (firstRow + rows - next) / BLOCK, tiles)
    }
    if ((column / BLOCK) % PANELS_PER_SUBMISSION === PANELS_PER_SUBMISSION - 1) await commands.flush(signal)
  }
  await commands.flush(signal)
}
