/**
 * A compiled program: weights on the device, the dispatch plan, and the step: one upload, one submit (several where it takes long), one
 * small readback. Steps must not overlap; asking for a second one while one runs is refused.
 */
import { LatheError } from '../../contract/errors.ts'
import { checkProgram } from '../check-program.ts'
import {
  type Accumulator,
  type Capacity,
  type CompileOptions,
  type InputQuantization,
  type KernelTiming,
  type Operation,
  type Program,
  type RopeTable,
  type StatefulExecutable,
  type StepInput,
  type StepOutput,
  type Value,
} from '../program.ts'
import { LogitAdjuster } from './adjuster.ts'
import { type ArenaLayout, layoutArena, outputOf, valueBytes } from './arena.ts'
import { type AccumulatorShard, Accumulators } from './accumulators.ts'
import type { GpuDevice } from './device.ts'
import type { KernelCache } from './kernel.ts'
import { attentionScratchBytes, planAttention, planRopeAppend } from './kernels/attention.ts'
import { planColumnSums, planGram } from './kernels/gram.ts'
import { joinGates } from './gated.ts'
import { type Linear, planLinear } from './kernels/linear.ts'
import { inputScratchBytes } from './kernels/prepare-input.ts'
import { logitsBufferBytes, MAX_VOCABULARY, planLogits, readbackBytes, RESULT_WORDS } from './kernels/logits.ts'
import { planEmbed, planGatherRows, planRmsNorm, planSwiglu } from './kernels/rowwise.ts'
import { WebGpuKvCache } from './kv-cache.ts'
import type { LedgerAccount } from './ledger.ts'
import { planMatrixUnits } from './matrix-plan.ts'
import type { MatrixMode } from './matrix-units.ts'
import { type Dispatch, type LogitsBuffers, type PlanContext, type StepShape, strideOf } from './plan.ts'
import { profileStep } from './profile.ts'
import { readBuffer, StepReadback } from './readback.ts'
import { stepLayout, stepShape, stepSlices, StepUpload } from './step-input.ts'
import { SubmitClock } from './submit-clock.ts'
import type { Tuning } from './tuning.ts'
import { bitsOf, uploadWeights, valueBytesOf, widen } from './weights.ts'

/** WebGPU's limit on workgroups in one dimension; tokens and rows are grid dimensions. */
const MAX_GRID = 65535

export interface CompileContext {
  readonly gpu: GpuDevice
  readonly kernels: KernelCache
  readonly tuning: Tuning
  readonly account: LedgerAccount
  /** Null unless the caller asked for matrix units. */
  readonly matrixUnits: MatrixMode | null
}

/** What drift needs of an executable's last step. */
export interface LastLogits {
  readonly logits: GPUBuffer
  readonly rowFacts: GPUBuffer
  readonly stride: number
  readonly rows: number
}

function unsupported(message: string, hint: string): LatheError {
  return new LatheError('gpu.unsupported', message, hint)
}

/** Weights that operations read as f32 vectors. */
function vectorIds(operations: readonly Operation[]): ReadonlySet<number> {
  const ids = new Set<number>()
  for (const operation of operations) {
    if (operation.op === 'rmsNorm') ids.add(operation.weight.id)
    if (operation.op === 'linear' && operation.bias !== null) ids.add(operation.bias.id)
    if (operation.op === 'ropeAppend') for (const norm of [operation.qNorm, operation.kNorm]) if (norm !== null) ids.add(norm.id)
  }
  return ids
}

/** Weights of one of these widths that linears multiply and no operation looks up by row. */
function packableIds(operations: readonly Operation[], bits: readonly number[]): ReadonlySet<number> {
  const weights = operations.flatMap((operation) => (operation.op === 'linear' ? [operation.weight] : []))
  const ids = new Set(weights.filter(({ format }) => bits.includes(bitsOf(format))).map(({ id }) => id))
  for (const operation of operations) if (operation.op === 'embed') ids.delete(operation.weight.id)
  return ids
}

function checkLimits(gpu: GpuDevice, program: Program, capacity: Capacity): void {
  if (capacity.tokens > MAX_GRID || capacity.rows > MAX_GRID) {
    throw unsupported(`A step of ${capacity.tokens} tokens exceeds the GPU's grid of ${MAX_GRID}.`, 'Lower the token budget.')
  }
  if (program.vocabulary > MAX_VOCABULARY) {
    throw unsupported(`A vocabulary of ${program.vocabulary} tokens exceeds ${MAX_VOCABULARY}.`, 'This model cannot be run.')
  }
  const limit = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
  for (const operation of program.operations) {
    const out = outputOf(operation)
    if (out === null) continue
    const bytes = valueBytes(out, capacity)
    if (bytes > limit) {
      const perRow = strideOf(out.width) * 4
      throw unsupported(
        `${out.name} needs ${bytes} bytes for one step; this adapter binds at most ${limit}.`,
        `Lower the ${out.extent === 'rows' ? 'logit rows' : 'token budget'} to ${Math.floor(limit / perRow)}.`,
      )
    }
  }
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

interface ExecutableParts {
  readonly program: Program
  readonly capacity: Capacity
  readonly gpu: GpuDevice
  readonly account: LedgerAccount
  readonly kv: WebGpuKvCache
  readonly dispatches: readonly Dispatch[]
  readonly arena: ArenaLayout
  readonly slots: readonly GPUBuffer[]
  readonly logits: LogitsBuffers
  readonly stepBuffer: GPUBuffer
  readonly accumulators: Accumulators
  readonly upload: StepUpload
  readonly adjuster: LogitAdjuster
  readonly readback: StepReadback
  readonly submitMs: number
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
    const rows = value.extent === 'tokens' ? shape.tokens : value.extent === 'rows' ? shape.rows : value.extent
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

async function compileParts(
  { gpu, kernels, tuning, account, matrixUnits }: CompileContext,
  program: Program,
  options: CompileOptions,
): Promise<ExecutableParts> {
  const { capacity, kv } = options
  if (!(kv instanceof WebGpuKvCache)) throw new Error('the key-value cache belongs to another backend')
  checkProgram(program, capacity, kv.layout)
  checkLimits(gpu, program, capacity)
  const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC

  const shardLimit = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize, tuning.weightShardBytes ?? Infinity)
  const operations =
    options.keepValues === true ? program.operations : joinGates(program.operations, (weight) => valueBytesOf(weight) <= shardLimit)
  const arena = layoutArena({ ...program, operations }, capacity, options.keepValues === true)
  const slots = await account.allocate(arena.slotBytes.map((bytes, index) => ({ name: `activations ${index}`, bytes, usage: storage })))
  const layout = stepLayout(capacity, gpu.limits.minStorageBufferOffsetAlignment)
  const heads = Math.max(0, ...program.operations.map((operation) => (operation.op === 'attention' ? operation.heads : 0)))
  const scratchBytes = attentionScratchBytes({ tuning, kvLayout: kv.layout }, heads)
  const sizes = logitsBufferBytes({ tuning }, program.vocabulary, capacity.rows)
  const inputBytes = inputScratchBytes(program.operations, capacity)
  const [stepBuffer, nothing, attentionScratch, inputValues, inputScales, chunks, rowFacts, results, topPairs, tops] =
    await account.allocate([
      { name: 'step input', bytes: layout.words * 4, usage: storage },
      { name: 'nothing', bytes: 4, usage: storage },
      { name: 'attention scratch', bytes: scratchBytes, usage: storage },
      { name: 'prepared inputs', bytes: inputBytes.values, usage: storage },
      { name: 'input scales', bytes: inputBytes.scales, usage: storage },
      { name: 'logit chunks', bytes: sizes.chunks, usage: storage },
      { name: 'row facts', bytes: sizes.rowFacts, usage: storage },
      { name: 'results', bytes: sizes.results, usage: storage },
      { name: 'top pairs', bytes: sizes.topPairs, usage: storage },
      { name: 'tops', bytes: sizes.tops, usage: storage },
    ])
  if (!inputValues || !inputScales) throw new Error('no buffers')
  if (!stepBuffer || !nothing || !attentionScratch || !chunks || !rowFacts || !results || !topPairs || !tops) throw new Error('no buffers')
  const readback = await StepReadback.create(gpu, account, readbackBytes(capacity.rows))

  const weights = await uploadWeights(gpu, account, program.weights, {
    vectors: vectorIds(program.operations),
    packable: packableIds(program.operations, tuning.packsSparse),
    shardBytes: tuning.weightShardBytes,
    signal: options.signal,
    onProgress: options.onProgress,
  })
  const staticScales = await readStaticScales(program.operations)
  const ropes = new Map<number, GPUBuffer>()
  for (const table of program.ropes) ropes.set(table.id, await uploadRope(gpu, account, table))

  const accumulators = await Accumulators.create(gpu, account, program.operations, tuning.weightShardBytes)
  const adjuster = new LogitAdjuster(gpu, account)
  const base: Omit<PlanContext, 'matrixUnits'> = {
    gpu,
    tuning,
    capacity,
    kvLayout: kv.layout,
    kv,
    step: stepSlices(layout, stepBuffer),
    nothing: { buffer: nothing },
    attentionScratch,
    inputScratch: { values: { buffer: inputValues }, scales: { buffer: inputScales } },
    adjuster,
    kernel: (spec) => kernels.get(spec),
    variant: (kernel, buffers) => ({ pipeline: kernel.pipeline, bindGroup: kernels.bind(kernel, buffers) }),
    value(value) {
      const slot = arena.slotOf.get(value.id)
      const buffer = slot === undefined ? undefined : slots[slot]
      if (buffer === undefined) throw new Error(`${value.name} is read before it is written`)
      return { buffer, size: valueBytes(value, capacity) }
    },
    matrix(spec) {
      const weight = weights.get(spec.id)
      if (weight?.kind !== 'matrix') throw new Error(`${spec.name} is not an uploaded matrix`)
      return weight
    },
    vector(spec) {
      const weight = weights.get(spec.id)
      if (weight?.kind !== 'vector') throw new Error(`${spec.name} is not an uploaded vector`)
      return weight
    },
    accumulator: (accumulator) => accumulators.shards(accumulator),
    staticScale: (quantization) => staticScales.get(quantization) ?? 0,
    rope(table) {
      const buffer = ropes.get(table.id)
      if (buffer === undefined) throw new Error(`rotation table ${table.id} is not uploaded`)
      return { buffer }
    },
  }
  const linears = operations.filter((operation) => operation.op === 'linear')
  const context: PlanContext = {
    ...base,
    matrixUnits: matrixUnits === null ? null : await planMatrixUnits(gpu, account, matrixUnits, linears, capacity, base),
  }
  const logits: LogitsBuffers = { chunks, rowFacts, results, topPairs, tops }
  // Planned concurrently, so that the driver compiles kernels in parallel; the order of the program is kept.
  const planned = await Promise.all([
    ...operations.map((operation) => planOperation(context, operation)),
    planLogits(context, program, logits),
  ])
  gpu.check()
  const dispatches = planned.flat()
  return {
    program,
    capacity,
    gpu,
    account,
    kv,
    dispatches,
    arena,
    slots,
    logits,
    stepBuffer,
    accumulators,
    upload: new StepUpload(layout),
    adjuster,
    readback,
    submitMs: tuning.submitMs,
  }
}

async function readStaticScales(operations: readonly Operation[]): Promise<ReadonlyMap<InputQuantization, number>> {
  const scales = new Map<InputQuantization, number>()
  for (const operation of operations) {
    const quantization = operation.op === 'linear' ? (operation.inputQuantization ?? null) : null
    if (quantization === null || quantization.staticScale === null) continue
    const value = new Float32Array(1)
    widen(await quantization.staticScale.read(0, quantization.staticScale.byteLength), quantization.staticDtype, value)
    scales.set(quantization, value[0] ?? NaN)
  }
  return scales
}

function planOperation(context: PlanContext, operation: Operation | Linear): Promise<readonly Dispatch[]> {
  switch (operation.op) {
    case 'embed':
      return planEmbed(context, operation)
    case 'rmsNorm':
      return planRmsNorm(context, operation)
    case 'linear':
      return planLinear(context, operation)
    case 'swiglu':
      return planSwiglu(context, operation)
    case 'ropeAppend':
      return planRopeAppend(context, operation)
    case 'attention':
      return planAttention(context, operation)
    case 'gatherRows':
      return planGatherRows(context, operation)
    case 'input':
      return Promise.resolve([])
    case 'gram':
      return planGram(context, operation)
    case 'columnSums':
      return planColumnSums(context, operation)
  }
}

/** [position][pair] of (cos, sin), rounded once from f64. */
async function uploadRope(gpu: GpuDevice, account: LedgerAccount, table: RopeTable): Promise<GPUBuffer> {
  const pairs = new Float32Array(table.cos.length * 2)
  for (let i = 0; i < table.cos.length; i++) {
    pairs[2 * i] = table.cos[i] ?? 0
    pairs[2 * i + 1] = table.sin[i] ?? 0
  }
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST
  const buffer = await account.allocateOne(`rotation table ${table.id}`, pairs.byteLength, usage)
  gpu.device.queue.writeBuffer(buffer, 0, pairs)
  return buffer
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
