/**
 * From a program to what an executable runs: limits checked, weights, tables and scratch memory on the device, one plan of dispatches. Runs nothing.
 */
import { LatheError } from '../../contract/errors.ts'
import { checkProgram } from '../check-program.ts'
import type { Capacity, CompileOptions, InputQuantization, Operation, Program, RopeTable } from '../program.ts'
import { LogitAdjuster } from './adjuster.ts'
import { type ArenaLayout, layoutArena, outputOf, valueBytes } from './arena.ts'
import { Accumulators } from './accumulators.ts'
import type { GpuDevice } from './device.ts'
import type { KernelCache } from './kernel.ts'
import { attentionScratchBytes, planAttention, planRopeAppend } from './kernels/attention.ts'
import { planColumnSums, planGram } from './kernels/gram.ts'
import { joinGates } from './gated.ts'
import { type Linear, planLinear } from './kernels/linear.ts'
import { inputScratchBytes } from './kernels/prepare-input.ts'
import { logitsBufferBytes, MAX_VOCABULARY, planLogits, readbackBytes } from './kernels/logits.ts'
import { planEmbed, planGatherRows, planRmsNorm, planSwiglu } from './kernels/rowwise.ts'
import { WebGpuKvCache } from './kv-cache.ts'
import type { LedgerAccount } from './ledger.ts'
import { planMatrixUnits } from './matrix-plan.ts'
import type { MatrixMode } from './matrix-units.ts'
import { type Dispatch, type LogitsBuffers, MAX_GRID, type PlanContext, strideOf } from './plan.ts'
import { StepReadback } from './readback.ts'
import { stepLayout, stepSlices, StepUpload } from './step-input.ts'
import type { Tuning } from './tuning.ts'
import { bitsOf, uploadWeights, valueBytesOf, widen } from './weights.ts'

export interface CompileContext {
  readonly gpu: GpuDevice
  readonly kernels: KernelCache
  readonly tuning: Tuning
  readonly account: LedgerAccount
  /** Null unless the caller asked for matrix units. */
  readonly matrixUnits: MatrixMode | null
}

/** What belongs to one executable; all of its memory is the account's. */
export interface ExecutableParts {
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

/** Throws `gpu.unsupported` where the adapter is too small, what uploads and kernels throw, and the signal's reason. What was allocated stays the account's. */
export async function compileParts(
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
