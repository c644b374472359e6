/**
 * A compiled program (compile.ts) at work. A step is one upload, one submit (several where it takes long) and one
 * small readback. Steps must not overlap; asking for a second one while one runs is refused.
 */
import { LatheError } from '../../contract/errors.ts'
import type {
  Accumulator,
  Capacity,
  CompileOptions,
  KernelTiming,
  Program,
  StatefulExecutable,
  StepInput,
  StepOutput,
  Value,
} from '../program.ts'
import { type CompileContext, compileParts, type ExecutableParts } from './compile.ts'
import type { LogitAdjuster } from './adjuster.ts'
import type { ArenaLayout } from './arena.ts'
import type { AccumulatorShard, Accumulators } from './accumulators.ts'
import type { GpuDevice } from './device.ts'
import { RESULT_WORDS } from './kernels/logits.ts'
import type { WebGpuKvCache } from './kv-cache.ts'
import type { LedgerAccount } from './ledger.ts'
import { type Dispatch, extentOf, type LogitsBuffers, type StepShape, strideOf } from './plan.ts'
import { profileStep } from './profile.ts'
import { readBuffer, type StepReadback } from './readback.ts'
import { stepShape, type StepUpload } from './step-input.ts'
import { SubmitClock } from './submit-clock.ts'

/** What drift needs of an executable's last step. */
export interface LastLogits {
  readonly logits: GPUBuffer
  readonly rowFacts: GPUBuffer
  readonly stride: number
  readonly rows: number
}

interface RecordedStep {
  readonly shape: StepShape
  readonly commands: readonly GPUCommandBuffer[]
  /** Where the results go, and how many bytes of them. */
  readonly target: GPUBuffer
  readonly bytes: number
}

function sameShape(a: StepShape, b: StepShape): boolean {
  return (
    a.tokens === b.tokens &&
    a.rows === b.rows &&
    a.longestContext === b.longestContext &&
    a.topCount === b.topCount &&
    a.samples === b.samples &&
    a.adjusts === b.adjusts &&
    a.mostEdits === b.mostEdits
  )
}

export class WebGpuExecutable implements StatefulExecutable {
  readonly program: Program
  readonly capacity: Capacity
  readonly #gpu: GpuDevice
  readonly #account: LedgerAccount
  readonly #kv: WebGpuKvCache
  readonly #dispatches: readonly Dispatch[]
  readonly #arena: ArenaLayout
  readonly #slots: readonly GPUBuffer[]
  readonly #logits: LogitsBuffers
  readonly #stepBuffer: GPUBuffer
  readonly #accumulators: Accumulators
  readonly #upload: StepUpload
  readonly #adjuster: LogitAdjuster
  readonly #readback: StepReadback
  readonly #submits: SubmitClock
  readonly #grid = new Uint32Array(3)
  #busy = false
  #disposed = false
  #lastShape: StepShape | null = null
  #lastTokens = 0
  /** Recorded while the step before ran. */
  #ahead: RecordedStep | null = null

  private constructor(parts: ExecutableParts) {
    this.program = parts.program
    this.capacity = parts.capacity
    this.#gpu = parts.gpu
    this.#account = parts.account
    this.#kv = parts.kv
    this.#dispatches = parts.dispatches
    this.#arena = parts.arena
    this.#slots = parts.slots
    this.#logits = parts.logits
    this.#stepBuffer = parts.stepBuffer
    this.#accumulators = parts.accumulators
    this.#upload = parts.upload
    this.#adjuster = parts.adjuster
    this.#readback = parts.readback
    this.#submits = new SubmitClock(parts.submitMs, parts.dispatches.length)
  }

  static async compile(context: CompileContext, program: Program, options: CompileOptions): Promise<WebGpuExecutable> {
    const { account } = context
    try {
      return await compileParts(context, program, options).then((parts) => new WebGpuExecutable(parts))
    } catch (thrown) {
      account.release()
      throw thrown
    }
  }

  async step(input: StepInput): Promise<StepOutput> {
    const shape = this.#begin(input)
    try {
      const { device } = this.#gpu
      const adjusted = shape.adjusts ? await this.#adjuster.upload(input) : null
      const started = performance.now()
      device.queue.writeBuffer(this.#stepBuffer, 0, this.#upload.pack(input, adjusted))
      const submit = (commands: GPUCommandBuffer): void => device.queue.submit([commands])
      const ahead = this.#ahead !== null && sameShape(this.#ahead.shape, shape) ? this.#ahead : null
      this.#ahead = null
      for (const commands of ahead?.commands ?? []) submit(commands)
      const { target, bytes } = ahead ?? this.#record(shape, submit)
      // While the device works, what the next step would be if everyone took one more token.
      if (this.#lastTokens === shape.tokens && shape.tokens === shape.rows && !shape.adjusts) {
        const next = { ...shape, longestContext: shape.longestContext + 1 }
        const commands: GPUCommandBuffer[] = []
        this.#ahead = { shape: next, commands, ...this.#record(next, (part) => commands.push(part)) }
      }
      this.#lastTokens = shape.tokens
      const data = await this.#readback.finish(target, bytes, shape.tokens, started)
      this.#submits.observe(shape.tokens, performance.now() - started)
      this.#gpu.check()
      this.#lastShape = shape
      return unpack(data, shape)
    } finally {
      this.#busy = false
    }
  }

  async read(value: Value): Promise<Float32Array> {
    const shape = this.#lastShape
    const slot = this.#arena.slotOf.get(value.id)
    const buffer = slot === undefined ? undefined : this.#slots[slot]
    if (shape === null || buffer === undefined || slot === undefined) {
      throw new LatheError('gpu.invalid-operation', `${value.name} is not part of this program, or no step has run.`, 'Run a step first.')
    }
    if (this.#arena.lastValue[slot] !== value.id) {
      throw new LatheError(
        'gpu.invalid-operation',
        `${value.name} shared its memory with a later value and is gone.`,
        'Compile with keepValues to read every value.',
      )
    }
    const rows = extentOf(value, shape)
    const stride = strideOf(value.width)
    if (rows === 0) return new Float32Array(0)
    const padded = new Float32Array(await readBuffer(this.#gpu, this.#account, buffer, 0, rows * stride * 4))
    if (stride === value.width) return padded
    const out = new Float32Array(rows * value.width)
    for (let row = 0; row < rows; row++) out.set(padded.subarray(row * stride, row * stride + value.width), row * value.width)
    return out
  }

  write(value: Value, rows: Float32Array): void {
    this.#gpu.check()
    const slot = this.#arena.slotOf.get(value.id)
    const buffer = slot === undefined ? undefined : this.#slots[slot]
    const count = rows.length / value.width
    if (buffer === undefined || !Number.isInteger(count) || count > this.capacity.tokens) {
      throw new LatheError(
        'gpu.invalid-operation',
        `${rows.length} numbers do not fill rows of ${value.name}.`,
        'This is a defect in Lathe.',
      )
    }
    const stride = strideOf(value.width)
    const padded = stride === value.width ? rows : new Float32Array(count * stride)
    if (padded !== rows) {
      for (let row = 0; row < count; row++) padded.set(rows.subarray(row * value.width, (row + 1) * value.width), row * stride)
    }
    this.#gpu.device.queue.writeBuffer(buffer, 0, padded as Float32Array<ArrayBuffer>)
  }

  clear(): void {
    this.#accumulators.clear()
  }

  accumulated(accumulator: Accumulator): Promise<Float32Array> {
    return this.#accumulators.read(accumulator)
  }

  /** An accumulator where it lies, for work on the device. */
  accumulatorShards(accumulator: Accumulator): readonly AccumulatorShard[] {
    return this.#accumulators.shards(accumulator)
  }

  async profile(input: StepInput): Promise<readonly KernelTiming[]> {
    const shape = this.#begin(input)
    try {
      const adjusted = shape.adjusts ? await this.#adjuster.upload(input) : null
      this.#gpu.device.queue.writeBuffer(this.#stepBuffer, 0, this.#upload.pack(input, adjusted))
      const timings = await profileStep(this.#gpu, this.#account, this.#dispatches, shape)
      this.#gpu.check()
      this.#lastShape = shape
      return timings
    } finally {
      this.#busy = false
    }
  }

  lastLogits(): LastLogits | null {
    const slot = this.#arena.slotOf.get(this.program.logits.id)
    const logits = slot === undefined ? undefined : this.#slots[slot]
    if (this.#lastShape === null || logits === undefined || this.#disposed) return null
    return {
      logits,
      rowFacts: this.#logits.rowFacts,
      stride: strideOf(this.program.logits.width),
      rows: this.#lastShape.rows,
    }
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#ahead = null
    this.#account.release()
  }

  #begin(input: StepInput): StepShape {
    this.#gpu.check()
    if (this.#disposed) throw new LatheError('gpu.invalid-operation', 'This model has been unloaded.', 'Load it again.')
    if (this.#busy) throw new LatheError('gpu.invalid-operation', 'A step is already running.', 'This is a defect in Lathe; report it.')
    const shape = stepShape(input, this.program, this.capacity, this.#kv.layout)
    this.#busy = true
    this.#lastShape = null
    return shape
  }

  /**
   * Hands out the commands of a step of this shape, one buffer for each submit (submit-clock.ts), the last of which copies the results. They may
   * wait: what they read is uploaded right before they are submitted.
   */
  #record(shape: StepShape, emit: (commands: GPUCommandBuffer) => void): { readonly target: GPUBuffer; readonly bytes: number } {
    const parts = this.#submits.submits(shape.tokens)
    const edge = (after: number): number => Math.floor((after * this.#dispatches.length) / parts)
    const resultBytes = shape.rows * RESULT_WORDS * 4
    const topBytes = shape.rows * shape.topCount * 8
    const target = this.#readback.take()
    // A step without rows (a partial prefill chunk) still reads one word: that is how its end is seen.
    const bytes = Math.max(4, resultBytes + topBytes)
    for (let part = 0; part < parts; part++) {
      const encoder = this.#gpu.device.createCommandEncoder()
      const pass = encoder.beginComputePass()
      this.#encode(pass, shape, edge(part), edge(part + 1))
      pass.end()
      if (part === parts - 1) {
        encoder.copyBufferToBuffer(this.#logits.results, 0, target, 0, Math.max(4, resultBytes))
        if (topBytes > 0) encoder.copyBufferToBuffer(this.#logits.tops, 0, target, resultBytes, topBytes)
      }
      emit(encoder.finish())
    }
    return { target, bytes }
  }

  #encode(pass: GPUComputePassEncoder, shape: StepShape, from: number, to: number): void {
    const grid = this.#grid
    let current: GPUComputePipeline | null = null
    for (let index = from; index < to; index++) {
      const dispatch = this.#dispatches[index]
      if (dispatch === undefined) continue
      const variant = dispatch.variants[dispatch.prepare(shape, grid)]
      if (variant === undefined) continue
      if (variant.pipeline !== current) {
        current = variant.pipeline
        pass.setPipeline(current)
      }
      pass.setBindGroup(0, variant.bindGroup)
      if (dispatch.immediates.length > 0) pass.setImmediates(0, dispatch.immediates)
      pass.dispatchWorkgroups(grid[0] ?? 1, grid[1], grid[2])
    }
  }
}

function unpack(data: ArrayBuffer, { rows, topCount }: StepShape): StepOutput {
  const words = new Uint32Array(data)
  const floats = new Float32Array(data)
  const output = {
    sampled: new Uint32Array(rows),
    sampledLogprob: new Float32Array(rows),
    argmax: new Uint32Array(rows),
    targetLogprob: new Float32Array(rows),
    topIds: new Uint32Array(rows * topCount),
    topLogprobs: new Float32Array(rows * topCount),
    nonFinite: false,
  }
  for (let row = 0; row < rows; row++) {
    const at = row * RESULT_WORDS
    output.sampled[row] = words[at] ?? 0
    output.sampledLogprob[row] = floats[at + 1] ?? 0
    output.argmax[row] = words[at + 2] ?? 0
    output.targetLogprob[row] = floats[at + 3] ?? 0
    if (words[at + 4] !== 0) output.nonFinite = true
  }
  const top = rows * RESULT_WORDS
  for (let i = 0; i < rows * topCount; i++) {
    output.topIds[i] = words[top + 2 * i] ?? 0
    output.topLogprobs[i] = floats[top + 2 * i + 1] ?? 0
  }
  return output
}
