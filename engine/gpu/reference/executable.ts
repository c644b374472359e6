/** A Program with its decoded weights and one f64 buffer per value, run operation by operation. Yields to the event loop between operations. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { LatheError } from '../../contract/errors.ts'
import { weightBytes } from '../check-program.ts'
import { checkStep } from '../check-step.ts'
import { kvTokenBytes } from '../kv-format.ts'
import type {
  Accumulator,
  Capacity,
  Extent,
  InputQuantization,
  KernelTiming,
  Operation,
  Program,
  StatefulExecutable,
  StepInput,
  StepOutput,
  Value,
  WeightSpec,
} from '../program.ts'
import type { ReferenceKvCache } from './kv-cache.ts'
import { attention, columnSums, embed, gatherRows, gram, linear, rmsNorm, ropeAppend, swiglu } from './operations.ts'
import { quantizeInput } from './quantize-input.ts'
import { reduceStep } from './reductions.ts'

/** Everything an executable holds; made by the backend, which has checked the program. */
export interface ExecutableParts {
  readonly program: Program
  readonly capacity: Capacity
  readonly kv: ReferenceKvCache
  readonly weights: ReadonlyMap<number, Float64Array>
  readonly values: ReadonlyMap<number, Float64Array>
  /** Of each accumulator. */
  readonly sums: ReadonlyMap<number, Float64Array>
  /** Of the input quantizations that have one. */
  readonly staticScales: ReadonlyMap<InputQuantization, number>
}

type Memory = Pick<ExecutableParts, 'weights' | 'values' | 'sums'>

export class ReferenceExecutable implements StatefulExecutable {
  readonly program: Program
  readonly capacity: Capacity
  readonly #kv: ReferenceKvCache
  readonly #staticScales: ReadonlyMap<InputQuantization, number>
  readonly #onDispose: () => void
  #memory: Memory | null
  #running = false
  #lastStep: { readonly tokens: number; readonly rows: number } | null = null

  constructor(parts: ExecutableParts, onDispose: () => void) {
    this.program = parts.program
    this.capacity = parts.capacity
    this.#kv = parts.kv
    this.#staticScales = parts.staticScales
    this.#onDispose = onDispose
    this.#memory = { weights: parts.weights, values: parts.values, sums: parts.sums }
  }

  async step(input: StepInput): Promise<StepOutput> {
    await this.#run(input)
    return this.#reduce(input)
  }

  async profile(input: StepInput): Promise<readonly KernelTiming[]> {
    const timings = new Map<string, KernelTiming>()
    const record = (kernel: string, milliseconds: number, cost: { bytes: number; operations: number }): void => {
      const sum = timings.get(kernel) ?? { kernel, milliseconds: 0, bytes: 0, operations: 0, dispatches: 0 }
      timings.set(kernel, {
        kernel,
        milliseconds: sum.milliseconds + milliseconds,
        bytes: sum.bytes + cost.bytes,
        operations: sum.operations + cost.operations,
        dispatches: sum.dispatches + 1,
      })
    }
    await this.#run(input, (operation, milliseconds) => record(operation.op, milliseconds, this.#cost(operation, input)))
    const start = performance.now()
    this.#reduce(input)
    const logits = input.logitRows.length * this.program.vocabulary
    record('reduce', performance.now() - start, { bytes: logits * Float64Array.BYTES_PER_ELEMENT, operations: 4 * logits })
    return Array.from(timings.values())
  }

  read(value: Value): Promise<Float32Array> {
    return Promise.resolve(Float32Array.from(this.#content(value)))
  }

  write(value: Value, rows: Float32Array): void {
    const buffer = this.#open().values.get(value.id)
    if (buffer === undefined || rows.length > buffer.length || rows.length % value.width !== 0) {
      throw new LatheError('gpu.invalid-operation', `${rows.length} numbers do not fill rows of ${value.name}.`, 'Report this defect.')
    }
    buffer.set(rows)
  }

  clear(): void {
    for (const sums of this.#open().sums.values()) sums.fill(0)
  }

  accumulated(accumulator: Accumulator): Promise<Float32Array> {
    return Promise.resolve(Float32Array.from(this.#sums(accumulator)))
  }

  /** f64 logits of the last step, [rows, vocabulary]. */
  logits(): Float64Array {
    return this.#content(this.program.logits)
  }

  [Symbol.dispose](): void {
    this.#memory = null
    this.#onDispose()
  }

  async #run(input: StepInput, onOperation?: (operation: Operation, milliseconds: number) => void): Promise<void> {
    if (this.#running) throw new LatheError('gpu.invalid-operation', 'Two steps of one model overlap.', 'Report this defect.')
    checkStep(input, this.program, this.capacity, this.#kv.layout)
    this.#running = true
    try {
      this.#lastStep = { tokens: input.tokenIds.length, rows: input.logitRows.length }
      for (const operation of this.program.operations) {
        const start = performance.now()
        this.#execute(operation, input)
        onOperation?.(operation, performance.now() - start)
        await nextTurn()
      }
    } finally {
      this.#running = false
    }
  }

  #inputOf({ x, inputQuantization = null }: Extract<Operation, { op: 'linear' }>, content: Float64Array): Float64Array {
    if (inputQuantization === null) return content
    return quantizeInput(content, x.width, inputQuantization, this.#staticScales.get(inputQuantization) ?? null)
  }

  #reduce(input: StepInput): StepOutput {
    return reduceStep(this.logits(), this.program.vocabulary, input)
  }

  #execute(operation: Operation, input: StepInput): void {
    const at = (value: Value): Float64Array => this.#content(value)
    const weight = (spec: WeightSpec): Float64Array => this.#weight(spec)
    const optional = (spec: WeightSpec | null): Float64Array | null => (spec === null ? null : this.#weight(spec))
    switch (operation.op) {
      case 'embed':
        return embed(input.tokenIds, weight(operation.weight), operation.scale, at(operation.out), operation.out.width)
      case 'rmsNorm':
        return rmsNorm(at(operation.x), weight(operation.weight), operation.epsilon, at(operation.out))
      case 'linear': {
        const { x, bias, out, outOffset, accumulate } = operation
        const shape = { rows: operation.weight.rows, cols: operation.weight.cols, outOffset, outWidth: out.width, accumulate }
        return linear(this.#inputOf(operation, at(x)), weight(operation.weight), optional(bias), at(out), shape)
      }
      case 'swiglu':
        return swiglu(at(operation.gateUp), at(operation.out), operation.out.width)
      case 'ropeAppend': {
        const norms = { q: optional(operation.qNorm), k: optional(operation.kNorm) }
        return ropeAppend(operation, input, norms, { qkv: at(operation.qkv), q: at(operation.q), cache: this.#kv })
      }
      case 'attention':
        return attention(operation, input, { q: at(operation.q), out: at(operation.out), cache: this.#kv })
      case 'gatherRows':
        return gatherRows(at(operation.x), input.logitRows, at(operation.out), operation.out.width)
      case 'input':
        return
      case 'gram':
        return gram(at(operation.x), operation.out.width, this.#sums(operation.out))
      case 'columnSums':
        return columnSums(at(operation.x), operation.out.width, this.#sums(operation.out))
    }
  }

  /** Bytes as this backend's weights are stored and its values held; a multiplication with its addition counts as two operations. */
  #cost(operation: Operation, input: StepInput): { bytes: number; operations: number } {
    const bytes = (value: Value): number => this.#content(value).byteLength
    const size = (value: Value): number => this.#content(value).length
    switch (operation.op) {
      case 'embed':
        return { bytes: 2 * bytes(operation.out), operations: size(operation.out) }
      case 'rmsNorm':
        return { bytes: bytes(operation.x) + bytes(operation.out), operations: 4 * size(operation.x) }
      case 'linear': {
        const { x, weight, out } = operation
        return { bytes: bytes(x) + bytes(out) + weightBytes(weight), operations: 2 * size(x) * weight.rows }
      }
      case 'swiglu':
        return { bytes: bytes(operation.gateUp) + bytes(operation.out), operations: 4 * size(operation.out) }
      case 'ropeAppend':
        return { bytes: 2 * bytes(operation.qkv), operations: 3 * size(operation.qkv) }
      case 'attention': {
        const { headDim, kvHeads, heads, window } = operation
        const keys = input.positions.reduce((sum, position) => sum + Math.min(position + 1, window ?? Infinity), 0)
        const cached = keys * kvTokenBytes({ ...this.#kv.layout, layers: 1, kvHeads, headDim })
        return { bytes: cached + bytes(operation.q) + bytes(operation.out), operations: 4 * keys * heads * headDim }
      }
      case 'gatherRows':
        return { bytes: 2 * bytes(operation.out), operations: 0 }
      case 'input':
        return { bytes: 0, operations: 0 }
      case 'gram':
        return { bytes: bytes(operation.x), operations: size(operation.x) * (operation.out.width + 1) }
      case 'columnSums':
        return { bytes: bytes(operation.x), operations: 5 * size(operation.x) }
    }
  }

  #content(value: Value): Float64Array {
    const buffer = this.#open().values.get(value.id)
    if (buffer === undefined || this.#lastStep === null) {
      throw new LatheError('gpu.invalid-operation', `${value.name} has no content: no step has run.`, 'Run a step first.')
    }
    return buffer.subarray(0, extentRows(value.extent, this.#lastStep) * value.width)
  }

  #sums(accumulator: Accumulator): Float64Array {
    const sums = this.#open().sums.get(accumulator.id)
    if (sums === undefined) {
      throw new LatheError('gpu.invalid-operation', `${accumulator.name} is not part of this program.`, 'Report this defect.')
    }
    return sums
  }

  #weight(spec: WeightSpec): Float64Array {
    const matrix = this.#open().weights.get(spec.id)
    if (matrix === undefined) throw new LatheError('internal', `Weight ${spec.name} was not loaded.`, 'Report this defect.')
    return matrix
  }

  #open(): Memory {
    if (this.#memory === null) throw new LatheError('gpu.invalid-operation', 'The model was disposed.', 'Load it again.')
    return this.#memory
  }
}

/** Rows of an extent for the given step or capacity. */
export function extentRows(extent: Extent, sizes: { readonly tokens: number; readonly rows: number }): number {
  return typeof extent === 'number' ? extent : sizes[extent]
}
