/**
 * Recovery after pruning on the device (../../second-order.ts): conjugate gradients for all rows of a chunk at once, whose products with the Gram
 * matrix are one matrix product a step. f32; a row that does not end better than it began keeps what it had.
 */
import type { QuadraticForms, RecoverWeights, RecoveredWeights, RecoverySolver } from '../../second-order.ts'
import type { WebGpuBackend } from '../backend.ts'
import type { LedgerAccount } from '../ledger.ts'
import { readBuffer } from '../readback.ts'
import { CommandStream } from './commands.ts'
import { BLOCK, type Shard, sourceShards } from './factor.ts'
import { FEEDBACK_USAGE } from './feedback.ts'
import { openQuadraticForms } from './quadratic.ts'

/** Device memory for one of the five arrays of a chunk. */
const CHUNK_BYTES = 16 * 2 ** 20
/** Submitted together: a cancel waits for them. */
const STEPS_PER_SUBMISSION = 4

class WebGpuRecovery implements RecoverySolver {
  readonly columns: number
  readonly #backend: WebGpuBackend
  readonly #account: LedgerAccount
  readonly #shards: readonly Shard[]
  readonly #forms: QuadraticForms
  /** Mean of the Gram matrix's diagonal, and the diagonal. */
  readonly #mean: number
  readonly #diagonal: Float64Array

  constructor(
    backend: WebGpuBackend,
    account: LedgerAccount,
    gram: Float32Array,
    columns: number,
    shards: readonly Shard[],
    forms: QuadraticForms,
  ) {
    this.#backend = backend
    this.#account = account
    this.#shards = shards
    this.#forms = forms
    this.columns = columns
    this.#diagonal = Float64Array.from({ length: columns }, (_, c) => gram[c * columns + c] as number)
    this.#mean = this.#diagonal.reduce((sum, value) => sum + value / columns, 0)
  }

  async recover(weights: RecoverWeights, signal?: AbortSignal): Promise<RecoveredWeights> {
    const { columns } = this
    const { rows, target, pruned, mask } = weights
    if (target.length !== rows * columns || pruned.length !== rows * columns || mask.length !== rows * columns) {
      throw new RangeError(`${target.length} weights and a mask of ${mask.length} for ${rows} × ${columns}`)
    }
    const values = Float32Array.from(pruned, (value, i) => (mask[i] === 1 ? 0 : value))
    const stride = Math.ceil(columns / BLOCK) * BLOCK
    const perChunk = Math.max(BLOCK, Math.floor(CHUNK_BYTES / (stride * 4 * BLOCK)) * BLOCK)
    let before = 0
    let after = 0
    const account = this.#backend.ledger.open(this.#account.owner)
    try {
      for (let first = 0; first < rows; first += perChunk) {
        const count = Math.min(perChunk, rows - first)
        const range = [first * columns, (first + count) * columns] as const
        const start = values.subarray(...range)
        const wanted = target.subarray(...range)
        const difference = start.map((value, i) => (wanted[i] as number) - value)
        const found = await this.#solve(account, start, difference, mask.subarray(...range), count, stride, weights, signal)
        account.release()
        const left = found.map((value, i) => (wanted[i] as number) - value)
        const errors = await this.#forms.ofRows([difference, left], signal)
        for (let row = 0; row < count; row++) {
          const [old, now] = [errors[row] as number, errors[count + row] as number]
          if (now <= old) start.set(found.subarray(row * columns, (row + 1) * columns), row * columns)
          before += old
          after += Math.min(old, now)
        }
      }
    } finally {
      account.release()
    }
    return { values, before, after }
  }

  async #solve(
    account: LedgerAccount,
    start: Float32Array,
    difference: Float32Array,
    mask: Uint8Array,
    rows: number,
    stride: number,
    { dampening, iterations, tolerance }: RecoverWeights,
    signal: AbortSignal | undefined,
  ): Promise<Float32Array> {
    const { columns } = this
    const { gpu, kernels } = this.#backend
    const padded = Math.ceil(rows / BLOCK) * BLOCK
    const words = padded * stride
    const allocate = (name: string, count: number): Promise<GPUBuffer> => account.allocateOne(name, count * 4, FEEDBACK_USAGE())
    const direction = await allocate('directions', words)
    const product = await allocate('products', words)
    const residual = await allocate('residuals', words)
    const solution = await allocate('recovered weights', words)
    const bits = await allocate('mask', words / 32)
    const facts = await allocate('rows', padded * 4)
    const inverse = await allocate('inverse diagonal', columns)
    const ridge = dampening * this.#mean
    const { queue } = gpu.device
    queue.writeBuffer(direction, 0, laidOut(difference, rows, columns, padded, stride))
    queue.writeBuffer(solution, 0, laidOut(start, rows, columns, padded, stride))
    queue.writeBuffer(bits, 0, maskBits(mask, rows, columns, padded, stride))
    queue.writeBuffer(
      inverse,
      0,
      Float32Array.from(this.#diagonal, (value) => (value + ridge > 0 ? 1 / (value + ridge) : 0)),
    )
    const bindings = ['read', 'read', 'read', 'write', 'write', 'write', 'write'] as const
    const [multiply, begin, step] = await Promise.all([
      kernels.get({ name: 'symmetric-product', constants: {}, bindings: ['read', 'read', 'write'], immediateWords: 3 }),
      kernels.get({ name: 'recover-step', constants: { START: true }, bindings, immediateWords: 4 }),
      kernels.get({ name: 'recover-step', constants: { START: false }, bindings, immediateWords: 4 }),
    ])
    const commands = new CommandStream(gpu, kernels, 'recovery')
    const bound = [inverse, bits, product, direction, residual, solution, facts]
    const immediates = [columns, stride, floatBits(ridge), floatBits(tolerance ** 2)]
    for (let n = 0; n <= iterations; n++) {
      for (const { buffer, firstRow, rows: own } of this.#shards) {
        const tiles = Math.ceil(own / BLOCK)
        commands.dispatch(multiply, [direction, buffer, product], [columns, stride, firstRow], tiles, padded / BLOCK)
      }
      commands.dispatch(n === 0 ? begin : step, bound, immediates, rows)
      if (n % STEPS_PER_SUBMISSION === STEPS_PER_SUBMISSION - 1) await commands.flush(signal)
    }
    await commands.flush(signal)
    const read = new Float32Array(await readBuffer(gpu, account, solution, 0, rows * stride * 4))
    const found = new Float32Array(rows * columns)
    for (let row = 0; row < rows; row++) found.set(read.subarray(row * stride, row * stride + columns), row * columns)
    return found
  }

  [Symbol.dispose](): void {
    this.#forms[Symbol.dispose]()
    this.#account.release()
  }
}

function laidOut(values: Float32Array, rows: number, columns: number, padded: number, stride: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(padded * stride)
  for (let row = 0; row < rows; row++) out.set(values.subarray(row * columns, (row + 1) * columns), row * stride)
  return out
}

function maskBits(mask: Uint8Array, rows: number, columns: number, padded: number, stride: number): Uint32Array<ArrayBuffer> {
  const out = new Uint32Array((padded * stride) / 32)
  for (let row = 0; row < rows; row++) {
    for (let c = 0; c < columns; c++) {
      if (mask[row * columns + c] !== 1) continue
      const at = row * (stride / 32) + (c >>> 5)
      out[at] = (out[at] as number) | (1 << (c & 31))
    }
  }
  return out
}

function floatBits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0
}

/** `gram` [columns, columns], both triangles. Throws `gpu.out-of-memory`, `gpu.unsupported`; all memory is released then. */
export async function openRecovery(backend: WebGpuBackend, columns: number, gram: Float32Array): Promise<RecoverySolver> {
  const account = backend.ledger.open('second-order')
  try {
    const shards = await sourceShards(backend, account, columns, { kind: 'host', gram })
    const forms = await openQuadraticForms(backend, columns, { kind: 'host', gram })
    return new WebGpuRecovery(backend, account, gram, columns, shards, forms)
  } catch (thrown) {
    account.release()
    throw thrown
  }
}
